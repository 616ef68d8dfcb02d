"""Charts of an evaluation: the confusion matrix, the images that were misread, and what the convolutions look for."""

import math
from pathlib import Path

import numpy as np

from common.figures import Figure, save_figure, without_tex


@without_tex
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


@without_tex
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


@without_tex
def draw_filters(path: Path, images: np.ndarray, kernels: list[np.ndarray], maps: np.ndarray, title: str) -> None:
    """Draw the kernels of both convolutions, and the maps that the first one makes of some images.

    images are (N, 28, 28), the kernels (10, 1, 5, 5) and (20, 10, 5, 5), maps (N, 10, 13, 13) and none below 0. Colours
    are scaled to the largest weight of each map, and to the brightest map of each image.
    """
    figure = Figure(figsize=(11.5, 7.6), dpi=120, layout="constrained")
    figure.suptitle(f"{title}: what the convolutions look for", fontsize=12)
    sizes = {"width_ratios": [1, 10, 5.3], "height_ratios": [1, len(images)]}
    panels = figure.subplot_mosaic([[".", "first", "second"], ["images", "maps", "second"]], gridspec_kw=sizes)
    weights = {"cmap": "PuOr_r", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    panels["first"].imshow(tiles(kernels[0].swapaxes(0, 1), (0, 2, 3)), **weights)
    panels["second"].imshow(tiles(kernels[1], (1, 2, 3)), **weights)
    panels["images"].imshow(tiles(images[:, None], (1, 2, 3)), cmap="gray", vmin=0, vmax=1)
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
