"""Matplotlib figures as PNG files, whatever backend and fonts the user's environment asks for."""

import contextlib
import io
import os
from pathlib import Path

from common.files import write_atomically

backend = os.environ.pop("MPLBACKEND", "")  # a notebook's backend, which its `!python` inherits, may be missing here
import matplotlib  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

if backend:  # for the notebook that runs this
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend

without_tex = matplotlib.rc_context({"text.usetex": False})  # decorates what draws text


def save_figure(figure: Figure, path: Path, metadata: dict | None = None) -> None:
    """Write a figure as a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata=metadata)
    write_atomically(path, png.getvalue())
