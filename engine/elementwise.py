"""Layers that calculate each value by itself."""
import math

import torch
from torch.nn import functional

from . import messages
from .layer import Layer


class ReLU(Layer):
    """max(x, 0) + negative_slope min(x, 0). The gradient at 0 is negative_slope."""

    MESSAGE = "relu_param"
    FIELDS = ("negative_slope", "engine")

    def forward(self, bottoms):
        slope = self.options.negative_slope
        return [functional.leaky_relu(bottoms[0], slope) if slope else functional.relu(bottoms[0])]


class PReLU(Layer):
    """max(x, 0) + a min(x, 0). The slope a is learned: one for each channel, or with channel_shared one for all.

    Blob: (C) or ().
    """

    MESSAGE = "prelu_param"
    FIELDS = ("filler", "channel_shared")

    def setup(self, shapes):
        if len(shapes[0]) < 2:
            self.fail(f"the bottom has the shape {shapes[0]}, expected 2 axes or more (N, C, ...)")
        shape = () if self.options.channel_shared else shapes[0][1:2]
        self.add_blob(shape, self.options.filler if self.options.HasField("filler") else None, 0.25)

    def reshape(self, shapes):
        slopes = tuple(self.blobs[0].shape)
        if slopes and shapes[0][1:2] != slopes:
            self.fail(f"the bottom has the shape {shapes[0]}, but the slopes {slopes}")
        return shapes

    def forward(self, bottoms):
        slopes = self.blobs[0]
        if self.fused:
            return [functional.prelu(bottoms[0], slopes.reshape(-1))]
        return [_PReLU.apply(bottoms[0], slopes.reshape(-1, *[1] * (bottoms[0].dim() - 2)) if slopes.dim() else slopes)]


class _PReLU(torch.autograd.Function):
    """max(x, 0) + slopes min(x, 0). On a processor torch's own prelu takes two to three times as long."""

    @staticmethod
    def forward(context, x, slopes):
        context.save_for_backward(x, slopes)
        return torch.addcmul(functional.relu(x), x.clamp(max=0), slopes)

    @staticmethod
    def backward(context, gradient):
        x, slopes = context.saved_tensors
        above = torch.ops.aten.threshold_backward(gradient, x, 0)  # where x > 0, else 0
        below = gradient - above
        of_x = above.addcmul_(below, slopes)
        of_slopes = below.mul_(x)
        if slopes.dim():
            return of_x, channel_sums(of_slopes).reshape(slopes.shape)
        return of_x, of_slopes.sum()


def channel_sums(x: torch.Tensor) -> torch.Tensor:
    """The sums of x (N, C, ...) for each channel (C). Two steps are faster than one: the first sums what lies together
    in memory."""
    return x.reshape(*x.shape[:2], -1).sum(2).sum(0)


class ELU(Layer):
    """x, below 0 alpha (exp(x) - 1)."""

    MESSAGE = "elu_param"
    FIELDS = ("alpha",)

    def forward(self, bottoms):
        return [functional.elu(bottoms[0], self.options.alpha)]


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    MESSAGE = "sigmoid_param"
    FIELDS = ("engine",)

    def forward(self, bottoms):
        return [torch.sigmoid(bottoms[0])]


class TanH(Layer):
    """The hyperbolic tangent."""

    MESSAGE = "tanh_param"
    FIELDS = ("engine",)

    def forward(self, bottoms):
        return [torch.tanh(bottoms[0])]


class AbsVal(Layer):
    """The absolute value. The gradient at 0 is 0."""

    def forward(self, bottoms):
        return [bottoms[0].abs()]


class Power(Layer):
    """(shift + scale x)^power. Where that is 0^power, the gradient is the derivative; Caffe's is NaN."""

    MESSAGE = "power_param"
    FIELDS = ("power", "scale", "shift")

    def forward(self, bottoms):
        power, inner = self.options.power, _linear(bottoms[0], self.options)
        if power * self.options.scale == 0:  # constant, also where shift^power has no derivative
            inner = inner.detach() * 0 + self.options.shift
        return [inner if power == 1 else inner.pow(power)]


class Exp(Layer):
    """base^(shift + scale x). The base -1 is e."""

    MESSAGE = "exp_param"
    FIELDS = ("base", "scale", "shift")

    def setup(self, shapes):
        self.factor = _log_of_base(self)

    def forward(self, bottoms):
        inner = _linear(bottoms[0], self.options)
        return [torch.exp(inner if self.factor == 1 else inner * self.factor)]


class Log(Layer):
    """The logarithm of shift + scale x to a base. The base -1 is e."""

    MESSAGE = "log_param"
    FIELDS = ("base", "scale", "shift")

    def setup(self, shapes):
        self.divisor = _log_of_base(self)
        if self.divisor == 0:
            self.fail("log_param.base 1, expected another base")

    def forward(self, bottoms):
        logarithm = torch.log(_linear(bottoms[0], self.options))
        return [logarithm if self.divisor == 1 else logarithm / self.divisor]


def _linear(x: torch.Tensor, options) -> torch.Tensor:
    """shift + scale x."""
    if options.scale != 1:
        x = x * options.scale
    return x + options.shift if options.shift else x


def _log_of_base(layer: Layer) -> float:
    base = layer.options.base
    if base != -1 and not 0 < base < math.inf:
        layer.fail(f"{layer.MESSAGE}.base {base:g}, expected a number greater than 0, or -1 for e")
    return 1 if base == -1 else math.log(base)


class BNLL(Layer):
    """log(1 + exp(x))."""

    def forward(self, bottoms):
        return [functional.softplus(bottoms[0], threshold=50)]


class Threshold(Layer):
    """1 where x > threshold, else 0. It has no gradient."""

    MESSAGE = "threshold_param"
    FIELDS = ("threshold",)
    GRADIENT = False

    def forward(self, bottoms):
        return [(bottoms[0] > self.options.threshold).to(bottoms[0].dtype)]


class Eltwise(Layer):
    """The product, the sum with factors `coeff`, or the maximum of bottoms of the same shape. Where the first two are
    the same maximum, the gradient goes to the second; later bottoms get it only if they are greater."""

    MESSAGE = "eltwise_param"
    FIELDS = ("operation", "coeff", "stable_prod_grad")
    BOTTOMS = (2, None)

    def setup(self, shapes):
        self.operation, factors = messages.enum_name(self.options, "operation"), list(self.options.coeff)
        if factors and (self.operation != "SUM" or len(factors) != len(shapes)):
            self.fail(f"{len(factors)} coeff with {len(shapes)} bottoms and operation {self.operation}, expected none, "
                      "or one for each bottom with operation SUM")
        self.factors = factors or [1] * len(shapes)

    def reshape(self, shapes):
        self.require_same(shapes)
        return shapes[:1]

    def forward(self, bottoms):
        first, *others = bottoms
        if self.operation == "SUM":
            top = first if self.factors[0] == 1 else first * self.factors[0]
            for other, factor in zip(others, self.factors[1:]):
                top = torch.add(top, other, alpha=factor)
        elif self.operation == "PROD":
            top = first
            for other in others:
                top = top * other
        else:
            top = torch.where(first > others[0], first, others[0])
            for other in others[1:]:
                top = torch.where(other > top, other, top)
        return [top]


class Dropout(Layer):
    """In the phase TRAIN sets values to 0 with the probability dropout_ratio, and divides the others by 1 minus it."""

    MESSAGE = "dropout_param"
    FIELDS = ("dropout_ratio",)

    def setup(self, shapes):
        if not 0 <= self.options.dropout_ratio < 1:
            self.fail(f"dropout_param.dropout_ratio {self.options.dropout_ratio:g}, expected 0 or more, and "
                      "less than 1")

    def forward(self, bottoms):
        if not self.training:
            return list(bottoms)
        (bottom,), ratio, rows = bottoms, self.options.dropout_ratio, self.context.rows
        if rows is None:
            drawn = torch.empty_like(bottom, requires_grad=False).uniform_(generator=self.generator())
        else:  # drawn for all rows, so that it is the same for any number of ranks
            drawn = rows.cut(bottom.new_empty((rows.total, *bottom.shape[1:])).uniform_(generator=self.generator()))
        return [bottom * (drawn >= ratio).to(drawn.dtype).div_(1 - ratio)]  # bernoulli_ is slower


TYPES = {"PReLU": PReLU, "ReLU": ReLU, "ELU": ELU, "Sigmoid": Sigmoid, "TanH": TanH, "AbsVal": AbsVal, "Power": Power,
         "Exp": Exp, "Log": Log, "BNLL": BNLL, "Threshold": Threshold, "Eltwise": Eltwise, "Dropout": Dropout}
