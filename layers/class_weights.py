"""Class weights, as the matrix that Caffe's InfogainLoss takes."""
import numpy as np

from . import base, parameters
from .functions import class_weights


class ClassWeightsLayer(base.Layer):
    """The diagonal matrix of the class weights, [xie2019a] Eq. (13). With it, Caffe's InfogainLoss is Eq. (14).

    Bottoms: none. Top: the matrix (C, C), which is the third bottom of InfogainLoss. The loss is then
    -1/M sum_i w_yi log softmax(logits_i)_yi. Like Caffe's softmax loss, it is divided by the batch size M.

    param_str, e.g. {"counts": [3995, 436, 4097, 7215, 4830, 3171, 4965]}:
        counts  number of training samples of each class
    """

    BOTTOMS = 0
    TOPS = 1
    PARAMETERS = {"counts": parameters.integers(least=1)}

    def reshape(self, bottom, top):
        top[0].reshape(len(self.params.counts), len(self.params.counts))

    def forward(self, bottom, top):
        top[0].data[...] = np.diag(class_weights.inverse(self.params.counts))
