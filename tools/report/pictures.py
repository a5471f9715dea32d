"""Matplotlib's figures as bytes: in a page's own text, and in files. The same figure gives the same bytes."""
import io
import os
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from common import files
from data_prep import pictures


def svg(figure: Figure) -> str:
    """A figure that stands in the page's own text."""
    return pictures.uri(_content(figure, "svg", bbox_inches="tight", metadata={"Date": None}), "image/svg+xml")


def write(figure: Figure, path: str, alone: bool = False, **settings: Any) -> None:
    """Replaces a file by a figure, in the format that the path ends in. alone: see `files.require_replaceable`;
    settings: of Matplotlib's savefig."""
    content = _content(figure, os.path.splitext(path)[1][1:].lower(), facecolor="white", **settings)
    with files.replacing(path, alone) as partial, open(partial, "wb") as stream:
        stream.write(content)


def _content(figure: Figure, kind: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    # Without random ids; the date and the version of Matplotlib are left to `metadata`.
    with matplotlib.rc_context({"svg.hashsalt": "caffe-fer"}):
        figure.savefig(stream, format=kind, **settings)
    return stream.getvalue()
