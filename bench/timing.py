"""Times of things done in turn, A B A B, so that what else the machine does falls on all of them."""
import os
import time
from dataclasses import dataclass
from typing import Callable

import numpy as np


@dataclass(frozen=True)
class Took:
    """The time that some work took."""

    # How much was done, such as a number of records.
    amount: float
    # Seconds of wall time.
    wall: float
    # Seconds of processor time, with that of child processes that have ended.
    cpu: float


def in_turn(works: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[Took]]:
    """Name -> what each of `repeats` calls took. A work returns how much it did."""
    took: dict[str, list[Took]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), _processor()
            amount = work()
            took[name].append(Took(amount, time.perf_counter() - wall, _processor() - cpu))
    return took


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def rows(took: dict[str, list[Took]], unit: str) -> list[dict]:
    """One for each name: how many `unit` a second (median, least, most), the processor's time, and how many times
    as fast as the first it is (median of the turns)."""
    first = next(iter(took.values()))
    found = []
    for name, turns in took.items():
        rates = [turn.amount / turn.wall for turn in turns]
        ratios = [rate / (base.amount / base.wall) for rate, base in zip(rates, first)]
        found.append({"what": name, unit + "/s": float(np.median(rates)), "least": min(rates), "most": max(rates),
                      "CPU ms each": float(np.median([1000 * turn.cpu / turn.amount for turn in turns])),
                      "times the first": float(np.median(ratios))})
    return found
