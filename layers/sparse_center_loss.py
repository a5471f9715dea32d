"""Sparse center loss as a Caffe layer."""
import numpy as np

from layers import base, parameters
from layers.functions import sparse_center_loss


class SparseCenterLossLayer(base.LossLayer):
    """Sparse center loss, [farzaneh2021] Eq. (4); center loss, Eq. (3), where no attention weights are given.

    Bottoms: x (M, D) features; labels (M) class indices; attention weights (M, D), which may be left out: they
    are 1 then. Top: the loss, 1/(2M) sum_ij a_ij (x_ij - c_yi,j)^2. Gradients for x and for the weights.
    Parameter blob: the centers (C, D). Each backward pass moves them itself, by alpha times Eq. (11) with
    epsilon 1: no learning rate, momentum, weight decay or loss weight enters. So the blob needs
    `param { lr_mult: 0 decay_mult: 0 }`.
    Errors: a label that is no class index, or attention weights of another size, stop the training.

    param_str, e.g. {"classes": 7}:
        classes        number of classes C
        alpha          rate of the centers (default 0.5)
        normalization  "batch" (default): the loss is divided by M; "none": it is not
        seed           of the centers' initial values, He's N(0, 2 / C), as in the authors' own code
    """

    PARAMETERS = {"classes": parameters.integer(least=1),
                  "alpha": parameters.number(0, 1, default=0.5),
                  "normalization": base.LossLayer.NORMALIZATION,
                  "seed": parameters.integer(least=0, default=0)}

    def prepare(self, bottom, top):
        if len(bottom) not in (2, 3):
            raise ValueError(f"{len(bottom)} bottoms, expected features, labels and, where there are such, attention "
                             "weights")
        dimensions, classes = bottom[0].count // bottom[0].shape[0], self.params.classes
        self.blobs.add_blob(classes, dimensions)
        self.blobs[0].data[...] = np.random.RandomState(self.params.seed).normal(
            0, np.sqrt(2.0 / classes), (classes, dimensions))

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if len(bottom) == 3 and (bottom[2].shape[0], bottom[2].count) != (bottom[0].shape[0], bottom[0].count):
            raise ValueError("the features are {}, the attention weights {}; expected as many values".format(
                "x".join(map(str, bottom[0].shape)), "x".join(map(str, bottom[2].shape))))

    def forward(self, bottom, top):
        x = base.rows(bottom[0].data)
        self.labels = base.class_indices(bottom[1].data, self.params.classes)
        self.attention = base.rows(bottom[2].data) if len(bottom) == 3 else np.ones_like(x)
        loss, self.difference = sparse_center_loss.forward(x, self.attention, self.labels, self.blobs[0].data)
        top[0].data[...] = loss / self.divisor(bottom)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[1]:
            raise ValueError("labels have no gradient")
        scale = float(top[0].diff) / self.divisor(bottom)
        of_x, of_attention = sparse_center_loss.gradients(self.difference, self.attention)
        if propagate_down[0]:
            base.rows(bottom[0].diff)[...] = scale * of_x
        if len(bottom) == 3 and propagate_down[2]:
            base.rows(bottom[2].diff)[...] = scale * of_attention
        self.blobs[0].data[...] -= self.params.alpha * sparse_center_loss.center_steps(
            self.difference, self.attention, self.labels, self.params.classes)
