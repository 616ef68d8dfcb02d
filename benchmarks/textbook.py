"""The textbook loop: what most MNIST scripts do, to compare with.

torchvision's MNIST with ToTensor and Normalize on each image, a DataLoader, the same network written plainly,
plain Adam. With --on-device, the images are normalised once and stay on the device.

python -m benchmarks.textbook [--affine] [--until 0.99] [--device cuda] [--on-device]
"""

import argparse
import copy
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5, padding=1)
        self.conv2 = nn.Conv2d(10, 20, 5, padding=1)
        self.fc1 = nn.Linear(500, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


class OnDevice:
    """Batches of normalised images that lie on the device."""

    def __init__(self, dataset, indices, device, batch_size, shuffle=False):
        images, labels = dataset.data[indices], dataset.targets[indices]
        self.images = ((images / 255 - 0.1307) / 0.3081).unsqueeze(1).to(device)
        self.labels = labels.to(device)
        self.batch_size, self.shuffle = batch_size, shuffle

    def __iter__(self):
        count, device = len(self.labels), self.labels.device
        order = torch.randperm(count, device=device) if self.shuffle else torch.arange(count, device=device)
        for indices in order.split(self.batch_size):
            yield self.images[indices], self.labels[indices]


def train(model, loader, optimizer, device):
    model.train()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()


def test(model, loader, device):
    model.eval()
    correct = count = 0
    with torch.no_grad():
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            correct += (model(images).argmax(dim=1) == labels).sum().item()
            count += len(labels)
    return correct / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--affine", action="store_true", help="augment with torchvision's RandomAffine")
    parser.add_argument("--workers", type=int, default=0, help="processes that load data")
    parser.add_argument("--until", type=float, default=1.0, help="stop after the epoch with this test accuracy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--on-device", action="store_true", help="keep the images on the device")
    args = parser.parse_args()
    if args.on_device and (args.affine or args.workers):
        parser.error("--on-device goes with neither --affine nor --workers")

    torch.manual_seed(args.seed)
    normalize = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    affine = [transforms.RandomAffine(10, translate=(2 / 28, 2 / 28), scale=(0.9, 1.1), shear=10)]
    training_transform = transforms.Compose((affine if args.affine else []) + normalize)
    training = datasets.MNIST(args.data_dir, train=True, download=True, transform=training_transform)
    # The same work as train.py's: 55,000 images to train on, and two evaluations after each epoch.
    held_out = copy.copy(training)  # shares the images
    held_out.transform = transforms.Compose(normalize)
    validation = Subset(held_out, range(55_000, 60_000))
    training = Subset(training, range(55_000))
    testing = datasets.MNIST(args.data_dir, train=False, transform=transforms.Compose(normalize))
    loading = {"num_workers": args.workers, "persistent_workers": args.workers > 0}
    if args.on_device:
        training_loader = OnDevice(training.dataset, training.indices, args.device, args.batch_size, shuffle=True)
        validation_loader = OnDevice(held_out, validation.indices, args.device, 1000)
        test_loader = OnDevice(testing, slice(None), args.device, 1000)
    else:
        training_loader = DataLoader(training, batch_size=args.batch_size, shuffle=True, **loading)
        validation_loader = DataLoader(validation, batch_size=1000)
        test_loader = DataLoader(testing, batch_size=1000)

    model = Net().to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, args.epochs + 1):
        started = time.perf_counter()
        train(model, training_loader, optimizer, args.device)
        train_seconds = time.perf_counter() - started
        validation_accuracy = test(model, validation_loader, args.device)
        accuracy = test(model, test_loader, args.device)
        seconds = time.perf_counter() - started
        print(
            f"epoch {epoch}: validation accuracy {validation_accuracy:.4f}, test accuracy {accuracy:.4f}, "
            f"{train_seconds:.2f} s training, {seconds:.2f} s with evaluations",
            flush=True,
        )
        if accuracy >= args.until:
            break


if __name__ == "__main__":
    main()
