"""Caffe's log lines, read as they come."""
import re
from typing import NamedTuple, Optional, Union

ITERATION = re.compile(r"Iteration (\d+)(?: \(.*?\))?, (loss = (\S+)|Testing net|lr = (\S+))")
OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = (\S+)")
PHASES = {"Train": "train", "Test": "val"}
SNAPSHOT = re.compile(r"Snapshotting (?:solver state )?to binary proto file (.+)")


class Loss(NamedTuple):
    """What the solver shows: the smoothed loss at an iteration."""

    iteration: int
    value: float


class Output(NamedTuple):
    """An output of the net at an iteration. phase: "train" or "val" (what Caffe tests on is validation data)."""

    phase: str
    iteration: int
    name: str
    value: float


class Snapshot(NamedTuple):
    path: str


class Parser:
    """Turns lines into events; an output line belongs to the iteration named before it."""

    def __init__(self):
        self._iteration = 0

    def parse(self, line: str) -> Optional[Union[Loss, Output, Snapshot]]:
        found = ITERATION.search(line)
        if found:
            self._iteration = int(found.group(1))
            return Loss(self._iteration, float(found.group(3))) if found.group(3) else None
        found = OUTPUT.search(line)
        if found:
            return Output(PHASES[found.group(1)], self._iteration, found.group(2), float(found.group(3)))
        found = SNAPSHOT.search(line)
        return Snapshot(found.group(1)) if found else None


def curves(path: str) -> dict[str, list]:
    """"loss", "train <output>" and "val <output>" -> [(iteration, value)], in order of the iteration.

    A run that was interrupted repeats iterations in its log; the last word counts.
    """
    parser = Parser()
    found: dict[str, dict[int, float]] = {}
    with open(path, encoding="utf-8", errors="replace") as stream:
        for event in map(parser.parse, stream):
            if isinstance(event, Loss):
                found.setdefault("loss", {})[event.iteration] = event.value
            elif isinstance(event, Output):
                found.setdefault(f"{event.phase} {event.name}", {})[event.iteration] = event.value
    return {name: sorted(points.items()) for name, points in found.items()}
