"""Connection pruning by magnitude, [xie2019b] ref. [26] (Yu et al., ICASSP 2012)."""
import numpy as np


def mask(weights: np.ndarray, share: float) -> np.ndarray:
    """0 for the round(share * size) weights of least magnitude; 1 for the others. Of equal magnitudes, the first ones
    get 0.

    weights: an array of any shape. Returns an array of the same shape and dtype.
    """
    values = np.ones(weights.size, weights.dtype)
    order = np.argsort(np.abs(weights), axis=None, kind="stable")
    values[order[:int(round(share * weights.size))]] = 0
    return values.reshape(weights.shape)
