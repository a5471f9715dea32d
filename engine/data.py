"""Layers that give a net its data."""
import torch

from .layer import Layer


class Input(Layer):
    """Input: tops of the given shapes. `value`: the tensor of its first top, which whoever runs the net sets or fills;
    zeros at first. `values`: those of all tops."""

    MESSAGE = "input_param"
    FIELDS = ("shape",)
    BOTTOMS = (0, 0)
    TOPS = (1, None)

    def setup(self, shapes):
        declared = [tuple(one.dim) for one in self.options.shape]
        if len(declared) not in (1, len(self.param.top)):
            self.fail(f"{len(declared)} shape, expected one for all tops or one for each of its {len(self.param.top)}")
        declared *= len(self.param.top) // len(declared)
        self.values = [torch.zeros(shape, device=self.context.device) for shape in declared]

    @property
    def value(self) -> torch.Tensor:
        return self.values[0]

    @value.setter
    def value(self, tensor: torch.Tensor) -> None:
        self.values[0] = tensor

    def reshape(self, shapes):
        return [tuple(one.shape) for one in self.values]

    def forward(self, bottoms):
        return list(self.values)


TYPES = {"Input": Input}
