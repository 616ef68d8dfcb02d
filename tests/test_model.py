import pytest
import torch
import torch.nn.functional as F

from mnist.augmentation import to_float
from model import DigitCNN


def test_network_has_30840_parameters_layer_by_layer():
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in DigitCNN().named_children()}
    assert counts == {"conv1": 260, "conv2": 5020, "fc1": 25050, "fc2": 510}
    assert sum(counts.values()) == 30_840


def test_layer_shapes_are_those_of_the_design():
    model, shapes = DigitCNN(), {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, inputs, output, name=name: shapes.update({name: tuple(output.shape)}))
    logits = model(torch.rand(3, 1, 28, 28))
    assert shapes == {"conv1": (3, 10, 26, 26), "conv2": (3, 20, 11, 11), "fc1": (3, 50), "fc2": (3, 10)}
    assert logits.shape == (3, 10)


def test_forward_is_the_textbook_network_on_normalised_images():
    model, images = DigitCNN(), torch.rand(5, 1, 28, 28)
    x = (images - 0.1307) / 0.3081
    x = F.max_pool2d(F.relu(F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1)), 2)
    x = F.max_pool2d(F.relu(F.conv2d(x, model.conv2.weight, model.conv2.bias, padding=1)), 2)
    x = F.relu(x.reshape(5, 500) @ model.fc1.weight.T + model.fc1.bias)
    torch.testing.assert_close(model(images), x @ model.fc2.weight.T + model.fc2.bias)


def test_probabilities_are_positive_and_sum_to_one():
    probabilities = DigitCNN().probabilities(torch.rand(4, 1, 28, 28))
    assert probabilities.shape == (4, 10)
    assert (probabilities > 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(4))


def test_single_image_as_to_tensor_gives_it_is_answered_as_in_a_batch(reference):
    image = torch.rand(1, 28, 28)
    torch.testing.assert_close(reference(image), reference(image[None])[0])
    assert reference.probabilities(image).sum().item() == pytest.approx(1)


def test_integers_are_refused_with_what_is_wanted(reference):
    with pytest.raises(AssertionError, match="must be floats in .0, 1.: divide bytes by 255"):
        reference(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))


def test_network_is_traced_by_fx_and_exported_for_batches_of_any_size(reference):
    images = torch.rand(7, 1, 28, 28)
    expected = reference(images)
    # The same operations, maybe in another order: kernels differ by 6e-6 in a logit.
    torch.testing.assert_close(torch.fx.symbolic_trace(reference)(images), expected, rtol=0, atol=6e-5)
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(reference, (torch.zeros(2, 1, 28, 28),), dynamic_shapes=sizes)
    torch.testing.assert_close(program.module()(images), expected, rtol=0, atol=6e-5)


def test_network_overfits_one_batch_to_zero_loss(data):
    torch.manual_seed(0)
    images, labels = data.train[:64]
    model, images = DigitCNN(), to_float(images)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3  # 10 seeds, kernels of AVX2 and SSE4.1, one thread and two: at most 6e-6


def test_normalisation_constants_are_those_of_the_training_images(mnist_dir):
    from torchvision.datasets import MNIST

    import model

    pixels = MNIST(mnist_dir).data.double() / 255
    assert round(pixels.mean().item(), 4) == model.MNIST_MEAN
    assert round(pixels.std().item(), 4) == model.MNIST_STD
