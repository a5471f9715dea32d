"""Connection pruning as a Caffe layer."""
import numpy as np

from layers import base, parameters
from layers.functions import pruning


class PruningLayer(base.Layer):
    """Cuts the weakest connections of the InnerProduct after it, once, and holds them at exactly zero.

    It stands in place on the input of that layer, which it passes on, and shares that layer's weights by
    `param { name: ... }`. The first forward pass of a training sets the share of the weights of least magnitude to 0;
    each backward pass zeroes their gradients. Where that forward pass is the training's first, momentum has never
    moved them, so the solver leaves them where they are.

    Bottom and top: (M, ...), the same blob. Parameter blobs: the weights (outputs, inputs), and the mask
    (outputs, inputs): 1 for what is kept, all 0 before the first forward pass. The mask survives a snapshot and
    needs `param { lr_mult: 0 decay_mult: 0 }`. As the first to name the weights, this layer also fills them.

    param_str, e.g. {"outputs": 512, "share": 0.3}:
        outputs  of the InnerProduct
        share    of the connections that are cut
        seed     of the weights' initial values, Caffe's xavier filler: U(-s, s), s = sqrt(3 / inputs)
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
        # The InnerProduct comes later in the net, so its gradient is here already.
        self.blobs[0].diff[...] *= self.blobs[1].data
