"""Handcrafted feature loss as a Caffe layer."""
import numpy as np

from layers import base, parameters
from layers.functions import feature_loss


class FeatureLossLayer(base.LossLayer):
    """Feature loss, [xie2019a] Eq. (1), with the decaying weight of Eq. (6).

    Bottoms: z (M, ...) deep features; h (M, ...) handcrafted features with as many values a row, in the same
    order, each row of L2 norm 1 (Eq. (2)). Top: the loss, rho^epochs / (p M) sum_i |z_i - |z_i|_2 h_i|_p^p.
    Parameter blob: the clock (2), whole passes over the training set and records seen in the present pass. It
    moves with each backward pass, survives a snapshot, and needs `param { lr_mult: 0 decay_mult: 0 }`.

    param_str, e.g. {"epoch_size": 28709, "rho": 0.98}:
        epoch_size     number of training records: one pass
        rho            factor on the loss after each pass (default 0.98)
        p              2 (default) or 1
        gradient       "paper" (default): Eq. (7), |z|_2 held constant; "exact": with its derivative
        normalization  "batch" (default): divided by M; "none": summed over the batch
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
            raise ValueError("the deep features are {}, the handcrafted ones {}; expected as many values".format(
                "x".join(map(str, bottom[0].shape)), "x".join(map(str, bottom[1].shape))))

    def scale(self, bottom) -> float:
        return feature_loss.decay(self.params.rho, self.blobs[0].data[0]) / self.divisor(bottom)

    def forward(self, bottom, top):
        loss, self.residual = feature_loss.forward(
            base.rows(bottom[0].data), base.rows(bottom[1].data), self.params.p)
        top[0].data[...] = loss * self.scale(bottom)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[1]:
            raise ValueError("handcrafted features have no gradient")
        if propagate_down[0]:
            gradient = feature_loss.gradient(base.rows(bottom[0].data), base.rows(bottom[1].data), self.residual,
                                             self.params.p, exact=self.params.gradient == "exact")
            np.multiply(gradient, float(top[0].diff) * self.scale(bottom), out=base.rows(bottom[0].diff))
        clock = self.blobs[0].data
        clock[...] = feature_loss.advance(int(clock[0]), int(clock[1]), bottom[0].shape[0],
                                          self.params.epoch_size)
