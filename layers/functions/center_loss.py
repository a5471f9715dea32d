"""Center loss (Wen et al., ECCV 2016), computed as in the authors' own Caffe layer."""
from typing import Tuple

import numpy as np


def forward(x: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> Tuple[float, np.ndarray]:
    """The center loss summed over the batch, [xie2019a] Eq. (1): 1/2 sum_i |x_i - c_yi|^2.

    x: (M, D) features; labels: (M,) int, each in [0, C); centers: (C, D).
    Returns the loss and the differences x_i - c_yi (M, D), which are also the gradient of the loss for x.
    """
    difference = x - centers[labels]
    return 0.5 * np.vdot(difference, difference), difference


def center_steps(difference: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The values that the solver takes as the gradient of the centers: sum_{y_i = n} (c_n - x_i) / (1 + count_n).

    They are not the gradient of the loss: the average moves a center, not the sum, and the loss weight and the batch
    size have no effect. A class without samples in the batch gets 0.
    difference: (M, D) from `forward`; labels: (M,) int; classes: C. Returns (C, D).
    """
    members = (np.arange(classes)[:, None] == labels).astype(difference.dtype)
    return -members.dot(difference) / (1 + members.sum(axis=1, keepdims=True))
