"""The losses of tuplets, [liu2017] Section 3, as Caffe layers."""
import numpy as np

from . import base, parameters
from .functions import tuplet_loss


class _TupletLayer(base.LossLayer):
    """Bottom: the features of T tuplets, (T * K, D), one tuplet after the other. Each tuplet has K = M + N rows: M
    positives (the first one is the query), then N negatives.
    Top: the loss, divided by T (normalization "batch", default) or summed over the tuplets ("none").
    Errors (ValueError): the number of rows is not a multiple of K.

    A subclass defines `loss`. It takes features (T, K, D), and returns the loss, summed over the tuplets, and its
    gradient for the features, (T, K, D).
    """

    BOTTOMS = 1

    @property
    def positives(self) -> int:
        return self.params.positives

    @property
    def negatives(self) -> int:
        return self.params.negatives

    @property
    def tuplet_size(self) -> int:
        return self.positives + self.negatives

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if bottom[0].shape[0] % self.tuplet_size:
            raise ValueError(f"{bottom[0].shape[0]} features, expected a multiple of {self.positives} + "
                             f"{self.negatives}")

    def divisor(self, bottom) -> int:
        return bottom[0].shape[0] // self.tuplet_size if self.params.normalization == "batch" else 1

    def forward(self, bottom, top):
        loss, self.gradient = self.loss(base.rows(bottom[0].data).reshape(
            -1, self.tuplet_size, bottom[0].count // bottom[0].shape[0]))
        top[0].data[...] = loss / self.divisor(bottom)

    def backward(self, top, propagate_down, bottom):
        scale = float(top[0].diff) / self.divisor(bottom)
        self.add_parameter_gradients(scale)
        if propagate_down[0]:
            base.rows(bottom[0].diff)[...] = scale * base.rows(self.gradient.reshape(bottom[0].shape))

    def add_parameter_gradients(self, scale: float) -> None:
        """Adds the gradients of the parameter blobs to their diffs. scale: factor on the gradients of the loss, which
        is summed over the tuplets."""


class TupletLossLayer(_TupletLayer):
    """(N+1)-tuplet loss, [liu2017] Eq. (1), with squared Euclidean distances. M is 2: the query and one positive.

    param_str, e.g. {"negatives": 6}:
        negatives      number of negatives in a tuplet, N - 1 in Eq. (1)
        tau            margin (default 2, because tau/2 = 1 in Eq. (10))
        normalization  "batch" (default): the loss is divided by the number of tuplets; "none": it is summed over them
    """

    PARAMETERS = {"negatives": parameters.integer(least=1),
                  "tau": parameters.number(0, default=2),
                  "normalization": base.LossLayer.NORMALIZATION}
    positives = 2

    def loss(self, features):
        return tuplet_loss.tuplet(features, self.params.tau)


class FixedClustersLossLayer(_TupletLayer):
    """(N+M)-tuplet clusters loss, [liu2017] Eq. (3), with squared Euclidean distances and fixed T and tau.

    Algorithm 1 mines the positives. Gradients also flow through the center of the mined positives.

    param_str, e.g. {"positives": 6, "negatives": 6, "threshold": 1, "tau": 0.5}:
        positives      M, including the query
        negatives      N
        threshold      T, the reference distance
        tau            width of the margin, from T - tau/2 to T + tau/2
        normalization  "batch" (default): the loss is divided by the number of tuplets; "none": it is summed over them
    """

    PARAMETERS = {"positives": parameters.integer(least=1),
                  "negatives": parameters.integer(least=1),
                  "threshold": parameters.number(0),
                  "tau": parameters.number(0),
                  "normalization": base.LossLayer.NORMALIZATION}

    def loss(self, features):
        mined = tuplet_loss.mine(features, self.positives)
        return tuplet_loss.fixed_clusters(features, mined, self.params.threshold, self.params.tau)


class AdaptiveClustersLossLayer(_TupletLayer):
    """(N+M)-tuplet clusters loss with the adaptive metric, [liu2017] Eq. (10) with H of Eq. (7) and (8).

    Algorithm 1 mines the positives with squared Euclidean distances. Gradients also flow through the center of the
    mined positives. Parameter blobs: L_A (R, D), L_B (R, D), c (D), b (1). The solver learns them like all weights.

    H(f, g) = 1/2 f.A f + 1/2 g.A g + f.B g + c.(f + g) + b, Eq. (7). Eq. (8) prints A = L_A^T L_A and B = L_B^T L_B,
    both positive semi-definite. But H is derived as T - D, a threshold minus a distance. T - |f - g|^2 has A = -2 and
    B = 2 times the identity, which Eq. (8) cannot express. So there is also a metric with A = -L_A^T L_A.

    param_str, e.g. {"positives": 6, "negatives": 6}:
        positives      M, including the query
        negatives      N
        metric         "printed" (default): A = L_A^T L_A, as in Eq. (8); "consistent": A = -L_A^T L_A, so that H can be
                       T - D; B = L_B^T L_B with both
        rank           R (default 0, which means D)
        seed           seed of the initial L_A and L_B (default 0); they are those of Caffe's xavier filler, U(-s, s)
                       with s = sqrt(3 / D); c and b start at 0
        normalization  "batch" (default): the loss is divided by the number of tuplets; "none": it is summed over them
    """

    PARAMETERS = {"positives": parameters.integer(least=1),
                  "negatives": parameters.integer(least=1),
                  "metric": parameters.choice("printed", "consistent", default="printed"),
                  "rank": parameters.integer(least=0, default=0),
                  "seed": parameters.integer(least=0, default=0),
                  "normalization": base.LossLayer.NORMALIZATION}

    def prepare(self, bottom, top):
        dimensions = bottom[0].count // bottom[0].shape[0]
        rank = self.params.rank or dimensions
        scale = np.sqrt(3.0 / dimensions)
        random = np.random.RandomState(self.params.seed)
        for number, shape in enumerate(((rank, dimensions), (rank, dimensions), (dimensions,), (1,))):
            self.blobs.add_blob(*shape)
            self.blobs[number].data[...] = random.uniform(-scale, scale, shape) if len(shape) == 2 else 0

    def loss(self, features):
        mined = tuplet_loss.mine(features, self.positives)
        metric = tuplet_loss.Metric(*(blob.data for blob in self.blobs))
        sign = 1 if self.params.metric == "printed" else -1
        loss, gradient, self.metric_gradients = tuplet_loss.adaptive_clusters(features, mined, metric, sign)
        return loss, gradient

    def add_parameter_gradients(self, scale):
        gradients = self.metric_gradients
        for blob, gradient in zip(self.blobs, (gradients.a, gradients.b, gradients.linear, gradients.constant)):
            blob.diff[...] += scale * gradient
