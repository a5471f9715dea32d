"""Support vector machines (LIBSVM, by scikit-learn) on kernel matrices that are computed once for all fits."""
import datetime
import sys
from collections.abc import Mapping
from typing import Optional

import numpy as np
from sklearn.svm import SVC

from common import children, machine, progress
from common.errors import UserError
from tools.training.caffe_process import all_cores

GAMMAS = (0.5, 1.0, 2.0, 4.0)
COSTS = (1.0, 3.0, 10.0)
# Bytes of a value of the kernel matrix: the product in float32, and LIBSVM's float64.
GRAM_BYTES = 4 + 8
# Rows of the kernel matrix that are computed at a time.
BLOCK = 1024
# LIBSVM's memory for rows of the kernel matrix, of each fit.
CACHE_MB = 1000


class Kernels:
    """The kernel matrices of the images of a split with the training images.

    vectors: split -> float32 (M, D); one of the splits is "train".
    """

    def __init__(self, vectors: Mapping[str, np.ndarray]):
        self._products = {split: own @ vectors["train"].T for split, own in vectors.items()}
        self._norms = {split: (own ** 2).sum(axis=1) for split, own in vectors.items()}

    def matrix(self, split: str, gamma: Optional[float]) -> np.ndarray:
        """float64 (M, training images): linear if gamma is None, else RBF."""
        products, norms = self._products[split], self._norms[split]
        result = np.empty(products.shape)
        # In blocks: the matrices of the differences would be as large as the result.
        for start in range(0, len(products), BLOCK):
            rows = slice(start, start + BLOCK)
            if gamma is None:
                result[rows] = products[rows]
            else:
                distances = norms[rows, None] + self._norms["train"][None, :] - 2 * products[rows]
                np.exp(-gamma * np.maximum(distances, 0), out=result[rows], dtype=np.float64)
        return result


def fitted(matrix: np.ndarray, labels: np.ndarray, cost: float) -> SVC:
    """matrix: of the training images; labels: their classes."""
    return SVC(C=cost, kernel="precomputed", cache_size=CACHE_MB).fit(matrix, labels)


def tuned(name: str, kernels: Kernels, labels: Mapping[str, np.ndarray], seconds: float) -> tuple[SVC, float, float]:
    """The SVM with the RBF kernel that is best on the validation split, the first of equal ones; its gamma and its
    cost.

    name: of the features, for messages; labels: classes of the images of the splits; seconds: about how long one fit
    takes.
    """
    at_a_time = side_by_side(len(labels["train"]))
    rounds = len(GAMMAS) * -(-len(COSTS) // at_a_time)
    print(f"fer: {name}: tuning fits {len(GAMMAS) * len(COSTS)} SVMs, {at_a_time} at a time: about "
          f"{datetime.timedelta(seconds=round(seconds * rounds))}", file=sys.stderr, flush=True)
    found: list[tuple[SVC, float, float]] = []
    most = -1
    with progress.bar(f"{name}: tuning", len(GAMMAS) * len(COSTS)) as bar:
        for gamma in GAMMAS:
            train, val = kernels.matrix("train", gamma), kernels.matrix("val", gamma)

            def fit(cost, train=train, val=val):
                svc = fitted(train, labels["train"], cost)
                return svc, int((svc.predict(val) == labels["val"]).sum())

            for cost, (svc, right) in zip(COSTS, children.in_order(at_a_time, lambda: None, (), fit, COSTS)):
                if right > most:
                    found, most = [(svc, gamma, cost)], right
                bar.update()
    return found[0]


def side_by_side(count: int) -> int:
    """How many SVMs for this many training images are fitted at a time, as memory allows. They share the kernel
    matrix."""
    free = machine.memory()[1] - GRAM_BYTES * count ** 2
    return max(1, min(all_cores().threads, len(COSTS), int(free / (CACHE_MB * 1e6))))


def require_memory(data: str, count: int) -> None:
    """Raises UserError, which names the data, if the kernel matrix of this many training images does not fit."""
    needed, available = GRAM_BYTES * count ** 2, machine.memory()[1]
    if needed > available:
        raise UserError(f"{data}: the kernel matrix of {count} training images needs {needed / 1e9:.1f} GB of "
                        f"memory, {available / 1e9:.1f} GB are available; --limit N uses fewer images")
