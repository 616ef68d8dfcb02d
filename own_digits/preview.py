"""Draw the preview of predict.py: each picture, what the network sees of it, and the probabilities of the digits."""

import warnings
from pathlib import Path

import numpy as np

from own_digits.reader import Answer, percent
from training.charts import Figure, in_default_style, save_figure


@in_default_style
def draw_answers(
    path: Path, answers: list[tuple[str, Answer]], classes: list[str], title: str, max_shown: int = 60
) -> None:
    """Draw a row for each pair of a file's name and its answer, as a PNG file. Raises UserError if that fails."""
    shown = answers[:max_shown]
    if len(answers) > max_shown:
        title += f"; {len(answers) - max_shown} more not shown"
    figure = Figure(figsize=(8, 1.7 * len(shown) + 0.6), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=10)
    rows = figure.subplots(len(shown), 3, squeeze=False, width_ratios=[1, 1, 2])
    for (file, answer), (left, middle, right) in zip(shown, rows, strict=True):
        name = Path(file).name
        left.imshow(answer.picture)
        for digit in answer.digits:
            y0, x0, y1, x1 = digit.box
            left.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="tab:red", lw=0.8)
        left.set_title(name if len(name) <= 24 else f"…{name[-23:]}", fontsize=9)
        middle.imshow(mosaic(answer), cmap="gray", vmin=0, vmax=255)
        middle.set_title("what the network sees", fontsize=9)
        for axes in (left, middle):
            axes.set(xticks=[], yticks=[])
        places, (digit, *others) = range(len(classes)), answer.digits
        if others:  # a row of squares for each digit, the darker the more probable
            right.imshow([each.probabilities for each in answer.digits], "Blues", aspect="auto", vmin=0, vmax=1)
            right.set_yticks(
                range(len(answer.digits)), [classes[each.ranking[0]] for each in answer.digits], fontsize=6
            )
        else:
            best = digit.ranking[0]
            right.bar(places, digit.probabilities, color=["tab:blue" if i == best else "0.7" for i in places])
            right.set(ylim=(0, 1))
            right.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"], fontsize=8)
        long = max(map(len, classes)) > 2 or len(classes) > 40
        right.set_xticks(places, classes, fontsize=6 if long else 8, rotation=90 if long else 0)
        right.spines[["top", "right"]].set_visible(False)
        right.set_title(f"{answer.number(classes)}, {percent(answer.probability)}", fontsize=11)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a file's name may have characters that the font lacks
        save_figure(figure, path, {"Title": "predict.py"})


def mosaic(answer: Answer) -> np.ndarray:
    """Return the images that the network sees, one beside the other, in rows: uint8."""
    width = max(map(len, answer.rows))
    blank = np.zeros((28, 28), np.uint8)
    rows = [[digit.image for digit in row] + [blank] * (width - len(row)) for row in answer.rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
