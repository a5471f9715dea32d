"""Connection pruning by magnitude, [xie2019b] ref. [26] (Yu et al., ICASSP 2012)."""
import numpy as np


def mask(weights: np.ndarray, share: float) -> np.ndarray:
    """0 for the round(share * size) weights of least magnitude, the first of equal ones; 1 for the others.

    weights: of any shape. Returns an array of its shape and dtype.
    """
    kept = np.ones(weights.size, weights.dtype)
    order = np.argsort(np.abs(weights), axis=None, kind="stable")
    kept[order[:int(round(share * weights.size))]] = 0
    return kept.reshape(weights.shape)
