"""Charts of an evaluation: the confusion matrix, and the images that were misread."""

import math
from pathlib import Path

import numpy as np

from common.figures import Figure, save_figure, without_tex


@without_tex
def draw_confusion_matrix(path: Path, confusion: np.ndarray, title: str) -> None:
    """Draw how often each digit was read as each: right answers in blue, mistakes in orange, darker for more.

    confusion is (10, 10): confusion[i, j] images of digit i were answered j. Raises UserError if path can't be written.
    """
    right = np.eye(10, dtype=bool)
    figure = Figure(figsize=(7, 7.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.where(right, 0.3, np.nan), cmap="Blues", vmin=0, vmax=1)
    mistakes = np.where(right | (confusion == 0), np.nan, confusion)
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=1.6 * max(confusion[~right].max(), 1))
    for digit, answer in np.ndindex(10, 10):
        weight = "bold" if digit == answer else "normal"
        if count := confusion[digit, answer]:
            axes.text(answer, digit, f"{count:,}", ha="center", va="center", weight=weight, fontsize=12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(10), range(10), fontsize=12)
        axis.set_ticks(np.arange(9) + 0.5, minor=True)
    axes.tick_params(which="both", length=0)
    axes.grid(which="minor", color="0.85")
    axes.set_xlabel("answer", fontsize=12)
    axes.set_ylabel("true digit", fontsize=12)
    axes.set_title(f"{title}\n{confusion.trace():,} of {confusion.sum():,} right", fontsize=12)
    save_figure(figure, path)


@without_tex
def draw_mistakes(path: Path, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, title: str) -> None:
    """Draw up to 60 misread images, the surest first: true digit, answer, and the answer's probability.

    images are (N, 28, 28) uint8, labels (N,), probabilities (N, 10). Raises UserError when path can't be written.
    """
    answers, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)  # (N,), (N,)
    wrong = np.flatnonzero(answers != labels)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")]
    shown = wrong[:60]
    columns = 10
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(columns, 1.25 * rows + 0.7), dpi=150, layout="constrained")
    which = "" if len(wrong) == len(shown) else f", the {len(shown)} surest"
    legend = "true digit → answer, and the probability that it was given"
    figure.suptitle(f"{title}: {len(wrong)} misread{which}\n{legend}", fontsize=12)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels:
        axes.axis("off")
    for axes, index in zip(panels, shown, strict=False):
        axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(f"{labels[index]} → {answers[index]}   {confidences[index]:.0%}", fontsize=9, pad=2)
    save_figure(figure, path)
