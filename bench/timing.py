"""Measures several kinds of work in turn (A B A B), so that other load on the machine affects all of them alike."""
import os
import time
from dataclasses import dataclass
from typing import Callable

import numpy as np


@dataclass(frozen=True)
class Took:
    """The time of one call."""

    # How much work the call did, such as a number of records.
    amount: float
    # Seconds of wall time.
    wall: float
    # Seconds of processor time, including child processes that have ended.
    cpu: float


def in_turn(works: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[Took]]:
    """Name -> the times of its `repeats` calls. Each call returns the amount of its work."""
    took: dict[str, list[Took]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), _processor()
            amount = work()
            took[name].append(Took(amount, time.perf_counter() - wall, _processor() - cpu))
    return took


def _processor() -> float:
    times = os.times()
    return times.user + times.system + of_children()


def of_children() -> float:
    """Seconds of processor time of the child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def rows(took: dict[str, list[Took]], unit: str) -> list[dict]:
    """A row for each name: how many `unit` per second (median, least, most), the processor time of one `unit` (median,
    ms), and the speed divided by that of the first name (median of the turns)."""
    first = next(iter(took.values()))
    table = []
    for name, turns in took.items():
        rates = [turn.amount / turn.wall for turn in turns]
        ratios = [rate / (base.amount / base.wall) for rate, base in zip(rates, first)]
        table.append({"what": name, unit + "/s": float(np.median(rates)), "least": min(rates), "most": max(rates),
                      "CPU ms each": float(np.median([1000 * turn.cpu / turn.amount for turn in turns])),
                      "times the first": float(np.median(ratios))})
    return table
