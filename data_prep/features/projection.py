"""PCA, then LDA, block by block ([xie2019a] Eq. (4)). They are fitted on sums, so images need not be kept."""
import zipfile
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import scipy.linalg

from common.errors import UserError
from data_prep.features.sift import normalised

# "the eigenvectors with the accumulative contribution rate of 0.99" ([xie2019a] III-A).
CONTRIBUTION = 0.99
# Added to the within-class scatter, as a share of its mean variance: without it, the scatter of fewer images than
# dimensions has no inverse.
RIDGE = 1e-4
# Images whose second moments are added at a time, since the table of moments is larger than the images.
BATCH = 256


class Projection:
    """The projection of one feature.

    matrices: float32 (blocks, D, classes - 1); offsets: float32 (blocks, classes - 1), subtracted after the product.
    """

    def __init__(self, matrices: np.ndarray, offsets: np.ndarray):
        self.matrices, self.offsets = matrices, offsets

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Projects M descriptions, (M, blocks, D).

        Returns float32 (M, blocks * (classes - 1)), each row of L2 norm 1 ([xie2019a] Eq. (2)), or 0. Raises ValueError
        on another shape.
        """
        blocks, dimension, directions = self.matrices.shape
        if raw.shape[1:] != (blocks, dimension):
            raise ValueError(f"blocks of shape {raw.shape[1:]}, expected {(blocks, dimension)}")
        projected = np.matmul(raw.transpose(1, 0, 2).astype(np.float32), self.matrices) - self.offsets[:, None]
        return normalised(projected.transpose(1, 0, 2).reshape(len(raw), blocks * directions))

    def save(self, path: str) -> None:
        """Writes an .npz file."""
        with open(path, "wb") as stream:
            np.savez(stream, matrices=self.matrices, offsets=self.offsets)

    @classmethod
    def load(cls, path: str) -> "Projection":
        """Reads what `save` has written. Raises UserError that names the file if it holds no projection."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                matrices, offsets = arrays["matrices"], arrays["offsets"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: no projection: {error}") from None
        if matrices.ndim != 3 or offsets.shape != (matrices.shape[0], matrices.shape[2]):
            raise UserError(f"{path}: no projection: matrices {matrices.shape}, offsets {offsets.shape}")
        return cls(matrices, offsets)


class Fitter:
    """Collects the sums from which a projection is computed, in float64: for each block, the count and the sum of each
    class, and the second moments of all images.

    classes: their number; blocks: their number; dimension: length of a block's description.
    """

    def __init__(self, classes: int, blocks: int, dimension: int):
        self.counts = np.zeros(classes)
        self.sums = np.zeros((classes, blocks, dimension))
        self.moments = np.zeros((blocks, dimension, dimension))
        self._waiting, self._count = np.empty((BATCH, blocks, dimension), np.float32), 0

    def add(self, raw: np.ndarray, labels: Sequence[int]) -> None:
        """Adds M descriptions, (M, blocks, D), with their labels, (M)."""
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
        """Returns the projection to classes - 1 directions in each block, each of unit variance within the classes.

        Directions that the data do not have (an absent class, a block that never changes) give 0. threads: number of
        blocks computed at a time; it does not change the result.
        """
        self._add_moments()
        with futures.ThreadPoolExecutor(threads) as pool:
            matrices = np.stack(list(pool.map(self._block, range(len(self.moments)))))
        mean = self.sums.sum(axis=0) / max(self.counts.sum(), 1)
        offsets = np.matmul(mean[:, None], matrices)[:, 0]
        return Projection(matrices.astype(np.float32), offsets.astype(np.float32))

    def _block(self, block: int) -> np.ndarray:
        """The matrix of a block, float64 (D, classes - 1)."""
        count, classes = max(self.counts.sum(), 1), len(self.counts)
        present = self.counts > 0
        means = self.sums[present, block] / self.counts[present, None]
        mean = self.sums[:, block].sum(axis=0) / count
        total = self.moments[block] / count - np.outer(mean, mean)
        # The between-class scatter is deviations.T @ deviations.
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
    """The eigenvectors (D, N), largest first, that contribute CONTRIBUTION of the variance, and their variances (N);
    N is 0 where nothing varies."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    if values[0] <= 1e-12:
        return vectors[:, :0], values[:0]
    count = int(np.searchsorted(np.cumsum(values) / values.sum(), CONTRIBUTION)) + 1
    return vectors[:, :count], values[:count]


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Columns with their largest entry made positive, since the sign of an eigenvector is arbitrary."""
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1, 1)
