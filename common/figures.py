"""Matplotlib figures as PNG files, whatever backend and fonts the user's environment asks for."""

import io
import os
import sys
from pathlib import Path

from common.files import write_atomically

if "ipykernel" not in sys.modules:  # a notebook's `!python` inherits its backend, which may be missing here
    os.environ.pop("MPLBACKEND", None)
import matplotlib  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

without_tex = matplotlib.rc_context({"text.usetex": False})  # decorates what draws text


def save_figure(figure: Figure, path: Path, metadata: dict | None = None) -> None:
    """Write a figure as a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata=metadata)
    write_atomically(path, png.getvalue())
