"""Losses of tuplets, [liu2017] Section 3: (N+1)-tuplets, and (N+M)-tuplet clusters with a fixed or adaptive threshold.

The features f of T tuplets are (T, K, D). Each tuplet has first its M positives (the first one is the query), then its
N negatives; K = M + N. Distances are squared Euclidean distances. Losses are summed over the tuplets.
"""
from typing import NamedTuple, Tuple

import numpy as np


def tuplet(f: np.ndarray, margin: float) -> Tuple[float, np.ndarray]:
    """(N+1)-tuplet loss, Eq. (1): log(1 + sum_j exp(D(f, f+) + margin - D(f, f_j-))).

    f: (T, 1 + N, D), in each tuplet the query, its positive and N - 1 negatives. margin: tau. Returns the loss and its
    gradient for f.
    """
    query, positive, negatives = f[:, :1], f[:, 1:2], f[:, 2:]
    exponents = _squares(query - positive) + margin - _squares(query - negatives)
    # log(1 + sum exp) is the log-sum-exp with an additional exponent of 0.
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
    """Algorithm 1: whether each positive is mined, bool (T, M).

    A positive is mined if it is not farther from the mean of all positives than the nearest negative is. If no
    positive of a tuplet fulfils this, the positive nearest to the mean is mined.
    """
    center = f[:, :positives].mean(axis=1, keepdims=True)
    distances = _squares(f - center)
    own = distances[:, :positives]
    mined = own <= distances[:, positives:].min(axis=1, keepdims=True)
    none = ~mined.any(axis=1)
    mined[none, own[none].argmin(axis=1)] = True
    return mined


class Hinges(NamedTuple):
    """The constants of the hinges of Eq. (3) or Eq. (10)."""

    # (T, D) mean of the mined positives.
    center: np.ndarray
    # (T, K) weight of the hinge of each example in the sum.
    weights: np.ndarray
    # (K,) l(x) of Eq. (10): -1 for positives, 1 for negatives.
    signs: np.ndarray
    # (T, K) derivative of the center for each example: 1/M* for the M* mined positives of a tuplet, else 0.
    share: np.ndarray


def hinges(f: np.ndarray, mined: np.ndarray, joint: bool) -> Hinges:
    """The constants for M* mined positives and N negatives in each tuplet.

    mined: bool (T, M) from `mine`. joint=True: each of the N + M* hinges has the weight 1/(N + M*), Eq. (10).
    joint=False: the hinges of positives have the weight 1/M*, those of negatives 1/N, Eq. (3).
    """
    positives, count = mined.shape[1], mined.sum(axis=1, keepdims=True)
    negatives = f.shape[1] - positives
    share = np.zeros(f.shape[:2], f.dtype)
    share[:, :positives] = mined / count
    weights = np.empty_like(share)
    weights[:, :positives] = mined / (negatives + count if joint else count)
    weights[:, positives:] = 1 / (negatives + count) if joint else 1 / negatives
    signs = np.ones(f.shape[1], f.dtype)
    signs[:positives] = -1
    return Hinges(np.matmul(share[:, None], f)[:, 0], weights, signs, share)


def hinge_loss(scores: np.ndarray, constants: Hinges, margin: float) -> Tuple[float, np.ndarray]:
    """The sum of weight * max(0, sign * score + margin).

    scores: (T, K), H(f, c+) in Eq. (10) and T - D(f, c+) in Eq. (3). Returns the loss and its gradient for the scores,
    (T, K).
    """
    values = constants.signs * scores + margin
    return (constants.weights * np.maximum(values, 0)).sum(), constants.weights * constants.signs * (values > 0)


def fixed_clusters(f: np.ndarray, mined: np.ndarray, threshold: float, margin: float) -> Tuple[float, np.ndarray]:
    """(N+M)-tuplet clusters loss with fixed T and tau, Eq. (3).

    mined: bool (T, M) from `mine`; threshold: T; margin: tau. Returns the loss and its gradient for f, also through the
    center c+.
    """
    constants = hinges(f, mined, joint=False)
    difference = f - constants.center[:, None]
    loss, slopes = hinge_loss(threshold - _squares(difference), constants, margin / 2)
    gradient = -2 * slopes[:, :, None] * difference
    return loss, gradient - constants.share[:, :, None] * gradient.sum(axis=1, keepdims=True)


class Metric(NamedTuple):
    """H of Eq. (8): H(f, g) = s/2 |L_A f|^2 + s/2 |L_A g|^2 + (L_B f).(L_B g) + c.(f + g) + b, where s is a sign."""

    # L_A, (R, D).
    a: np.ndarray
    # L_B, (R, D).
    b: np.ndarray
    # c, (D,).
    linear: np.ndarray
    # b, (1,).
    constant: np.ndarray


def adaptive_clusters(f: np.ndarray, mined: np.ndarray, metric: Metric, sign: int) -> Tuple[float, np.ndarray, Metric]:
    """(N+M)-tuplet clusters loss with the learned metric and threshold, Eq. (10).

    mined: bool (T, M) from `mine`. sign: s of H. With 1, H is Eq. (8) as printed. With -1, A = -L_A^T L_A of Eq. (7) is
    negative semi-definite, so that H can be T - D, from which Eq. (7) is derived. Returns the loss, its gradient for f,
    also through the center c+, and its gradients for the metric.
    """
    constants = hinges(f, mined, joint=True)
    g = constants.center
    # One product of matrices for all tuplets is faster than one for each tuplet. L_B f is never computed, only
    # L_B^T L_B g: g has one row for each tuplet, f has one for each example.
    flat = f.reshape(-1, f.shape[2])
    af, ag, bg = flat @ metric.a.T, g @ metric.a.T, g @ metric.b.T
    bbg = bg @ metric.b
    scores = sign * (_squares(af).reshape(mined.shape[0], -1) + _squares(ag)[:, None]) / 2 + (
        np.matmul(f, (bbg + metric.linear)[:, :, None])[:, :, 0] + (g @ metric.linear)[:, None]) + metric.constant
    loss, slopes = hinge_loss(scores, constants, 1)
    slope = slopes.sum(axis=1, keepdims=True)
    # Sums over the examples of a tuplet, weighted by their slopes.
    weighted_f = np.matmul(slopes[:, None], f)[:, 0]
    weighted_bf = weighted_f @ metric.b.T
    sloped_af = sign * slopes.reshape(-1, 1) * af
    f_gradient = (sloped_af @ metric.a).reshape(f.shape) + slopes[:, :, None] * (bbg + metric.linear)[:, None]
    g_gradient = slope * (sign * (ag @ metric.a) + metric.linear) + weighted_bf @ metric.b
    gradients = Metric(
        sloped_af.T @ flat + (sign * slope * ag).T @ g,
        weighted_bf.T @ g + bg.T @ weighted_f,
        (weighted_f + slope * g).sum(axis=0),
        np.array([slopes.sum()], f.dtype))
    return loss, f_gradient + constants.share[:, :, None] * g_gradient[:, None], gradients


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Squared L2 norms along the last axis."""
    return np.einsum("...d,...d->...", vectors, vectors)
