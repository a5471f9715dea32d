"""Layers that reduce axes: sums, largest values, softmax."""
import math
from typing import List

import torch

from . import messages
from .layer import Layer, Shape


class Reduction(Layer):
    """The sum (SUM), the sum of the absolute values (ASUM) or of the squares (SUMSQ) or the mean (MEAN) of all axes
    from `axis` on, times `coeff`."""

    MESSAGE = "reduction_param"
    FIELDS = ("operation", "axis", "coeff")

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return [shapes[0][:self.axis(self.options.axis, shapes[0])]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        values = bottoms[0].flatten(self.axis(self.options.axis, tuple(bottoms[0].shape)))
        operation = messages.enum_name(self.options, "operation")
        if operation == "ASUM":
            values = values.abs()
        elif operation == "SUMSQ":
            values = values * values
        reduced = values.mean(-1) if operation == "MEAN" else values.sum(-1)
        return [reduced if self.options.coeff == 1 else reduced * self.options.coeff]


class ArgMax(Layer):
    """The indices of the `top_k` largest values along `axis`, or their values with `out_max_val`. Without `axis`: of
    all values of a sample, (N, 1, top_k), and with `out_max_val` indices and values, (N, 2, top_k). Of equal values,
    the one with the greater index comes first."""

    MESSAGE = "argmax_param"
    FIELDS = ("axis", "top_k", "out_max_val")
    GRADIENT = False

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        [shape], most = shapes, self.options.top_k
        if self.options.HasField("axis"):
            axis = self.axis(self.options.axis, shape)
            count, top = shape[axis], shape[:axis] + (most,) + shape[axis + 1:]
        else:
            kinds = 2 if self.options.out_max_val else 1
            count, top = math.prod(shape[1:]), (shape[0], kinds, most) + (1,) * (len(shape) - 3)
        if not 1 <= most <= count:
            self.fail(f"top_k {most}, expected 1 to {count}, as the bottom has the shape {shape}")
        return [top]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        [top_shape] = self.reshape([tuple(bottoms[0].shape)])
        along = self.options.HasField("axis")
        axis = self.axis(self.options.axis, tuple(bottoms[0].shape)) if along else 1
        values = bottoms[0].transpose(axis, -1) if along else bottoms[0].reshape(top_shape[0], -1)
        numbers = torch.arange(values.shape[-1], device=values.device)
        free = torch.ones_like(values, dtype=torch.bool)  # those that were not yet taken
        places, largest = [], []
        for _ in range(self.options.top_k):
            best = values.masked_fill(~free, -math.inf).max(-1, keepdim=True)[0]
            place = numbers.where(free & (values == best), -torch.ones_like(numbers)).max(-1, keepdim=True)[0]
            free = free & (numbers != place)
            places.append(place.to(values.dtype))
            largest.append(best)
        if not along:
            return [torch.cat(places + largest * self.options.out_max_val, -1).view(top_shape)]
        return [torch.cat(largest if self.options.out_max_val else places, -1).transpose(axis, -1)]


class Softmax(Layer):
    """The softmax along `axis`. `engine` chooses between Caffe's own programs, and changes nothing here."""

    MESSAGE = "softmax_param"
    FIELDS = ("axis", "engine")

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        self.along = self.axis(self.options.axis, shapes[0])
        return shapes

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return [torch.softmax(bottoms[0], self.along)]


TYPES = {"Reduction": Reduction, "ArgMax": ArgMax, "Softmax": Softmax}
