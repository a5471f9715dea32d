"""Layers that multiply their input by a matrix of weights."""
import math
from typing import List

import torch
import torch.nn.functional as F

from . import precision
from .layer import Layer, Shape


class InnerProduct(Layer):
    """The axes from `axis` on are one vector, of which it makes `num_output` values. The weights are
    (num_output, inputs), with `transpose` (inputs, num_output); then a bias, unless `bias_term` is false."""

    MESSAGE = "inner_product_param"
    FIELDS = ("num_output", "bias_term", "weight_filler", "bias_filler", "axis", "transpose")

    def setup(self, shapes: List[Shape]) -> None:
        if not self.options.num_output:
            self.fail("inner_product_param.num_output is 0 or missing, expected 1 or more")
        inputs = math.prod(shapes[0][self.axis(self.options.axis, shapes[0]):])
        size = (self.options.num_output, inputs)
        self.add_blob(size[::-1] if self.options.transpose else size, self.options.weight_filler)
        if self.options.bias_term:
            self.add_blob((self.options.num_output,), self.options.bias_filler)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return [shapes[0][:self.axis(self.options.axis, shapes[0])] + (self.options.num_output,)]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        weights, *bias = self.blobs
        [top_shape] = self.reshape([tuple(bottoms[0].shape)])
        rows = bottoms[0].reshape(math.prod(top_shape[:-1]), -1)
        weights = weights.t() if self.options.transpose else weights
        return [precision.multiply(F.linear, rows, weights, *bias).view(top_shape)]


class Embed(Layer):
    """For each index from 0 to `input_dim` - 1 in the bottom the row of the weights (input_dim, num_output), and a bias
    unless `bias_term` is false. An index that is not whole is cut off, as in Caffe."""

    MESSAGE = "embed_param"
    FIELDS = ("num_output", "input_dim", "bias_term", "weight_filler", "bias_filler")

    def setup(self, shapes: List[Shape]) -> None:
        for field in ("num_output", "input_dim"):
            if not getattr(self.options, field):
                self.fail(f"embed_param.{field} is 0 or missing, expected 1 or more")
        self.add_blob((self.options.input_dim, self.options.num_output), self.options.weight_filler)
        if self.options.bias_term:
            self.add_blob((self.options.num_output,), self.options.bias_filler)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return [shapes[0] + (self.options.num_output,)]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        weights, *bias = self.blobs
        indices = bottoms[0].detach().long()
        wrong = (indices < 0) | (indices >= len(weights))
        if wrong.any():
            self.fail(f"index {bottoms[0][wrong][0].item():g}, expected 0 to {len(weights) - 1} "
                      f"(input_dim {len(weights)})")
        rows = F.embedding(indices, weights)
        return [rows + bias[0] if bias else rows]


TYPES = {"InnerProduct": InnerProduct, "Embed": Embed}
