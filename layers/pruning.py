"""Connection pruning as a Caffe layer."""
import numpy as np

from . import base, parameters
from .functions import pruning


class PruningLayer(base.Layer):
    """Prunes the weakest connections of the InnerProduct layer after it, once, and keeps their weights at exactly 0.

    The layer works in place on the input of the InnerProduct layer and does not change it. Both layers share the
    weights through `param { name: ... }`. The first forward pass sets the weights of least magnitude to 0 ([xie2019b]
    ref. [26]: Yu et al., ICASSP 2012). Each backward pass sets their gradients to 0. If that forward pass is the first
    one of the training, these weights have no momentum yet, so the solver does not change them.

    Bottom and top: (M, ...), the same blob. Parameter blobs: the weights (outputs, inputs), and the mask
    (outputs, inputs), which is 1 for the remaining connections and all 0 before the first forward pass. A snapshot
    saves the mask. It needs `param { lr_mult: 0 decay_mult: 0 }`. This layer also fills the weights, because it is the
    first layer that names them.

    param_str, e.g. {"outputs": 512, "share": 0.3}:
        outputs  number of outputs of the InnerProduct layer
        share    share of the connections to prune, from 0 to 1
        seed     seed of the weights' initial values (default 0); they are those of Caffe's xavier filler, U(-s, s)
                 with s = sqrt(3 / inputs)
    """

    BOTTOMS = TOPS = 1
    PARAMETERS = {"outputs": parameters.integer(least=1),
                  "share": parameters.number(0, 1),
                  "seed": parameters.integer(least=0, default=0)}

    def prepare(self, bottom, top):
        inputs = bottom[0].count // bottom[0].shape[0]
        for _ in ("weights", "mask"):
            self.blobs.add_blob(self.params.outputs, inputs)
        scale = np.sqrt(3.0 / inputs)
        self.blobs[0].data[...] = np.random.RandomState(self.params.seed).uniform(
            -scale, scale, (self.params.outputs, inputs))
        self.blobs[1].data[...] = 0

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        weights, mask = self.blobs[0].data, self.blobs[1].data
        if not mask.any():
            mask[...] = pruning.mask(weights, self.params.share)
            weights *= mask

    def backward(self, top, propagate_down, bottom):
        # The InnerProduct layer comes later in the net, so it has already added its gradient.
        self.blobs[0].diff[...] *= self.blobs[1].data
