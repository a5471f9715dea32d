"""Class weights, [xie2019a] Eq. (13)."""
from typing import Sequence

import numpy as np


def inverse(counts: Sequence[int]) -> np.ndarray:
    """The weights, float64 (C,), with sum 1. Each is inversely proportional to its class's number of samples."""
    inverses = 1 / np.asarray(counts, float)
    return inverses / inverses.sum()
