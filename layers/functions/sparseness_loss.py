"""Sparseness loss, [xie2019b] Eq. (4) and (7)."""
import numpy as np


def forward(values: np.ndarray, p: int) -> float:
    """1/p |values|_p^p for p = 1 or 2, summed over all values.

    values: features or weights, an array of any shape.
    """
    if p == 2:
        return 0.5 * np.vdot(values, values)
    return np.abs(values).sum()


def gradient(values: np.ndarray, p: int) -> np.ndarray:
    """Gradient of `forward` for the values, with their shape and dtype; for p = 2 it is the array itself.

    For p = 1 it is the sign, and 0 where a value is 0.
    """
    return values if p == 2 else np.sign(values)
