"""Sparse center loss as a Caffe layer."""
import numpy as np

from . import base, parameters
from .functions import sparse_center_loss


class SparseCenterLossLayer(base.LossLayer):
    """Sparse center loss, [farzaneh2021] Eq. (4). Without attention weights it is the center loss, Eq. (3).

    Bottoms: features x (M, D); labels (M), class indices; attention weights a (M, D), which may be left out and are
    then 1. Top: the loss, 1/(2M) sum_ij a_ij (x_ij - c_yi,j)^2. Both x and a have gradients.
    Parameter blob: the centers (C, D). Each backward pass itself moves them by alpha times Eq. (11) with epsilon 1.
    The learning rate, momentum, weight decay and loss weight have no effect on them. The blob needs
    `param { lr_mult: 0 decay_mult: 0 }`.
    Errors (ValueError): a label that is not a class index, attention weights of another size than the features.

    param_str, e.g. {"classes": 7}:
        classes        number of classes C
        alpha          learning rate of the centers (default 0.5)
        normalization  "batch" (default): the loss is divided by M; "none": it is summed over the batch
        seed           seed of the centers' initial values (default 0); they are He's, normal with mean 0 and variance
                       2 / C, as in the authors' own code
    """

    PARAMETERS = {"classes": parameters.integer(least=1),
                  "alpha": parameters.number(0, 1, default=0.5),
                  "normalization": base.LossLayer.NORMALIZATION,
                  "seed": parameters.integer(least=0, default=0)}

    def prepare(self, bottom, top):
        if len(bottom) not in (2, 3):
            raise ValueError(f"{len(bottom)} bottoms, expected 2 or 3: features, labels, optional attention "
                             "weights")
        dimensions, classes = bottom[0].count // bottom[0].shape[0], self.params.classes
        self.blobs.add_blob(classes, dimensions)
        self.blobs[0].data[...] = np.random.RandomState(self.params.seed).normal(
            0, np.sqrt(2.0 / classes), (classes, dimensions))

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if len(bottom) == 3 and (bottom[2].shape[0], bottom[2].count) != (bottom[0].shape[0], bottom[0].count):
            raise ValueError("the features are {}, the attention weights {}; expected the same size".format(
                "x".join(map(str, bottom[0].shape)), "x".join(map(str, bottom[2].shape))))

    def forward(self, bottom, top):
        x = base.rows(bottom[0].data)
        self.labels = base.class_indices(bottom[1].data, self.params.classes)
        self.attention = base.rows(bottom[2].data) if len(bottom) == 3 else np.ones_like(x)
        loss, self.difference = sparse_center_loss.forward(x, self.attention, self.labels, self.blobs[0].data)
        top[0].data[...] = loss / self.divisor(bottom)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[1]:
            base.no_gradient(bottom[1])
        scale = float(top[0].diff) / self.divisor(bottom)
        x_gradient, attention_gradient = sparse_center_loss.gradients(self.difference, self.attention)
        if propagate_down[0]:
            base.rows(bottom[0].diff)[...] = scale * x_gradient
        if len(bottom) == 3 and propagate_down[2]:
            base.rows(bottom[2].diff)[...] = scale * attention_gradient
        self.blobs[0].data[...] -= self.params.alpha * sparse_center_loss.center_steps(
            self.difference, self.attention, self.labels, self.params.classes)
