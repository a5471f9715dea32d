"""The lines of Caffe's log, read as they come."""
import re
from dataclasses import dataclass
from typing import Optional, Union

ITERATION = re.compile(r"Iteration (\d+)(?: \(.*?\))?, (loss = (\S+)|Testing net|lr = (\S+))")
OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = (\S+)")
# What Caffe tests on is validation data.
PHASES = {"Train": "train", "Test": "val"}
SNAPSHOT = re.compile(r"Snapshotting (?:solver state )?to binary proto file (.+)")


@dataclass(frozen=True)
class Loss:
    """The smoothed loss that the solver shows at an iteration."""

    iteration: int
    value: float


@dataclass(frozen=True)
class Output:
    """An output of the net at an iteration."""

    # "train" or "val".
    phase: str
    iteration: int
    name: str
    value: float


@dataclass(frozen=True)
class Snapshot:
    """A file that Caffe is about to write."""

    path: str


class Parser:
    """Turns lines into events; an output line belongs to the iteration in a line before it."""

    def __init__(self) -> None:
        self._iteration = 0

    def parse(self, line: str) -> Optional[Union[Loss, Output, Snapshot]]:
        match = ITERATION.search(line)
        if match:
            self._iteration = int(match.group(1))
            return Loss(self._iteration, float(match.group(3))) if match.group(3) else None
        match = OUTPUT.search(line)
        if match:
            return Output(PHASES[match.group(1)], self._iteration, match.group(2), float(match.group(3)))
        match = SNAPSHOT.search(line)
        return Snapshot(match.group(1)) if match else None


def curves(path: str) -> dict[str, list[tuple[int, float]]]:
    """"loss", "train <output>" and "val <output>" -> [(iteration, value)], in order of the iteration.

    A run that was interrupted repeats iterations in its log; the last line of each counts.
    """
    parser = Parser()
    values: dict[str, dict[int, float]] = {}
    with open(path, encoding="utf-8", errors="replace") as stream:
        for event in map(parser.parse, stream):
            if isinstance(event, Loss):
                values.setdefault("loss", {})[event.iteration] = event.value
            elif isinstance(event, Output):
                values.setdefault(f"{event.phase} {event.name}", {})[event.iteration] = event.value
    return {name: sorted(points.items()) for name, points in values.items()}
