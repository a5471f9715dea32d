"""Base classes of our layers: they parse the parameters, check the blobs, and print errors."""
import functools
import sys
from typing import Dict, Optional

import caffe
import numpy as np

from . import parameters


def _reporting(method):
    """Prints the exception of a method before raising it: Caffe aborts without printing it."""
    @functools.wraps(method)
    def reporting(self, *arguments):
        try:
            return method(self, *arguments)
        except Exception as error:
            name = getattr(self, "name", "") or "without a name"
            print(f"layer {name} ({type(self).__name__}): {error}", file=sys.stderr, flush=True)
            raise
    return reporting


class Layer(caffe.Layer):
    """Base class of our layers.

    A subclass lists its `param_str` keys in `PARAMETERS` and its number of blobs in `BOTTOMS` and `TOPS` (None allows
    any number). It overrides `prepare` in place of `setup`. Every layer also has the key `name`, its own name, for
    error messages: Caffe does not tell a Python layer its name.
    """

    PARAMETERS: Dict[str, parameters.Parameter] = {}
    BOTTOMS: Optional[int] = None
    TOPS: Optional[int] = None

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        for name in ("setup", "reshape", "forward", "backward"):
            if name in vars(cls):
                setattr(cls, name, _reporting(vars(cls)[name]))

    @_reporting
    def setup(self, bottom, top):
        self.name = ""
        self.params = parameters.parse(self.param_str, dict(self.PARAMETERS, name=parameters.text(default="")))
        self.name = self.params.name
        for kind, blobs, expected in (("bottoms", bottom, self.BOTTOMS), ("tops", top, self.TOPS)):
            if expected is not None and len(blobs) != expected:
                raise ValueError(f"{len(blobs)} {kind}, expected {expected}")
        self.prepare(bottom, top)

    def prepare(self, bottom, top):
        """Makes the parameter blobs. A subclass overrides it, also for its own checks; it raises ValueError."""

    def backward(self, top, propagate_down, bottom):
        if any(propagate_down):
            raise ValueError("this layer has no gradient")


class LossLayer(Layer):
    """Base class of losses of features: bottom[0] is the features (M, ...), top[0] is the loss, a scalar.

    `normalization` "batch" (default) divides the loss by the batch size M; "none" sums over the batch.
    """

    NORMALIZATION = parameters.choice("batch", "none", default="batch")
    TOPS = 1

    def reshape(self, bottom, top):
        top[0].reshape()

    def divisor(self, bottom) -> int:
        """The number by which the sum over the batch is divided."""
        return bottom[0].shape[0] if self.params.normalization == "batch" else 1


def no_gradient(blob) -> None:
    """Sets the gradient of labels or handcrafted features to 0. With `force_backward: true`, Caffe asks for it, but not
    of its own losses."""
    blob.diff[...] = 0


def rows(array: np.ndarray) -> np.ndarray:
    """A view of an array (M, ...) as (M, D), without a copy."""
    return array.reshape(len(array), -1)


def class_indices(labels: np.ndarray, classes: int) -> np.ndarray:
    """The labels of a blob as (M,) int64. Raises ValueError if a label is not an integer in [0, classes)."""
    indices = labels.ravel().astype(np.int64)
    wrong = (indices != labels.ravel()) | (indices < 0) | (indices >= classes)
    if wrong.any():
        raise ValueError(f"label {labels.ravel()[wrong][0]:g}, expected an integer from 0 to {classes - 1} "
                         f"({classes} classes)")
    return indices


def normalise(image: np.ndarray, mean: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
    """Writes (image - mean) * scale, float32. image: uint8 or float32. One image at a time, while it is in the
    processor's cache: over a whole batch, each step would wait for the memory."""
    out[...] = image  # alone, since NumPy is slow where one operation converts and computes
    np.subtract(out, mean, out=out)
    np.multiply(out, scale, out=out)
