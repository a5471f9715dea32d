"""Sparseness loss as a Caffe layer."""
import numpy as np

from . import base, parameters
from .functions import sparseness_loss

# All weights have this value until Caffe has shared them with an earlier layer.
UNSHARED = np.finfo(np.float32).min


class SparsenessLossLayer(base.LossLayer):
    """Sparseness loss of features or of weights, [xie2019b] Eq. (4), with the mean over the batch of Eq. (2).

    Features. Bottoms: any number of blobs (M, ...), all with the same M. Top: the loss, 1/(p M) times the sum of
    |x_i|_p^p over all samples i and all bottoms. "same" and "divided" are the coefficients of Table 3.

    Weights. No bottoms; the key `shape` is given. Top: the loss, 1/p |W|_p^p. Parameter blob: the weights W, shared
    with an earlier layer through `param { name: ... }`. Their gradient is added to those of the other layers, so the
    loss is right with any `iter_size`. It comes in addition to the solver's weight decay.

    The gradient for p = 1 is 0 where a value is 0.
    Errors (ValueError): bottoms with different M, both or neither of bottoms and `shape`, weights that no earlier layer
    has. Caffe itself refuses another shape than that of the earlier layer.

    param_str, e.g. {"p": 2} for features, {"p": 1, "shape": [512, 12800]} for weights:
        p              2 (default) or 1
        normalization  of features: "batch" (default), the loss is divided by M; "none", it is summed over the batch
        coefficient    of features: "same" (default), each bottom has the full loss weight; "divided", the loss weight
                       divided by the number of bottoms
        shape          of weights: the shape of the blob of the earlier layer, such as [outputs, inputs]
    """

    PARAMETERS = {"p": parameters.choice(1, 2, default=2),
                  "normalization": parameters.choice("batch", "none", default=None),
                  "coefficient": parameters.choice("same", "divided", default=None),
                  "shape": parameters.integers(least=1, default=[])}

    def prepare(self, bottom, top):
        if len(bottom) > 0 and self.params.shape:
            raise ValueError(f"param_str: 'shape' is for weights, expected no bottoms, found {len(bottom)}")
        if len(bottom) == 0 and not self.params.shape:
            raise ValueError("no bottoms, expected features as bottoms, or the shape of weights as key 'shape'")
        for key in ("normalization", "coefficient"):
            if self.params.shape and getattr(self.params, key) is not None:
                raise ValueError(f"param_str: {key!r} is for features, but 'shape' is for weights")
        self.params.normalization = self.params.normalization or "batch"
        self.shared = False
        if self.params.shape:
            self.blobs.add_blob(*self.params.shape)
            self.blobs[0].data[...] = UNSHARED

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        sizes = [bottom[number].shape[0] for number in range(len(bottom))]
        if len(set(sizes)) > 1:
            raise ValueError("the bottoms have batches of {}, expected the same size".format(
                ", ".join(map(str, sizes))))

    def scale(self, bottom) -> float:
        """The factor on the sum over all values."""
        if self.params.shape:
            return 1
        return 1 / self.divisor(bottom) / (len(bottom) if self.params.coefficient == "divided" else 1)

    def forward(self, bottom, top):
        arrays = [self.weights()] if self.params.shape else [bottom[number].data for number in range(len(bottom))]
        top[0].data[...] = self.scale(bottom) * sum(
            sparseness_loss.forward(array, self.params.p) for array in arrays)

    def backward(self, top, propagate_down, bottom):
        scale = float(top[0].diff) * self.scale(bottom)
        for number in range(len(bottom)):
            if propagate_down[number]:
                gradient = sparseness_loss.gradient(bottom[number].data, self.params.p)
                np.multiply(gradient, scale, out=bottom[number].diff)
        if self.params.shape:
            self.blobs[0].diff[...] += scale * sparseness_loss.gradient(self.blobs[0].data, self.params.p)

    def weights(self) -> np.ndarray:
        """The weights. Caffe shares blobs after it has set up all layers, so the first forward pass checks it."""
        weights = self.blobs[0].data
        if not self.shared and (weights == UNSHARED).all():
            raise ValueError("no earlier layer has these weights, expected the name of its weights in `param { name }`")
        self.shared = True
        return weights
