"""Handcrafted feature loss as a Caffe layer."""
import numpy as np

from . import base, parameters
from .functions import feature_loss


class FeatureLossLayer(base.LossLayer):
    """Handcrafted feature loss, [xie2019a] Eq. (1), with the decaying weight of Eq. (6).

    Bottoms: deep features z (M, ...); handcrafted features h (M, ...), with the same number of values in each row, in
    the same order. Each row of h has L2 norm 1 (Eq. (2)).
    Top: the loss, rho^epochs / (p M) sum_i |z_i - |z_i|_2 h_i|_p^p.
    Parameter blob: the clock (2), which is the number of complete epochs and the number of records seen in the current
    epoch. Each backward pass advances it, and a snapshot saves it. It needs `param { lr_mult: 0 decay_mult: 0 }`.
    Errors (ValueError): z and h have different numbers of values.

    param_str, e.g. {"epoch_size": 28709, "rho": 0.98}:
        epoch_size     number of training records
        rho            factor on the loss after each epoch (default 0.98)
        p              2 (default) or 1
        gradient       "paper" (default): Eq. (7), which treats |z|_2 as a constant; "exact": with its derivative
        normalization  "batch" (default): the loss is divided by M; "none": it is summed over the batch
    """

    BOTTOMS = 2
    PARAMETERS = {"epoch_size": parameters.integer(least=1),
                  "rho": parameters.number(0, 1, default=0.98),
                  "p": parameters.choice(1, 2, default=2),
                  "gradient": parameters.choice("paper", "exact", default="paper"),
                  "normalization": base.LossLayer.NORMALIZATION}

    def prepare(self, bottom, top):
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 0

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if bottom[0].shape[0] != bottom[1].shape[0] or bottom[0].count != bottom[1].count:
            raise ValueError("the deep features are {}, the handcrafted features {}; expected the same size".format(
                "x".join(map(str, bottom[0].shape)), "x".join(map(str, bottom[1].shape))))

    def scale(self, bottom) -> float:
        return feature_loss.decay(self.params.rho, self.blobs[0].data[0]) / self.divisor(bottom)

    def forward(self, bottom, top):
        loss, self.residual = feature_loss.forward(
            base.rows(bottom[0].data), base.rows(bottom[1].data), self.params.p)
        top[0].data[...] = loss * self.scale(bottom)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[1]:
            base.no_gradient(bottom[1])
        if propagate_down[0]:
            gradient = feature_loss.gradient(base.rows(bottom[0].data), base.rows(bottom[1].data), self.residual,
                                             self.params.p, exact=self.params.gradient == "exact")
            np.multiply(gradient, float(top[0].diff) * self.scale(bottom), out=base.rows(bottom[0].diff))
        clock = self.blobs[0].data
        clock[...] = feature_loss.advance(int(clock[0]), int(clock[1]), bottom[0].shape[0],
                                          self.params.epoch_size)
