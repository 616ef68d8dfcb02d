"""Charts of an evaluation: the confusion matrix, and the images that were misread."""

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
