"""Sparse center loss, [farzaneh2021] Eq. (4), (9), (10) and (11)."""
from typing import Tuple

import numpy as np


def forward(x: np.ndarray, attention: np.ndarray, labels: np.ndarray, centers: np.ndarray
            ) -> Tuple[float, np.ndarray]:
    """The loss summed over the batch, Eq. (4) without 1/m: 1/2 sum_ij a_ij (x_ij - c_yi,j)^2.

    x: (M, D) features; attention: (M, D) attention weights a; labels: (M,) int, each in [0, C); centers: (C, D).
    Returns the loss and the differences x_i - c_yi (M, D).
    """
    difference = x - centers[labels]
    return 0.5 * np.vdot(attention * difference, difference), difference


def gradients(difference: np.ndarray, attention: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Gradients of `forward` for x (Eq. (9)) and for the attention weights (Eq. (10), one value for each dimension).
    Both are (M, D)."""
    return attention * difference, 0.5 * difference * difference


def center_steps(difference: np.ndarray, attention: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Delta of each center, Eq. (11): sum_{y_i = k} a_i (c_k - x_i) / (1 + count_k). Returns (C, D).

    Epsilon is 1, as in the authors' own code. A class without samples in the batch gets 0.
    """
    members = (np.arange(classes)[:, None] == labels).astype(difference.dtype)
    return -members.dot(attention * difference) / (1 + members.sum(axis=1, keepdims=True))
