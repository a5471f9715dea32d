"""PCA, then LDA, block by block ([xie2019a] Eq. (4)), fitted on sums, so that no image need be kept."""
import zipfile
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import scipy.linalg

from common.errors import UserError
from data_prep.features.sift import normalised

# "the eigenvectors with the accumulative contribution rate of 0.99" ([xie2019a] III-A).
KEPT = 0.99
# Added to the within-class scatter, in shares of its mean variance: without it, fewer images than dimensions would
# leave it without an inverse.
RIDGE = 1e-4
# Images whose second moments are added at a time: the table of moments is larger than they are.
BATCH = 256


class Projection:
    """matrices: float32 (blocks, D, classes - 1); offsets: float32 (blocks, classes - 1)."""

    def __init__(self, matrices: np.ndarray, offsets: np.ndarray):
        self.matrices, self.offsets = matrices, offsets

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """raw: (M, blocks, D). Returns float32 (M, blocks * (classes - 1)), each row of L2 norm 1 (Eq. (2)) or 0."""
        blocks, dimension, directions = self.matrices.shape
        if raw.shape[1:] != (blocks, dimension):
            raise ValueError(f"blocks of shape {raw.shape[1:]}, expected {(blocks, dimension)}")
        projected = np.matmul(raw.transpose(1, 0, 2).astype(np.float32), self.matrices) - self.offsets[:, None]
        return normalised(projected.transpose(1, 0, 2).reshape(len(raw), blocks * directions))

    def save(self, path: str) -> None:
        with open(path, "wb") as stream:
            np.savez(stream, matrices=self.matrices, offsets=self.offsets)

    @classmethod
    def load(cls, path: str) -> "Projection":
        """Raises UserError that names the file where it holds no projection."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                matrices, offsets = arrays["matrices"], arrays["offsets"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: no projection: {error}") from None
        if matrices.ndim != 3 or offsets.shape != (matrices.shape[0], matrices.shape[2]):
            raise UserError(f"{path}: no projection: matrices {matrices.shape}, offsets {offsets.shape}")
        return cls(matrices, offsets)


class Fitter:
    """Collects the sums of which a projection is made: for each block, each class's number and sum, and the second
    moments of all, in float64. classes: number; blocks, dimension: of what is described."""

    def __init__(self, classes: int, blocks: int, dimension: int):
        self.counts = np.zeros(classes)
        self.sums = np.zeros((classes, blocks, dimension))
        self.moments = np.zeros((blocks, dimension, dimension))
        self._waiting, self._count = np.empty((BATCH, blocks, dimension), np.float32), 0

    def add(self, raw: np.ndarray, labels: Sequence[int]) -> None:
        """raw: (M, blocks, D); labels: (M)."""
        for label, description in zip(labels, raw):
            self.counts[label] += 1
            self.sums[label] += description
            self._waiting[self._count] = description
            self._count += 1
            if self._count == BATCH:
                self._add_moments()

    def _add_moments(self) -> None:
        for block, moments in enumerate(self.moments):
            described = self._waiting[:self._count, block].astype(np.float64)
            moments += described.T @ described
        self._count = 0

    def finish(self, threads: int = 1) -> Projection:
        """The projection to classes - 1 directions a block, each of unit variance within the classes. Directions
        that the data do not have (an absent class, a block that never changes) give 0. threads: blocks at a time; it
        changes no bit."""
        self._add_moments()
        with futures.ThreadPoolExecutor(threads) as pool:
            matrices = np.stack(list(pool.map(self._block, range(len(self.moments)))))
        mean = self.sums.sum(axis=0) / max(self.counts.sum(), 1)
        offsets = np.matmul(mean[:, None], matrices)[:, 0]
        return Projection(matrices.astype(np.float32), offsets.astype(np.float32))

    def _block(self, block: int) -> np.ndarray:
        """float64 (D, classes - 1)."""
        count, classes = max(self.counts.sum(), 1), len(self.counts)
        present = self.counts > 0
        means = self.sums[present, block] / self.counts[present, None]
        mean = self.sums[:, block].sum(axis=0) / count
        total = self.moments[block] / count - np.outer(mean, mean)
        # Between-class scatter is deviations.T @ deviations.
        deviations = np.sqrt(self.counts[present, None] / count) * (means - mean)
        basis, variances = _pca(total)
        directions = min(present.sum() - 1, len(variances))
        matrix = np.zeros((len(mean), classes - 1))
        if directions > 0:
            reduced = deviations @ basis
            within = np.diag(variances + RIDGE * variances.mean()) - reduced.T @ reduced
            # Where within = L L.T, the directions are L^-T u of the largest left singular vectors u of L^-1 reduced.T.
            lower = scipy.linalg.cholesky(within, lower=True)
            vectors, _, _ = np.linalg.svd(scipy.linalg.solve_triangular(lower, reduced.T, lower=True),
                                          full_matrices=False)
            matrix[:, :directions] = _signed(basis @ scipy.linalg.solve_triangular(
                lower, vectors[:, :directions], lower=True, trans="T"))
        return matrix


def _pca(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D, kept) eigenvectors, largest first, that hold 0.99 of the variance, and (kept) variances; none of what does
    not vary."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    if values[0] <= 1e-12:
        return vectors[:, :0], values[:0]
    kept = int(np.searchsorted(np.cumsum(values) / values.sum(), KEPT)) + 1
    return vectors[:, :kept], values[:kept]


def _signed(vectors: np.ndarray) -> np.ndarray:
    """An eigenvector's sign is arbitrary: here its largest entry is positive."""
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1, 1)
