"""Center loss as a Caffe layer."""
import numpy as np

from . import base, parameters
from .functions import center_loss


class CenterLossLayer(base.LossLayer):
    """Center loss, [xie2019a] Eq. (1). It computes the same as the layer of Wen et al. (ECCV 2016).

    Bottoms: features x (M, D); labels (M), class indices. Top: the loss, 1/(2M) sum_i |x_i - c_yi|^2.
    Parameter blob: the centers (C, D). They are an ordinary learnable blob: the solver's learning rate, momentum and
    weight decay act on them. Their only "alpha" is lr_mult. `center_loss.center_steps` takes the place of their
    gradient.
    Errors (ValueError): a label that is not a class index.

    param_str, e.g. {"classes": 7}:
        classes        number of classes C
        normalization  "batch" (default): the loss is divided by M; "none": it is summed over the batch
        seed           seed of the centers' initial values (default 0)
        initial        [low, high]: the initial values are uniform in this range; by default they are those of Caffe's
                       xavier filler, U(-s, s) with s = sqrt(3 / D)
    """

    BOTTOMS = 2
    PARAMETERS = {"classes": parameters.integer(least=1),
                  "normalization": base.LossLayer.NORMALIZATION,
                  "seed": parameters.integer(least=0, default=0),
                  "initial": parameters.numbers(default=None)}

    def prepare(self, bottom, top):
        dimensions = bottom[0].count // bottom[0].shape[0]
        scale = np.sqrt(3.0 / dimensions)
        initial = [-scale, scale] if self.params.initial is None else self.params.initial
        if len(initial) != 2 or initial[0] > initial[1]:
            raise ValueError(f"param_str: 'initial' is {initial}, expected [low, high]")
        self.blobs.add_blob(self.params.classes, dimensions)
        self.blobs[0].data[...] = np.random.RandomState(self.params.seed).uniform(
            *initial, (self.params.classes, dimensions))

    def forward(self, bottom, top):
        self.labels = base.class_indices(bottom[1].data, self.params.classes)
        loss, self.difference = center_loss.forward(
            base.rows(bottom[0].data), self.labels, self.blobs[0].data)
        top[0].data[...] = loss / self.divisor(bottom)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[1]:
            base.no_gradient(bottom[1])
        self.blobs[0].diff[...] += center_loss.center_steps(self.difference, self.labels, self.params.classes)
        if propagate_down[0]:
            scale = float(top[0].diff) / self.divisor(bottom)
            base.rows(bottom[0].diff)[...] = scale * self.difference
