"""Layers whose tops come from who runs the net, or from fillers: Input, MemoryData and DummyData."""
from typing import Any, List, Optional, Sequence

import numpy as np
import torch

from . import fillers, messages
from .layer import Layer, Shape


class Input(Layer):
    """Tops of the given shapes. `value`: the tensor of the first top, which whoever runs the net sets or fills; zeros
    at first. `values`: those of all tops."""

    MESSAGE = "input_param"
    FIELDS = ("shape",)
    BOTTOMS = (0, 0)
    TOPS = (1, None)

    def setup(self, shapes: List[Shape]) -> None:
        declared = per_top(self, "shape", [tuple(one.dim) for one in self.options.shape])
        self.values = [torch.zeros(shape, device=self.context.device) for shape in declared]

    @property
    def value(self) -> torch.Tensor:
        return self.values[0]

    @value.setter
    def value(self, tensor: torch.Tensor) -> None:
        self.values[0] = tensor

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return [tuple(one.shape) for one in self.values]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return list(self.values)


class MemoryData(Layer):
    """Images (M, channels, height, width) and labels (M), in turn from the arrays of `set_arrays`."""

    MESSAGE = "memory_data_param"
    FIELDS = ("batch_size", "channels", "height", "width")
    BOTTOMS = (0, 0)
    TOPS = (2, 2)
    GRADIENT = False

    def setup(self, shapes: List[Shape]) -> None:
        self._shape = tuple(getattr(self.options, field) for field in self.FIELDS)
        if not all(self._shape):
            self.fail(f"{', '.join(self.FIELDS)} are {self._shape}, expected at least 1 each")
        self._arrays: Optional[List[torch.Tensor]] = None

    def set_arrays(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Gives the layer its data: float32 (N, channels, height, width) and (N), where M divides N. The next pass
        begins with the first row."""
        if images.shape[1:] != self._shape[1:] or len(images) % self._shape[0] or not len(images):
            self.fail(f"images of the shape {images.shape}, expected {self._shape} or a multiple of them")
        if labels.size != len(images):
            self.fail(f"{labels.size} labels, but {len(images)} images")
        self._arrays = [torch.tensor(array, dtype=torch.float32, device=self.context.device)
                        for array in (images, labels.reshape(-1))]
        self._first = self.context.passes

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return [self._shape, self._shape[:1]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        if self._arrays is None:
            self.fail("has no data; a program gives it some by set_arrays")
        start = (self.context.passes - self._first) * self._shape[0] % len(self._arrays[0])
        return [array[start:start + self._shape[0]] for array in self._arrays]


class DummyData(Layer):
    """Tops of the given shapes from fillers: constants once, random numbers in each pass. Without a filler: zeros."""

    MESSAGE = "dummy_data_param"
    FIELDS = ("data_filler", "shape", "num", "channels", "height", "width")
    BOTTOMS = (0, 0)
    TOPS = (1, None)
    GRADIENT = False

    def setup(self, shapes: List[Shape]) -> None:
        sides = ("num", "channels", "height", "width")
        if any(getattr(self.options, side) for side in sides):
            if self.options.shape:
                self.fail("both shape and num, channels, height, width, expected one of them")
            declared = list(zip(*(per_top(self, side, getattr(self.options, side)) for side in sides)))
        else:
            declared = per_top(self, "shape", [tuple(one.dim) for one in self.options.shape])
        self._fillers = per_top(self, "data_filler", self.options.data_filler or [messages.FillerParameter()])
        self._tops = [torch.zeros(shape) for shape in declared]
        self._fill(lambda filler: True)
        self._tops = [top.to(self.context.device) for top in self._tops]

    def _fill(self, wanted) -> None:
        generator = self.generator(device="cpu")
        for number, (top, filler) in enumerate(zip(self._tops, self._fillers)):
            if wanted(filler):
                made = torch.empty(top.shape)
                try:
                    fillers.fill(made, filler, generator)
                except ValueError as error:
                    self.fail(str(error))
                self._tops[number] = made.to(self.context.device)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return [tuple(top.shape) for top in self._tops]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        self._fill(lambda filler: filler.type != "constant")
        return [top.detach() for top in self._tops]


def per_top(layer: Layer, field: str, values: Sequence[Any]) -> List[Any]:
    """One value for each top of a layer: the field has one for all of them, or one for each."""
    tops = len(layer.param.top)
    if len(values) not in (1, tops):
        layer.fail(f"{len(values)} {field}, expected one for all tops or one for each of its {tops}")
    return list(values) * (tops // len(values))


TYPES = {"Input": Input, "MemoryData": MemoryData, "DummyData": DummyData}
