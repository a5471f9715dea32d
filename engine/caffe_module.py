"""A stand-in for pycaffe's module `caffe`, with which Python layers run unmodified.

It has what layers use: `Layer` and its blobs, TRAIN and TEST, the messages, and those functions of `caffe.io` that
convert arrays. engine/hosting.py puts it in the place of Caffe.
"""
import importlib.machinery
import operator
import sys
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from . import blobs, messages

Shape = Tuple[int, ...]


class Blob:
    """A blob as a Python layer sees it: its shape and two float32 arrays of this shape, `data` and `diff`.

    An array is made when it is first asked for: by its source, see `lend`, or of zeros.
    """

    def __init__(self) -> None:
        self._shape: Optional[Shape] = None  # it has no values yet
        self._sources: Dict[str, Callable[[], np.ndarray]] = {}
        self._arrays: Dict[str, np.ndarray] = {}

    def lend(self, shape: Shape, **sources: Callable[[], np.ndarray]) -> None:
        """Gives it a shape, and functions that make its arrays. What it had of these arrays is let go of."""
        self._shape = shape
        for kind, source in sources.items():
            self._sources[kind] = source
            self._arrays.pop(kind, None)

    def forget(self, *kinds: str) -> None:
        """Lets go of its arrays and their sources, so that they are zeros again."""
        for kind in kinds:
            self._sources.pop(kind, None)
            self._arrays.pop(kind, None)

    def asked(self, kind: str) -> Optional[np.ndarray]:
        """The array "data" or "diff", or None if the layer has not asked for it."""
        return self._array(kind) if kind in self._arrays else None

    def _array(self, kind: str) -> np.ndarray:
        array = self._arrays.get(kind)
        if array is None:
            array = self._sources[kind]() if kind in self._sources else np.zeros(self._memory, np.float32)
        if array.shape != self._memory:  # the layer has reshaped the blob; Caffe keeps the memory if it suffices
            flat, count = array.reshape(-1), self.count
            array = (flat[:count] if flat.size >= count else np.zeros(count, np.float32)).reshape(self._memory)
        self._arrays[kind] = array
        return array

    @property
    def _memory(self) -> Shape:
        return (0,) if self._shape is None else self._shape

    @property
    def data(self) -> np.ndarray:
        return self._array("data")

    @property
    def diff(self) -> np.ndarray:
        return self._array("diff")

    @property
    def shape(self) -> Shape:
        return self._shape or ()

    @property
    def count(self) -> int:
        return int(np.prod(self._memory))

    def reshape(self, *shape: int) -> None:
        shape = tuple(operator.index(size) for size in shape)
        if min(shape, default=0) < 0:
            raise ValueError(f"a blob cannot have the shape {shape}")
        self._shape = shape

    def _legacy(self, axis: int) -> int:
        if len(self.shape) > 4:
            raise ValueError(f"a blob of shape {self.shape} has more than four axes, so it has no num, channels, "
                             "height, width")
        return self.shape[axis] if axis < len(self.shape) else 1

    num = property(lambda self: self._legacy(0))
    channels = property(lambda self: self._legacy(1))
    height = property(lambda self: self._legacy(2))
    width = property(lambda self: self._legacy(3))


class Blobs(List[Blob]):
    """The list `self.blobs` of a layer."""

    def add_blob(self, *shape: int) -> None:
        made = Blob()
        made.reshape(*shape)
        self.append(made)


class Layer:
    """`caffe.Layer`. A layer defines setup, reshape, forward and backward."""

    type = "Python"
    blobs: Blobs
    param_str: str
    phase: int

    def __new__(cls, *arguments: Any, **options: Any) -> "Layer":
        made = super().__new__(cls)
        made.blobs = Blobs()
        return made

    def __init__(self, param: Any = None):
        """`param`: the LayerParameter."""


def datum_to_array(datum: Any) -> np.ndarray:
    """(channels, height, width): uint8 of the bytes of a Datum, or float64 of its floats."""
    values = np.frombuffer(datum.data, np.uint8).copy() if datum.data else np.array(datum.float_data, np.float64)
    return values.reshape(datum.channels, datum.height, datum.width)


def array_to_datum(arr: np.ndarray, label: Optional[int] = None) -> Any:
    """A Datum of an array (channels, height, width), with bytes if it is uint8, else with floats."""
    if arr.ndim != 3:
        raise ValueError("Incorrect array shape.")
    channels, height, width = arr.shape
    datum = messages.Datum(channels=channels, height=height, width=width)
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel())
    if label is not None:
        datum.label = label
    return datum


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """The values of a BlobProto, or its gradients, in its shape."""
    return np.array(blob.diff if return_diff else blob.data).reshape(blobs.shape_of(blob)[0])


def array_to_blobproto(arr: np.ndarray, diff: Optional[np.ndarray] = None) -> Any:
    """A BlobProto of an array of any shape, and of its gradients."""
    blob = messages.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).ravel())
    if diff is not None:
        blob.diff.extend(diff.astype(float).ravel())
    return blob


def _nothing(*arguments: Any) -> None:
    """Takes the place of set_mode_cpu and the like: it is the engine that chooses where a net computes."""


def _modules() -> Dict[str, ModuleType]:
    caffe, proto, io = (ModuleType(name, __doc__) for name in ("caffe", "caffe.proto", "caffe.io"))
    members: Dict[ModuleType, Dict[str, Any]] = {
        caffe: dict(Layer=Layer, TRAIN=messages.TRAIN, TEST=messages.TEST, proto=proto, io=io, **dict.fromkeys(
            ("set_mode_cpu", "set_mode_gpu", "set_device", "set_random_seed"), _nothing)),
        proto: dict(caffe_pb2=messages),
        io: dict(caffe_pb2=messages, datum_to_array=datum_to_array, array_to_datum=array_to_datum,
                 blobproto_to_array=blobproto_to_array, array_to_blobproto=array_to_blobproto)}
    for module, values in members.items():
        vars(module).update(values, __getattr__=_missing(module.__name__), __path__=[],
                            __spec__=importlib.machinery.ModuleSpec(module.__name__, None, is_package=True))
    return {"caffe": caffe, "caffe.proto": proto, "caffe.proto.caffe_pb2": sys.modules[messages.__name__],
            "caffe.io": io}


def _missing(module: str) -> Callable[[str], Any]:
    def missing(name: str) -> Any:
        raise AttributeError(f"the engine runs without Caffe and has no {module}.{name} for Python layers")
    return missing


MODULES = _modules()  # by name, as in sys.modules
