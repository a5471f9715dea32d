"""Losses of tuplets, [liu2017] Section 3: (N+1)-tuplets, and (N+M)-tuplet clusters with a fixed or adaptive threshold.

Features of T tuplets are (T, K, D): in each tuplet first the positives, the query foremost, then the negatives.
Distances are squared Euclidean ones. Losses are summed over the tuplets.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def tuplet(f: np.ndarray, margin: float) -> tuple[float, np.ndarray]:
    """(N+1)-tuplet loss, Eq. (1): log(1 + sum_j exp(D(f, f+) + margin - D(f, f_j-))).

    f: (T, 1 + N, D), the query, its positive and N - 1 negatives. Returns the loss and its gradient for f.
    """
    query, positive, negatives = f[:, :1], f[:, 1:2], f[:, 2:]
    exponents = _squares(query - positive) + margin - _squares(query - negatives)
    # log(1 + sum exp) as the log-sum-exp with one exponent of 0 more.
    largest = np.maximum(exponents.max(axis=1, keepdims=True), 0)
    terms = np.exp(exponents - largest)
    total = np.exp(-largest) + terms.sum(axis=1, keepdims=True)
    loss = (np.log(total) + largest).sum()
    share = (terms / total)[:, :, None]
    gradient = np.empty_like(f)
    gradient[:, 2:] = 2 * share * (query - negatives)
    gradient[:, 1:2] = -2 * share.sum(axis=1, keepdims=True) * (query - positive)
    gradient[:, 0] = -gradient[:, 1:].sum(axis=1)
    return loss, gradient


def mine(f: np.ndarray, positives: int) -> np.ndarray:
    """Algorithm 1: which positives are kept, bool (T, M).

    Those no farther from the mean of all positives than the nearest negative is; where that leaves none, the
    nearest positive.
    """
    center = f[:, :positives].mean(axis=1, keepdims=True)
    distances = _squares(f - center)
    own = distances[:, :positives]
    kept = own <= distances[:, positives:].min(axis=1, keepdims=True)
    none = ~kept.any(axis=1)
    kept[none, own[none].argmin(axis=1)] = True
    return kept


@dataclass(frozen=True)
class Hinges:
    """The constants of the hinges of Eq. (3) or Eq. (10)."""

    # (T, D) mean of the mined positives.
    center: np.ndarray
    # (T, K) weight of each example's hinge in the sum.
    weights: np.ndarray
    # (K,) l(x) of Eq. (10): -1 for positives, 1 for negatives.
    signs: np.ndarray
    # (T, K) d center / d f.
    share: np.ndarray


def hinges(f: np.ndarray, kept: np.ndarray, joint: bool) -> Hinges:
    """joint: each of the N + M* hinges weighs 1/(N + M*), Eq. (10); else the M* of positives 1/M* and the N of
    negatives 1/N, Eq. (3)."""
    positives, count = kept.shape[1], kept.sum(axis=1, keepdims=True)
    negatives = f.shape[1] - positives
    share = np.zeros(f.shape[:2], f.dtype)
    share[:, :positives] = kept / count
    weights = np.empty_like(share)
    weights[:, :positives] = kept / (negatives + count if joint else count)
    weights[:, positives:] = 1 / (negatives + count) if joint else 1 / negatives
    signs = np.ones(f.shape[1], f.dtype)
    signs[:positives] = -1
    return Hinges(np.matmul(share[:, None], f)[:, 0], weights, signs, share)


def hinge_loss(scores: np.ndarray, sums: Hinges, margin: float) -> tuple[float, np.ndarray]:
    """sum of weight * max(0, sign * score + margin). scores: (T, K), H(f, c+) or what stands for it.

    Returns the loss and its gradient for the scores.
    """
    values = sums.signs * scores + margin
    return (sums.weights * np.maximum(values, 0)).sum(), sums.weights * sums.signs * (values > 0)


def fixed_clusters(f: np.ndarray, kept: np.ndarray, threshold: float, margin: float) -> tuple[float, np.ndarray]:
    """(N+M)-tuplet clusters loss with fixed T and tau, Eq. (3), and its gradient for f, also through c+.

    kept: (T, M) from `mine`; threshold: T; margin: tau.
    """
    sums = hinges(f, kept, joint=False)
    away = f - sums.center[:, None]
    loss, slopes = hinge_loss(threshold - _squares(away), sums, margin / 2)
    gradient = -2 * slopes[:, :, None] * away
    return loss, gradient - sums.share[:, :, None] * gradient.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Metric:
    """H of Eq. (8): H(f, g) = 1/2 |L_A f|^2 + 1/2 |L_A g|^2 + (L_B f).(L_B g) + c.(f + g) + b."""

    # L_A, (R, D).
    a: np.ndarray
    # L_B, (R, D).
    b: np.ndarray
    # c, (D,).
    linear: np.ndarray
    # b, (1,).
    constant: np.ndarray


def adaptive_clusters(f: np.ndarray, kept: np.ndarray, metric: Metric) -> tuple[float, np.ndarray, Metric]:
    """(N+M)-tuplet clusters loss with the learned metric and threshold, Eq. (10).

    kept: (T, M) from `mine`. Returns the loss, its gradient for f, also through c+, and those for the metric.
    """
    sums = hinges(f, kept, joint=True)
    g = sums.center
    # One product of matrices, not one a tuplet. Of L_B only what stands beside g is multiplied out: it has a row a
    # tuplet, not a row an example.
    flat = f.reshape(-1, f.shape[2])
    af, ag, bg = flat @ metric.a.T, g @ metric.a.T, g @ metric.b.T
    bbg = bg @ metric.b
    scores = (_squares(af).reshape(kept.shape[0], -1) + _squares(ag)[:, None]) / 2 + (
        np.matmul(f, (bbg + metric.linear)[:, :, None])[:, :, 0] + (g @ metric.linear)[:, None]) + metric.constant
    loss, slopes = hinge_loss(scores, sums, 1)
    slope = slopes.sum(axis=1, keepdims=True)
    # Sums over the examples of a tuplet, weighted by their slopes.
    weighted_f = np.matmul(slopes[:, None], f)[:, 0]
    weighted_bf = weighted_f @ metric.b.T
    sloped_af = slopes.reshape(-1, 1) * af
    for_f = (sloped_af @ metric.a).reshape(f.shape) + slopes[:, :, None] * (bbg + metric.linear)[:, None]
    for_g = slope * (ag @ metric.a + metric.linear) + weighted_bf @ metric.b
    gradients = Metric(
        sloped_af.T @ flat + (slope * ag).T @ g,
        weighted_bf.T @ g + bg.T @ weighted_f,
        (weighted_f + slope * g).sum(axis=0),
        np.array([slopes.sum()], f.dtype))
    return loss, for_f + sums.share[:, :, None] * for_g[:, None], gradients


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Squared L2 norms along the last axis."""
    return np.einsum("...d,...d->...", vectors, vectors)
