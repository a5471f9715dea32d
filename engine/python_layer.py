"""Hosts Python layers of Caffe: classes derived from `caffe.Layer`, with NumPy arrays for blobs."""
import functools
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import torch

from common import suggestions
from common.errors import UserError

from . import ahead, hosting
from .caffe_module import Blob, Blobs
from .caffe_module import Layer as Hosted
from .layer import Layer, Shape

Tensors = Tuple[Optional[torch.Tensor], ...]
State = Tuple[bytes, ...]  # the values of a layer's parameters


class Python(Layer):
    """Runs a Python layer.

    On the processor the arrays of bottoms and of parameters are views of the tensors, on a card they are copies, made
    when the layer asks for them; those of parameters are copied back. As in Caffe, `diff` of a parameter is where all
    layers that share it add their gradients, and later layers have done so before. Unlike in Caffe, `diff` of a bottom
    is 0 before each pass, not what an earlier pass left there. A change of a bottom's `data` does not reach other
    layers on a card; it does if the layer works in place.

    A layer whose parameters are nothing but its state runs ahead, in a thread of its own: it has no bottoms, and each
    of its parameters has `lr_mult: 0` in the prototxt, no name, and no other net that shares it. Such a layer works on
    a copy of its state; `blobs` is the state after the batch that was used. It makes each batch once, in their order.
    Where `blobs` was changed from outside, by a file of weights, say, the batches made ahead are thrown away, and the
    layer goes on from there. A layer without parameters hides its position, and nobody knows what it depends on, so it
    runs when its batch is needed, as in Caffe. Nothing runs ahead in a process that has loaded Caffe, see hosting.py.
    Errors (UserError): the module or the class does not exist; what the layer raises, which is the __cause__.
    """

    MESSAGE = "python_param"
    FIELDS = ("module", "layer", "param_str", "share_in_parallel")
    BOTTOMS = (0, None)
    TOPS = (0, None)

    def setup(self, shapes: List[Shape]) -> None:
        self.bottom = Blobs(Blob() for _ in shapes)
        for blob, shape in zip(self.bottom, shapes):
            blob.reshape(*shape)
        in_place = dict(zip(self.param.bottom, self.bottom))
        self.top = Blobs(in_place.get(name) or Blob() for name in self.param.top)
        self.hosted = self._make()
        self._call("setup", self.bottom, self.top)
        self._call("reshape", self.bottom, self.top)
        self._chain = ahead.Chain() if self._has_only_state() else None
        self.blobs = [torch.from_numpy(blob.data).to(self.context.device) for blob in self.hosted.blobs]

    def _has_only_state(self) -> bool:
        specs = self.param.param
        return (not self.bottom and len(self.top) > 0 and len(specs) == len(self.hosted.blobs) > 0
                and all(spec.lr_mult == 0 and not spec.name for spec in specs))

    def _make(self) -> Hosted:
        name, kind = self.param.python_param.module, self.param.python_param.layer
        try:
            module = hosting.load(name)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
                self.fail(f"there is no module {name} on PYTHONPATH or in the current folder", error)
            self.fail(f"module {name} cannot be imported: {_text(error)}", error)
        made = getattr(module, kind, None)
        if not (isinstance(made, type) and issubclass(made, Hosted)):
            kinds = [key for key, value in vars(module).items()
                     if isinstance(value, type) and issubclass(value, Hosted)]
            self.fail(f"module {name}: {suggestions.unknown('class derived from caffe.Layer', kind, kinds)}")
        try:
            with hosting.hosting():
                hosted = made(self.param)
        except Exception as error:
            self.fail(f"{name}.{kind}: {_text(error)}", error)
        # Older forks have the name param_str_.
        hosted.param_str = hosted.param_str_ = self.param.python_param.param_str  # type: ignore
        hosted.phase = self.context.phase
        return hosted

    def _call(self, method: str, *arguments: Any) -> None:
        try:
            with hosting.hosting():
                getattr(self.hosted, method)(*arguments)
        except Exception as error:
            settings = self.param.python_param
            self.fail(f"{settings.module}.{settings.layer}.{method}: {_text(error)}", error)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        if [blob.shape for blob in self.bottom] != shapes:
            for blob, shape in zip(self.bottom, shapes):
                blob.lend(shape)
            self._call("reshape", self.bottom, self.top)
        return [blob.shape for blob in self.top]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        if self._chain:
            return self._take_batch(self._chain)
        # The parameters are inputs, so that a layer without a bottom that has a gradient has a backward pass, too.
        tops = list(_Function.apply(self, *bottoms, *self.blobs)) if self.top else self.run_forward(bottoms)
        if not any(top.requires_grad for top in tops):
            self._let_go()
        return tops

    def _take_batch(self, chain: ahead.Chain) -> List[torch.Tensor]:
        depth = 0 if self.shared or hosting.beside_caffe() else ahead.DEPTH
        tops, state = chain.get(self._make_batch, tuple(_view(blob).tobytes() for blob in self.blobs), depth)
        for blob, raw in zip(self.blobs, state):
            blob.copy_(torch.from_numpy(_array_of(raw, blob)))
        return [top.to(self.context.device, non_blocking=True) for top in tops]

    def _make_batch(self, state: State) -> Tuple[List[torch.Tensor], State]:
        """The tops of the batch at a position, and the position after it. It runs in another thread."""
        arrays = [_array_of(raw, blob) for raw, blob in zip(state, self.blobs)]
        for blob, array in zip(self.hosted.blobs, arrays):
            blob.forget("diff")
            blob.lend(array.shape, data=functools.partial(np.asarray, array))
        self._call("reshape", self.bottom, self.top)
        self._call("forward", self.bottom, self.top)
        return ([ahead.to_send(blob.data, self.context.device, kept=False) for blob in self.top],
                tuple(array.tobytes() for array in arrays))

    def run_forward(self, bottoms: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        """The tops, computed by the layer."""
        for blob, tensor in zip(self.bottom, bottoms):
            array = functools.partial(_copy if blob in self.top else _array, tensor)
            blob.forget("diff")
            blob.lend(tuple(tensor.shape), data=array)
        self._lend_parameters()
        self._call("reshape", self.bottom, self.top)
        self._call("forward", self.bottom, self.top)
        self._take_back_parameters()
        in_place = dict(zip(self.param.bottom, bottoms))
        # Copies: a top keeps its memory, and so what a layer wrote only once.
        return [in_place[name].detach() if name in in_place and blob.asked("data") is None else
                torch.tensor(blob.data, device=self.context.device) for name, blob in zip(self.param.top, self.top)]

    def run_backward(self, gradients: Sequence[torch.Tensor], needed: Sequence[bool]) -> Tensors:
        """The gradients of the bottoms, computed by the layer. Those of its parameters are added to their `grad`.

        gradients: of the tops. needed: for which bottoms a gradient is needed.
        """
        for blob, gradient in zip(self.top, gradients):
            blob.lend(blob.shape, diff=functools.partial(_copy, gradient))
        self._lend_parameters()
        self._call("backward", self.top, list(needed), self.bottom)
        self._take_back_parameters()
        passed = dict(zip(self.param.top, gradients))
        arrays = [blob.asked("diff") for blob in self.bottom]
        self._let_go()
        return tuple(passed.get(name) if array is None else torch.from_numpy(array).to(self.context.device)
                     for name, array in zip(self.param.bottom, arrays))

    def _let_go(self) -> None:
        for blob in self.bottom:
            blob.forget("data", "diff")

    def _lend_parameters(self) -> None:
        for blob, tensor in zip(self.hosted.blobs, self.blobs):
            blob.lend(tuple(tensor.shape), data=functools.partial(_view, tensor),
                      diff=functools.partial(_gradient, tensor))

    def _take_back_parameters(self) -> None:
        """Copies back what the layer may have changed and is no view."""
        for blob, tensor in zip(self.hosted.blobs, self.blobs):
            for kind, place in (("data", tensor.data), ("diff", tensor.grad)):
                array = blob.asked(kind)
                if array is not None and place is not None and array.ctypes.data != place.data_ptr():
                    place.copy_(torch.from_numpy(array))


class _Function(torch.autograd.Function):
    """The passes of a Python layer, for autograd."""

    @staticmethod
    def forward(ctx: Any, layer: Python, *tensors: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        ctx.layer = layer
        return tuple(layer.run_forward(tensors[:len(layer.bottom)]))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Tensors:
        layer = ctx.layer
        found = layer.run_backward(gradients, ctx.needs_input_grad[1:1 + len(layer.bottom)])
        return (None, *found, *[None] * len(layer.blobs))


def _view(tensor: torch.Tensor) -> np.ndarray:
    """Its values as float32: a view where it is so and on the processor, else a copy."""
    return tensor.detach().to("cpu", torch.float32).numpy()


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(_view(tensor)).reshape(tensor.shape)  # NumPy makes (1,) of ()


def _array_of(raw: bytes, tensor: torch.Tensor) -> np.ndarray:
    return np.frombuffer(raw, np.float32).reshape(tensor.shape).copy()


def _copy(tensor: torch.Tensor) -> np.ndarray:
    return np.array(_view(tensor), order="C")


def _gradient(parameter: torch.Tensor) -> np.ndarray:
    """What is the gradient of a parameter so far. Of one that is not trained it is let go of."""
    if not parameter.requires_grad:
        return np.zeros(parameter.shape, np.float32)
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return _view(parameter.grad)


def _text(error: Exception) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


TYPES = {"Python": Python}
