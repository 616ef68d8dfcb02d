"""All charts: curves of runs, confusion matrix, misread images, and what the convolutions look for.

They are drawn in Matplotlib's default style, whatever the user's own settings say.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.files import write_atomically
from training.metrics import EpochMetrics

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import TensorDataset

in_default_style = matplotlib.style.context("default")  # decorates what draws and saves

# (prefix of the columns, label, colour of the Okabe-Ito palette, line, marker): told apart in greyscale too
CURVES = [
    ("train", "training", "#E69F00", ":", "s"),
    ("validation", "validation", "#56B4E9", "--", "o"),
    ("test", "test", "#000000", "-", "^"),
]


@in_default_style
def save_figure(figure: Figure, path: Path, metadata: dict | None = None) -> None:
    """Write a figure as a PNG file. Raises UserError when that fails."""
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata=metadata)
    write_atomically(path, png.getvalue())


@in_default_style
def draw_curves(path: Path, histories: list[list[EpochMetrics]], title: str, description: str) -> Figure:
    """Draw loss and error of all splits over the epochs, with bands of one standard deviation; return the figure.

    The description, the results table, stands in the picture's metadata, so that the two can be compared.
    """
    figure = Figure(figsize=(6, 8), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=11, wrap=True)
    epochs = [epoch.epoch for epoch in histories[0]]
    labels = {"loss": "loss (nats per image)", "accuracy": "error rate (%)"}
    for axes, quantity in zip(figure.subplots(2, sharex=True), labels, strict=True):
        for prefix, split, color, line, marker in CURVES:
            field = f"{prefix}_{quantity}"
            if getattr(histories[0][0], field) is None:  # without validation images
                continue
            values = np.array([[getattr(epoch, field) for epoch in history] for history in histories])
            if quantity == "accuracy":
                values = 100 * np.maximum(1 - values, 1e-4)  # a logarithmic axis has no 0: no error is 0.01%
            mean = values.mean(axis=0)  # (runs, epochs) -> (epochs,)
            axes.plot(epochs, mean, line, marker=marker, markersize=5, color=color, label=split)
            if len(histories) > 1:
                deviation = values.std(axis=0, ddof=1)
                axes.fill_between(epochs, mean - deviation, mean + deviation, color=color, alpha=0.25, linewidth=0)
        axes.set_yscale("log", subs=[2, 5])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_ylabel(labels[quantity])
        axes.grid(which="both", alpha=0.3)
    figure.axes[1].set_xlabel("epoch")
    figure.axes[1].xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    figure.axes[0].legend(fontsize=11)
    save_figure(figure, path, {"Software": None, "Description": description})
    return figure


def draw_charts(
    folder: Path, model: nn.Module, dataset: TensorDataset, confusion: Tensor, logits: Tensor, title: str
) -> None:
    """Draw confusion_matrix.png, mistakes.png and filters.png of a model's evaluation on a data set into a folder.

    confusion is (10, 10), logits (N, 10). Raises UserError when they can't be written.
    """
    images, labels = (tensor.cpu() for tensor in dataset.tensors)
    probabilities = logits.softmax(dim=1).numpy()
    draw_confusion_matrix(folder / "confusion_matrix.png", confusion.numpy(), title)
    draw_mistakes(folder / "mistakes.png", images.numpy(), labels.numpy(), probabilities, title)
    first_of_each_digit = np.unique(labels, return_index=True)[1]
    draw_filters(folder / "filters.png", model, images[first_of_each_digit], title)


@in_default_style
def draw_confusion_matrix(path: Path, confusion: np.ndarray, title: str) -> None:
    """Draw how often each digit was read as each: right answers in blue, mistakes in red, darker for more.

    confusion is (10, 10): confusion[i, j] images of digit i were answered j.
    """
    right = np.eye(10, dtype=bool)
    most = max(confusion[~right].max(), 1)  # of the mistakes of one kind
    figure = Figure(figsize=(7, 7.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.where(right, -most / 3, confusion), cmap="RdBu_r", vmin=-1.6 * most, vmax=1.6 * most)
    for digit, answer in np.argwhere(confusion):
        weight, count = "bold" if digit == answer else "normal", confusion[digit, answer]
        axes.text(answer, digit, f"{count:,}", ha="center", va="center", weight=weight, fontsize=12)
    axes.set(xticks=range(10), yticks=range(10), xlabel="answer", ylabel="true digit")
    axes.set_title(f"{title}\n{confusion.trace():,} of {confusion.sum():,} right", fontsize=12)
    save_figure(figure, path)


@in_default_style
def draw_mistakes(path: Path, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, title: str) -> None:
    """Draw up to 60 misread images, the surest first: true digit, answer, and the answer's probability.

    images are (N, 28, 28) uint8, labels (N,), probabilities (N, 10).
    """
    answers, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)  # (N,), (N,)
    wrong = np.flatnonzero(answers != labels)
    shown = wrong[np.argsort(-confidences[wrong], kind="stable")][:60]
    rows = max(1, math.ceil(len(shown) / 10))
    figure = Figure(figsize=(10, 1.25 * rows + 0.7), dpi=150, layout="constrained")
    which = "" if len(wrong) == len(shown) else f", the {len(shown)} surest"
    legend = "true digit → answer, and the probability that it was given"
    figure.suptitle(f"{title}: {len(wrong)} misread{which}\n{legend}", fontsize=12)
    for place, index in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, 10, place)
        axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(f"{labels[index]} → {answers[index]}   {confidences[index]:.0%}", fontsize=9, pad=2)
        axes.axis("off")
    save_figure(figure, path)


@in_default_style
def draw_filters(path: Path, model: nn.Module, images: Tensor, title: str) -> None:
    """Draw the kernels of both convolutions of a model, and what the first one makes of images, (N, 28, 28) uint8.

    Kernels are scaled to the largest weight of the map that they make, maps to the brightest one of each image. The
    model is moved to the CPU and into evaluation mode.
    """
    import torch  # here, as plot_results.py needs no PyTorch

    from mnist.augmentation import to_float

    inputs = []
    hook = model.get_submodule("conv2").register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    with torch.inference_mode():
        model.cpu().eval()(to_float(images))
    hook.remove()
    maps = inputs[0].numpy()  # (N, 10, 13, 13): what the second convolution gets
    kernels = [model.get_parameter(f"{layer}.weight").detach().numpy() for layer in ("conv1", "conv2")]
    figure = Figure(figsize=(11.5, 7.6), dpi=120, layout="constrained")
    figure.suptitle(f"{title}: what the convolutions look for", fontsize=12)
    sizes = {"width_ratios": [1, 10, 5.3], "height_ratios": [1, len(images)]}
    panels = figure.subplot_mosaic([[".", "first", "second"], ["images", "maps", "second"]], gridspec_kw=sizes)
    weights: dict[str, Any] = {"cmap": "PuOr_r", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    panels["first"].imshow(tiles(kernels[0].swapaxes(0, 1), (0, 2, 3)), **weights)
    panels["second"].imshow(tiles(kernels[1], (1, 2, 3)), **weights)
    panels["images"].imshow(tiles(images[:, None].numpy(), (1, 2, 3)), cmap="gray", vmin=0, vmax=1)
    panels["maps"].imshow(tiles(maps, (1, 2, 3)), cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
    first, second = map(len, kernels)
    titles = {
        "first": f"first convolution: its {first} kernels (orange wants ink, purple wants none)",
        "maps": f"its {first} maps of an image of each digit, after pooling and ReLU",
        "second": f"second convolution: a row of kernels for each of\nits {second} maps, one for each map of the first",
    }
    for name, axes in panels.items():
        axes.axis("off")
        axes.set_title(titles.get(name, ""), fontsize=10)
    save_figure(figure, path)


def tiles(images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Put images, (rows, columns, H, W), side by side with gaps, divided by their largest absolute value along axes."""
    images = images / np.maximum(np.abs(images).max(axes, keepdims=True), 1e-9)
    scale = 65 // images.shape[-1]  # kernels of 5x5 and maps of 13x13 get the same size
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    padded = np.pad(images, [(0, 0), (0, 0), (0, 10), (0, 10)], constant_values=np.nan)
    rows, columns, height, width = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width)
