"""What the scripts draw: the confusion matrix and the images that were misread."""

import io
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from common.files import write_atomically
from evaluate import Evaluation


def save(figure: Figure, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_atomically(path, png.getvalue())


def draw_confusion_matrix(path: Path, evaluation: Evaluation, title: str) -> None:
    """Draw how often each digit was read as each: right answers in blue, mistakes in orange, darker for more."""
    confusion = evaluation.confusion.numpy()
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
    axes.set_title(f"{title}\n{evaluation.correct:,} of {len(evaluation.labels):,} right", fontsize=12)
    save(figure, path)


def draw_mistakes(path: Path, images: Tensor, evaluation: Evaluation, title: str, most: int = 60) -> None:
    """Draw the misread images, (N, 28, 28), the surest first: true digit, answer, and the answer's probability."""
    probabilities, answers = evaluation.logits.softmax(dim=1).max(dim=1)  # (N,), (N,)
    wrong = (answers != evaluation.labels).nonzero().flatten()
    wrong = wrong[probabilities[wrong].argsort(descending=True, stable=True)]
    shown = wrong[:most].tolist()
    columns = 10
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(columns, 1.25 * rows + 0.7), dpi=150, layout="constrained")
    which = "" if len(wrong) <= most else f", the {most} surest"
    legend = "true digit → answer, and the probability that it was given"
    figure.suptitle(f"{title}: {len(wrong)} misread{which}\n{legend}", fontsize=12)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels:
        axes.axis("off")
    for axes, index in zip(panels, shown, strict=False):
        axes.imshow(images[index].numpy(), cmap="gray_r", vmin=0, vmax=255)
        label, answer, probability = evaluation.labels[index], answers[index], probabilities[index]
        axes.set_title(f"{label} → {answer}   {probability:.0%}", fontsize=9, pad=2)
    save(figure, path)
