"""All charts: curves of runs, confusion matrix, misclassified images, and what the convolutions respond to.

They are drawn in Matplotlib's default style, whatever the user's own settings say.
"""

from __future__ import annotations

import io
import math
import sys
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

    from evaluate import Evaluation

STYLE = {"text.parse_math": False, "svg.hashsalt": "the same file every time"}
in_default_style = matplotlib.style.context(["default", STYLE])  # a decorator for functions that draw or save

# The Okabe-Ito palette for the colour-blind, with grey for its yellow; in greyscale the markers tell the lines apart.
COLORS = ["#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#7F7F7F"]
MARKERS = "osD^vPX*"

LOWEST_ERROR = 0.01  # percent: one of MNIST's 10,000 test images


@in_default_style
def save_figure(figure: Figure, path: Path, metadata: dict | None = None) -> None:
    """Write a figure as PNG or SVG, depending on the file's extension. Raises UserError when that fails."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], metadata=metadata)
    write_atomically(path, content.getvalue())


@in_default_style
def draw_curves(path: Path, settings: dict[str, list[list[EpochMetrics]]], title: str, description: str) -> Figure:
    """Draw loss and error over the epochs to path, a PNG file, and to an SVG file beside it; return the figure.

    settings maps each setting's name to the histories of its runs. One setting gets a line each for training,
    validation and test; several (at most eight) get only validation and test. Bands show one standard deviation over
    the runs. The description, the results table, is kept in the picture's metadata, so that both can be compared.
    """
    lines = []  # histories, prefix of the columns, label, colour, line, marker
    for (name, histories), color, marker in zip(settings.items(), COLORS, MARKERS, strict=False):
        in_legend = "" if histories[0][0].validation_loss is None else "_"  # Matplotlib leaves out names with _
        lines.append((histories, "validation", name, color, "-", marker))
        lines.append((histories, "test", in_legend + name, color, ":", marker))
    if len(settings) == 1:
        (histories,) = settings.values()
        splits = {"train": "training", "validation": "validation", "test": "test"}
        styles = zip(splits.items(), ["#E69F00", "#56B4E9", "#000000"], [":", "--", "-"], "so^", strict=True)
        lines = [(histories, *split, color, line, marker) for split, color, line, marker in styles]
    figure = Figure(figsize=(12, 5.5), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=12, wrap=True)
    labels = {"loss": "loss (nats per image)", "accuracy": "error rate (%)"}
    for axes, quantity in zip(figure.subplots(1, 2), labels, strict=True):
        for histories, prefix, label, color, line, marker in lines:
            field = f"{prefix}_{quantity}"
            if getattr(histories[0][0], field) is None:  # without validation images
                continue
            epochs = [epoch.epoch for epoch in histories[0]]
            values = np.array([[getattr(epoch, field) for epoch in history] for history in histories])
            if quantity == "accuracy":
                values = (100 * (1 - values)).round(9)  # as 1 - 0.9999 is not quite 0.0001
                if values.min() < LOWEST_ERROR:  # a logarithmic axis has no 0
                    values = values.clip(LOWEST_ERROR)
                    labels["accuracy"] = f"error rate (%), values below {LOWEST_ERROR} drawn as {LOWEST_ERROR}"
            mean = values.mean(axis=0)  # (runs, epochs) -> (epochs,)
            inside = "white" if line == ":" and len(settings) > 1 else color  # for runs of one epoch
            axes.plot(epochs, mean, line, marker=marker, ms=5, mfc=inside, color=color, label=label)
            if len(histories) > 1:
                deviation = values.std(axis=0, ddof=1)
                axes.fill_between(epochs, mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
        axes.set_yscale("log", subs=[2, 5])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set(xlabel="epoch", ylabel=labels[quantity])
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.grid(which="both", alpha=0.3)
    handles, names = figure.axes[0].get_legend_handles_labels()
    columns = max(1, min(4, 140 // (max(map(len, names)) + 8)))  # as many as fit
    legend = figure.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=10)
    legend.set_title("solid: validation images; dotted, hollow: test images" if len(settings) > 1 else "")
    save_figure(figure, path, {"Software": None, "Description": description})
    save_figure(figure, path.with_suffix(".svg"), {"Date": None, "Description": description})
    return figure


def draw_charts(
    folder: Path, model: nn.Module, dataset: TensorDataset, evaluation: Evaluation, classes: list[str], title: str
) -> list[Path]:
    """Draw confusion_matrix.png, mistakes.png and filters.png of a model's evaluation on a data set into a folder.

    Returns the files. The last one is left out, with a warning, for a network with fewer than two convolutions.
    Raises UserError when they can't be written.
    """
    images, labels = (tensor.cpu() for tensor in dataset.tensors)
    probabilities = evaluation.logits.softmax(dim=1).numpy()
    files = [folder / f"{name}.png" for name in ("confusion_matrix", "mistakes", "filters")]
    draw_confusion_matrix(files[0], evaluation.confusion.numpy(), classes, title)
    draw_mistakes(files[1], images.numpy(), labels.numpy(), probabilities, classes, title)
    first_of_each_class = np.unique(labels, return_index=True)[1]
    if draw_filters(files[2], model, images[first_of_each_class], title):
        return files
    print("warning: filters.png is left out, because the network has fewer than two convolutions", file=sys.stderr)
    return files[:2]


@in_default_style
def draw_confusion_matrix(path: Path, confusion: np.ndarray, classes: list[str], title: str) -> None:
    """Draw how often images of each class were given each answer: right in blue, wrong in red, darker for more.

    confusion is (C, C): confusion[i, j] images of class i were classified as j; classes are the names of the C classes.
    """
    places = range(len(classes))
    right = np.eye(len(classes), dtype=bool)
    most = max(confusion[~right].max(initial=0), 1)  # the most frequent mistake's count
    side = max(7, 0.55 * len(classes))  # inches
    figure = Figure(figsize=(side, side + 0.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.where(right, -most / 3, confusion), cmap="RdBu_r", vmin=-1.6 * most, vmax=1.6 * most)
    for label, answer in np.argwhere(confusion):
        weight, count = "bold" if label == answer else "normal", confusion[label, answer]
        axes.text(answer, label, f"{count:,}", ha="center", va="center", weight=weight, fontsize=12)
    axes.set_xticks(places, classes, rotation=90 if max(map(len, classes)) > 3 else 0)
    axes.set_yticks(places, classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{title}\n{confusion.trace():,} of {confusion.sum():,} right", fontsize=12)
    save_figure(figure, path)


@in_default_style
def draw_mistakes(
    path: Path, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: list[str], title: str
) -> None:
    """Draw up to 60 misclassified images, the most confident first: true class, predicted class, and its probability.

    images are (N, 28, 28) uint8, labels (N,), probabilities (N, C); classes are the names of the C classes.
    """
    answers, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)  # (N,), (N,)
    wrong = np.flatnonzero(answers != labels)
    shown = wrong[np.argsort(-confidences[wrong], kind="stable")][:60]
    rows = max(1, math.ceil(len(shown) / 10))
    long = max(map(len, classes)) > 2  # names that need lines of their own
    figure = Figure(figsize=(10, (1.5 if long else 1.25) * rows + 0.7), dpi=150, layout="constrained")
    which = "" if len(wrong) == len(shown) else f", the {len(shown)} most confident shown"
    legend = "true class → predicted class, and its probability"
    figure.suptitle(f"{title}: {len(wrong)} misclassified{which}\n{legend}", fontsize=12)
    for place, index in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, 10, place)
        axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=255)
        true, answer = classes[labels[index]], classes[answers[index]]
        text = f"{true} →\n{answer}\n" if long else f"{true} → {answer}   "
        axes.set_title(f"{text}{confidences[index]:.0%}", fontsize=7 if long else 9, pad=2)
        axes.axis("off")
    save_figure(figure, path)


@in_default_style
def draw_filters(path: Path, model: nn.Module, images: Tensor, title: str) -> bool:
    """Draw the kernels of a model's first two convolutions, and what the first one makes of images, (N, 28, 28) uint8.

    Kernels are scaled by their output map's largest weight, and maps by the highest activation for each image. The
    model is moved to the CPU and into evaluation mode. Returns False, drawing nothing, for fewer than two convolutions.
    """
    import torch  # here, as plot_results.py needs no PyTorch

    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)][:2]
    if len(convolutions) < 2:
        return False
    inputs = []
    hook = convolutions[1].register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    with torch.inference_mode():
        model.cpu().eval()(images[:, None] / 255)
    hook.remove()
    maps = inputs[0].numpy()  # (N, 10, 13, 13): what the second convolution gets
    kernels = [layer.weight.detach().numpy() for layer in convolutions]  # (10, 1, 5, 5) and (20, 10, 5, 5)
    first, second = map(len, kernels)
    rows = 1 + len(images)
    widths = [1, first, first * rows / second]  # in tiles
    inches = max(0.35, 11.5 / max(sum(widths), rows))  # of a tile
    figure = Figure(figsize=(inches * sum(widths), inches * rows), dpi=120, layout="constrained")
    figure.suptitle(f"{title}: what the convolutions respond to", fontsize=12)
    sizes = {"width_ratios": widths, "height_ratios": [1, len(images)]}
    panels = figure.subplot_mosaic([[".", "first", "second"], ["images", "maps", "second"]], gridspec_kw=sizes)
    weights: dict[str, Any] = {"cmap": "PuOr_r", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    panels["first"].imshow(tiles(kernels[0].swapaxes(0, 1), (0, 2, 3)), **weights)
    panels["second"].imshow(tiles(kernels[1], (1, 2, 3)), **weights)
    panels["images"].imshow(tiles(images[:, None].numpy(), (1, 2, 3)), cmap="gray", vmin=0, vmax=1)
    panels["maps"].imshow(tiles(maps, (1, 2, 3)), cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
    titles = {
        "first": f"first convolution: its {first} kernels (orange: positive weights, purple: negative)",
        "maps": f"its {first} maps for an image of each class, as the second convolution gets them",
        "second": f"second convolution: a row for each of its {second} maps,\na column for each map of the first",
    }
    for name, axes in panels.items():
        axes.axis("off")
        axes.set_title(titles.get(name, ""), fontsize=10)
    save_figure(figure, path)
    return True


def tiles(images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Put images, (rows, columns, H, W), side by side with gaps, divided by their largest absolute value along axes."""
    images = images / np.maximum(np.abs(images).max(axes, keepdims=True), 1e-9)
    row, column = (np.arange(65) * side // 65 for side in images.shape[2:])  # 65x65 pixels, whatever the size
    images = images[:, :, row][..., column]
    padded = np.pad(images, [(0, 0), (0, 0), (0, 10), (0, 10)], constant_values=np.nan)
    rows, columns, height, width = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width)
