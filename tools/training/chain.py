"""A run of several segments: which of them count, and for which iterations of the run.

    RUN/chain.json     [[folder of a segment, iteration at its start, iteration at its end], ...]
"""
import os
from dataclasses import dataclass

from common import files
from tools.training import caffe_log
from tools.training.caffe_process import LOG, Segment

FILE = "chain.json"


@dataclass(frozen=True)
class Span:
    """The iterations of a run that a segment trained."""

    segment: Segment
    # Iterations of the run.
    start: int
    end: int


def spans(run: Segment) -> list[Span]:
    """What a run's adopted segments trained, in order. A run of one training is its own only segment."""
    if not os.path.exists(run.path(FILE)):
        return [Span(run, 0, max(run.snapshots(), default=0))]
    return adopted(run)


def adopted(run: Segment) -> list[Span]:
    """What the segments trained that a run of several has adopted; empty for a run of one training."""
    path, done = run.path(FILE), run.snapshots()
    entries = files.read_json(path) if os.path.exists(path) else []
    # A killed call may have noted a segment whose weights it did not move.
    return [Span(Segment(run.path(folder)), start, end) for folder, start, end in entries if end in done]


def curves(run: Segment) -> dict[str, list[tuple[float, float]]]:
    """What Caffe's logs say of all its segments, over the run's iterations; see `caffe_log.curves`."""
    joined: dict[str, list[tuple[float, float]]] = {}
    for span in spans(run):
        path = span.segment.path(LOG)
        for name, points in (caffe_log.curves(path) if os.path.exists(path) else {}).items():
            joined.setdefault(name, []).extend((span.start + iteration, value) for iteration, value in points)
    return joined


def adopt(run: Segment, segment: Segment, start: int, end: int) -> None:
    """Moves a segment's trained weights to the run's snapshots, which makes the segment count; its other snapshots are
    removed. start, end: iterations of the run that the segment trained."""
    files.write_json(run.path(FILE), [[os.path.relpath(span.segment.folder, run.folder), span.start, span.end]
                                      for span in [*adopted(run), Span(segment, start, end)]])
    os.makedirs(run.path("snapshots"), exist_ok=True)
    os.replace(segment.weights_of(end - start), run.weights_of(end))
    files.remove(segment.path("snapshots"))
