"""Draw the preview of predict.py: each picture, what the network sees of it, and the probabilities of the digits."""

import warnings
from pathlib import Path

from common.command_line import UserError
from own_digits.reader import Answer
from training.charts import Figure, in_default_style, save_figure


def check_can_write_preview(path: Path) -> None:
    """Raise UserError unless path is the name of a PNG file that is new or an earlier preview."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--preview must be the name of a PNG file, not {path}")
    try:
        if path.exists() and not (path.is_file() and b"Title\0predict.py" in path.read_bytes()[:1000]):
            raise UserError(f"--preview would overwrite {path}, which is not an earlier preview: choose another name")
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from error


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
        left.set_title(name if len(name) <= 24 else f"…{name[-23:]}", fontsize=9)
        middle.imshow(answer.image, cmap="gray", vmin=0, vmax=255)
        middle.set_title("what the network sees", fontsize=9)
        for axes in (left, middle):
            axes.set(xticks=[], yticks=[])
        digit = answer.digits[0]
        places = range(len(classes))
        right.bar(places, answer.probabilities, color=["tab:blue" if i == digit else "0.7" for i in places])
        right.set(ylim=(0, 1))
        long = max(map(len, classes)) > 2 or len(classes) > 40
        right.set_xticks(places, classes, fontsize=6 if long else 8, rotation=90 if long else 0)
        right.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"], fontsize=8)
        right.spines[["top", "right"]].set_visible(False)
        right.set_title(f"{classes[digit]}, {answer.probabilities[digit]:.2%}", fontsize=11)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a file's name may have characters that the font lacks
        save_figure(figure, path, {"Title": "predict.py"})
