"""Layers that do another thing in one of several processes."""
import os
import time

import caffe
import numpy as np


class InRank1(caffe.Layer):
    """Hands its bottom on, a loss. In the third pass of rank 1 it does what `param_str` says: "raise", "exit", "hang"
    (which raises while rank 0 does not go on), or else a loss of another value."""

    passes = 0

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
        self.passes += 1
        if os.environ.get("RANK") == "0" and self.passes == 3 and self.param_str == "hang":
            time.sleep(1000)
        if os.environ.get("RANK") == "1" and self.passes == 3:
            if self.param_str in ("raise", "hang"):
                raise ValueError("wrong\nhere")
            if self.param_str == "exit":
                os._exit(7)
            top[0].data[...] += 1

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff


class Drawn(caffe.Layer):
    """Random numbers of NumPy without a seed."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(5, 4)

    def forward(self, bottom, top):
        top[0].data[...] = np.random.standard_normal((5, 4))

    def backward(self, top, propagate_down, bottom):
        pass
