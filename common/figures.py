"""Matplotlib figures as PNG files, whatever backend and fonts the user's environment asks for."""

import contextlib
import io
import os
import warnings
from pathlib import Path

# A notebook's `!python` inherits its backend, which another Python may lack; then importing matplotlib would fail.
backend = os.environ.pop("MPLBACKEND", None)
import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402, F401
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402, F401

from common.files import write_atomically  # noqa: E402

if backend:
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend

without_tex = matplotlib.rc_context({"text.usetex": False})  # decorates what draws text


def save_figure(figure: Figure, path: Path, metadata: dict | None = None) -> None:
    """Write a figure as a PNG file. Raises UserError when that fails."""
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a file's name may have characters that the font lacks
        figure.savefig(png, format="png", metadata=metadata)
    write_atomically(path, png.getvalue())
