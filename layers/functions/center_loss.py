"""Center loss (Wen et al., ECCV 2016), with the semantics of the authors' own Caffe layer."""
from __future__ import annotations

import numpy as np


def forward(x: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum over the batch, [xie2019a] Eq. (1): 1/2 sum_i |x_i - c_yi|^2.

    x: (M, D) features; labels: (M,) int, each in [0, C); centers: (C, D).
    Returns the loss and the differences x_i - c_yi (M, D), which are also its gradient for x.
    """
    difference = x - centers[labels]
    return 0.5 * np.vdot(difference, difference), difference


def center_steps(difference: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """What the solver takes for the gradient of the centers: sum_{y_i = n} (c_n - x_i) / (1 + count_n).

    It is not the gradient of the loss: the average, not the sum, moves a center, and neither the loss weight
    nor the batch size enters. An absent class gets 0. difference: (M, D) from `forward`. Returns (C, D).
    """
    members = (np.arange(classes)[:, None] == labels).astype(difference.dtype)
    return -members.dot(difference) / (1 + members.sum(axis=1, keepdims=True))
