"""Passes of nets on an engine, for measurements: the net that predicts, and the solver of a training net."""
import abc
from collections.abc import Sequence
from typing import Any

import caffe
import numpy as np

from common import machine
from tools.training.caffe_process import Engine


class Passes(abc.ABC):
    """A net whose inputs can be filled. `shapes`: input -> its shape in the prototxt."""

    shapes: dict[str, Sequence[int]]

    @abc.abstractmethod
    def fill(self, name: str, values: np.ndarray) -> None:
        """Gives an input its values, (images, ...)."""

    @abc.abstractmethod
    def run(self) -> None:
        """A forward pass, or an iteration of the solver."""


class _OfCaffe(Passes):
    def __init__(self, net: caffe.Net, inputs: Sequence[str], run: Any) -> None:
        self._net, self._run = net, run
        self.shapes = {name: list(net.blobs[name].shape) for name in inputs}

    def fill(self, name, values):
        self._net.blobs[name].reshape(*values.shape)
        self._net.blobs[name].data[...] = values

    def run(self):
        self._run()


class _OfTorch(Passes):
    def __init__(self, net: Any, run: Any) -> None:
        from engine.inputs import Input
        self._inputs = {layer.param.top[0]: layer for layer in net.layers if isinstance(layer, Input)}
        self._device, self._run = net.context.device, run
        self.shapes = {name: list(layer.value.shape) for name, layer in self._inputs.items()}

    def fill(self, name, values):
        import torch
        self._inputs[name].value = torch.from_numpy(values.astype(np.float32)).to(self._device)

    def run(self):
        self._run()
        if self._device.type == "cuda":
            import torch
            torch.cuda.synchronize(self._device)


class _Silent:
    """A log that nobody reads."""

    def info(self, place: str, text: str) -> None:
        pass


def predicting(deploy: str, engine: Engine) -> tuple[Passes, int]:
    """A net that predicts, with random weights, and how many weights it has."""
    if engine.device.engine == machine.CAFFE:
        net = caffe.Net(deploy, caffe.TEST)
        return (_OfCaffe(net, list(net.inputs), net.forward),
                sum(blob.count for blobs in net.params.values() for blob in blobs))
    from tools.evaluation import torch_net
    made, _ = torch_net.net(deploy, engine)

    def forward_only() -> None:
        import torch
        with torch.no_grad():
            made.forward()
    return _OfTorch(made, forward_only), sum(blob.numel() for layer in made.layers for blob in layer.blobs)


def training(solver: str, engine: Engine) -> Passes:
    """A solver of a net whose data layers are of the type Input."""
    if engine.device.engine == machine.CAFFE:
        made = caffe.get_solver(solver)
        inputs = [name for name, layer in zip(made.net._layer_names, made.net.layers) if layer.type == "Input"]
        return _OfCaffe(made.net, inputs, lambda: made.step(1))
    from engine import solver_param
    from engine.solver import Solver
    from tools.evaluation import torch_net
    on_torch = Solver(solver_param.read(solver), _Silent(), torch_net.place(engine))
    return _OfTorch(on_torch.net, lambda: on_torch.step(1))

