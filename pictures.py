"""Pictures of an evaluation: the confusion matrix, and the images that were misread."""

import io
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from evaluate import Evaluation
from files import write_atomically


def save(figure: Figure, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_atomically(path, png.getvalue())


def draw_confusion_matrix(path: Path, evaluation: Evaluation, title: str) -> None:
    """Draw how often each digit was read as each; the colour shows the mistakes alone."""
    confusion = evaluation.confusion.numpy()
    mistakes = confusion * (1 - np.eye(10, dtype=int))
    most = max(mistakes.max(), 1)
    figure = Figure(figsize=(7, 7.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(mistakes, cmap="Oranges", vmin=-most / 10, vmax=most * 1.5)
    for digit, answer in np.ndindex(10, 10):
        weight = "bold" if digit == answer else "normal"
        if count := confusion[digit, answer]:
            axes.text(answer, digit, count, ha="center", va="center", weight=weight, fontsize=12)
    axes.set_xticks(range(10), range(10), fontsize=12)
    axes.set_yticks(range(10), range(10), fontsize=12)
    axes.set_xlabel("answer", fontsize=12)
    axes.set_ylabel("true digit", fontsize=12)
    axes.set_title(f"{title}\n{evaluation.correct:,} of {len(evaluation.labels):,} right", fontsize=12)
    save(figure, path)


def draw_mistakes(path: Path, images: Tensor, evaluation: Evaluation, title: str, most: int = 64) -> None:
    """Draw the misread images, (N, 28, 28), the surest first: true digit, answer, and the answer's probability."""
    probabilities, answers = evaluation.logits.softmax(dim=1).max(dim=1)  # (N,), (N,)
    wrong = (answers != evaluation.labels).nonzero().flatten()
    wrong = wrong[probabilities[wrong].argsort(descending=True, stable=True)]
    shown = wrong[:most].tolist()
    columns = 8
    rows = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(1.3 * columns, 1.6 * rows + 0.8), dpi=150, layout="constrained")
    which = "" if len(wrong) <= most else f", the {most} most confident"
    figure.suptitle(f"{title}\n{len(wrong)} misread{which}", fontsize=12)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels:
        axes.axis("off")
    for axes, index in zip(panels, shown, strict=False):
        axes.imshow(images[index].numpy(), cmap="gray_r", vmin=0, vmax=255)
        label, answer, probability = evaluation.labels[index], answers[index], probabilities[index]
        axes.set_title(f"{label} read as {answer}\n{probability:.0%} sure", fontsize=9)
    save(figure, path)
