"""The preview of predict.py: each picture, what the network sees of it, and its answer."""

import io
import warnings
from pathlib import Path

from matplotlib.figure import Figure

from common.files import write_atomically
from own_digits.reader import Answer


def draw_answers(path: Path, answers: list[tuple[str, Answer]], title: str, most: int = 60) -> None:
    """Draw of each file the picture, what the network saw of it, and the probabilities of its answers."""
    shown = answers[:most]
    hidden = len(answers) - len(shown)
    figure = Figure(figsize=(8, 1.7 * len(shown) + 0.6), dpi=150, layout="constrained")
    figure.suptitle(title + (f"; {hidden} more not shown" if hidden else ""), fontsize=10).set_parse_math(False)
    panels = figure.subplots(len(shown), 3, squeeze=False, width_ratios=[1, 1, 2])
    for (file, answer), (left, middle, right) in zip(shown, panels, strict=True):
        name = Path(file).name
        left.imshow(answer.picture)
        left.set_title(name if len(name) <= 24 else f"…{name[-23:]}", fontsize=9).set_parse_math(False)
        middle.imshow(answer.image, cmap="gray", vmin=0, vmax=255)
        middle.set_title("what the network sees", fontsize=9)
        for axes in (left, middle):
            axes.set_xticks([])
            axes.set_yticks([])
        digit = answer.digits[0]
        colours = ["tab:blue" if number == digit else "0.7" for number in range(10)]
        right.bar(range(10), answer.probabilities, color=colours)
        right.set_xticks(range(10))
        right.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"], fontsize=8)
        right.set_ylim(0, 1)
        right.spines[["top", "right"]].set_visible(False)
        right.set_title(f"{digit}, {answer.probabilities[digit]:.2%}", fontsize=11)
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # that the font lacks, of a file's name
        figure.savefig(png, format="png", metadata={"Title": "predict.py"})
    write_atomically(path, png.getvalue())
