"""Figures that stand in the page's own text."""
import io

import matplotlib

from data_prep import pictures


def svg(figure) -> str:
    """A Matplotlib figure."""
    stream = io.BytesIO()
    # Without the date and random ids the same runs give the same page.
    with matplotlib.rc_context({"svg.hashsalt": "caffe-fer"}):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return pictures.uri(stream.getvalue(), "image/svg+xml")
