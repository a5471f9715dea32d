"""Handcrafted feature loss, [xie2019a] Eq. (1), (6) and (7)."""
from typing import Tuple

import numpy as np


def forward(z: np.ndarray, h: np.ndarray, p: int) -> Tuple[float, np.ndarray]:
    """The loss summed over the batch: 1/p sum_i |z_i - |z_i|_2 h_i|_p^p for p = 1 or 2.

    z: (M, D) deep features; h: (M, D) handcrafted features, each row with L2 norm 1.
    Returns the loss and the residuals z_i - |z_i|_2 h_i (M, D).
    """
    residual = np.linalg.norm(z, axis=1, keepdims=True) * h
    np.subtract(z, residual, out=residual)
    if p == 2:
        return 0.5 * np.vdot(residual, residual), residual
    return np.abs(residual).sum(), residual


def gradient(z: np.ndarray, h: np.ndarray, residual: np.ndarray, p: int, exact: bool) -> np.ndarray:
    """Gradient of `forward` for z, (M, D).

    residual: (M, D) from `forward`. exact=False is Eq. (7), which treats |z|_2 as a constant; exact=True adds the
    derivative of |z|_2. A row z_i = 0 gets 0 in both cases.
    """
    outer = residual if p == 2 else np.sign(residual)
    if not exact:
        return outer
    norm = np.linalg.norm(z, axis=1, keepdims=True)
    direction = np.divide(z, norm, out=np.zeros_like(z), where=norm > 0)
    return outer - (outer * h).sum(axis=1, keepdims=True) * direction


def decay(rho: float, epoch: float) -> float:
    """Factor on the loss weight after `epoch` complete epochs, Eq. (6)."""
    return rho ** epoch


def advance(epoch: int, seen: int, batch: int, epoch_size: int) -> Tuple[int, int]:
    """The clock after another batch: the number of complete epochs, and of records seen in the current epoch."""
    epochs, seen = divmod(seen + batch, epoch_size)
    return epoch + epochs, seen
