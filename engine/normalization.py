"""Layers that normalize a blob, or scale and shift it."""
from typing import Any, Sequence, Tuple

import torch
from torch.nn import functional

from . import messages
from .layer import Layer, Shape


class BatchNorm(Layer):
    """Normalizes each channel of a bottom (N, C, ...) by its mean and variance over the batch or, with use_global_stats
    (the default in the phase TEST), by those of the blobs.

    Blobs: sums of means (C) and of variances (C), which are to be divided by the third (1). They are not learned.
    """

    MESSAGE = "batch_norm_param"
    FIELDS = ("use_global_stats", "moving_average_fraction", "eps")

    def setup(self, shapes):
        if len(shapes[0]) < 2:
            self.fail(f"the bottom has the shape {shapes[0]}, expected 2 axes or more (N, C, ...)")
        for size in (shapes[0][1], shapes[0][1], 1):
            self.add_blob((size,))
        for number in range(3):
            if number == len(self.param.param):
                self.param.param.add(lr_mult=0)
            elif self.param.param[number].lr_mult != 0:
                self.fail(f"lr_mult {self.param.param[number].lr_mult:g}, expected 0: statistics are not learned")
        stored = self.options.HasField("use_global_stats")
        self.stored = self.options.use_global_stats if stored else not self.training

    def reshape(self, shapes):
        if shapes[0][1:2] != tuple(self.blobs[0].shape):
            self.fail(f"the bottom has the shape {shapes[0]}, but the blobs {tuple(self.blobs[0].shape)}")
        return shapes

    def forward(self, bottoms):
        (bottom,), eps = bottoms, self.options.eps
        means, variances, factor = self.blobs
        if self.stored:
            scale = torch.where(factor == 0, factor, 1 / factor)
            return [functional.batch_norm(bottom, means * scale, variances * scale, eps=eps)]
        rows = self.context.rows
        count = (bottom.numel() if rows is None else bottom[0].numel() * rows.total) // bottom.shape[1]
        if self.fused and count > 1 and rows is None:
            # With the momentum 1, torch leaves in these the mean and the variance with the divisor count - 1.
            mean, variance = torch.zeros_like(means), torch.zeros_like(variances)
            top = functional.batch_norm(bottom, mean, variance, training=True, momentum=1, eps=eps)
        else:
            axes = [axis for axis in range(bottom.dim()) if axis != 1]
            top, mean, variance = _Normalized.apply(bottom, axes, eps, True, rows)
            variance = variance * (count / max(count - 1, 1))
        with torch.no_grad():
            fraction = self.options.moving_average_fraction
            for blob, value in ((means, mean.reshape(-1)), (variances, variance.reshape(-1)), (factor, 1)):
                blob.mul_(fraction).add_(value)
        return [top]


class _Normalized(torch.autograd.Function):
    """(x - mean) / deviation, the mean and the variance over some axes, of all ranks' rows if there are `rows`. The
    deviation is the root of variance + eps, or if eps is not `inside` the root of the variance, + eps. The gradient is
    Caffe's: it is finite where x is constant, and leaves out the small difference that eps beside the root makes."""

    @staticmethod
    def forward(context, x, axes, eps, inside, rows):
        mean = _mean(x, axes, rows)
        y = x - mean
        variance = _mean(y * y, axes, rows)
        deviation = (variance + eps).sqrt_() if inside else variance.sqrt().add_(eps)
        y.div_(deviation)
        context.save_for_backward(y, deviation)
        context.axes = axes, rows
        context.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(context, gradient, *_):
        y, deviation = context.saved_tensors
        through = torch.addcmul(gradient, y, _mean(gradient * y, *context.axes), value=-1)
        return through.sub_(_mean(gradient, *context.axes)).div_(deviation), None, None, None, None


def _mean(x: torch.Tensor, axes: Sequence[int], rows: Any) -> torch.Tensor:
    """The mean over some axes, which stay with the size 1. Two steps are faster than one: the first one takes the mean
    of what lies together in memory."""
    for group in [axis for axis in axes if axis > 1], [axis for axis in axes if axis <= 1]:
        x = x.mean(group, keepdim=True) if group else x
    return x if rows is None else rows.mean(x)


class _AcrossChannels(torch.autograd.Function):
    """x / scale^beta with scale = k + alpha / size * sum of the squares of the `size` channels around."""

    @staticmethod
    def forward(context, x, size, alpha, beta, k):
        scale = _window_sums(x * x, size).mul_(alpha / size).add_(k)
        factor = scale.log().mul_(-beta).exp_()  # faster than pow
        context.save_for_backward(x, scale, factor)
        context.options = size, alpha, beta
        return x * factor

    @staticmethod
    def backward(context, gradient):
        x, scale, factor = context.saved_tensors
        size, alpha, beta = context.options
        through = gradient * factor
        sums = _window_sums((through * x).div_(scale), size)
        return through.sub_(sums.mul_(x).mul_(2 * alpha * beta / size)), None, None, None, None


def _window_sums(x: torch.Tensor, size: int) -> torch.Tensor:
    """For each channel of x (N, C, H, W), the sum of the `size` channels around it."""
    sums = x.clone()
    for step in range(1, min(size // 2 + 1, x.shape[1])):
        sums[:, step:] += x[:, :-step]
        sums[:, :-step] += x[:, step:]
    return sums


class LRN(Layer):
    """Local response normalization of a bottom (N, C, H, W): bottom / (k + alpha / n * sum of squares)^beta, over n
    channels, or (with k 1) over the n = local_size^2 places around in the channel. Places outside count as 0."""

    MESSAGE = "lrn_param"
    FIELDS = ("local_size", "alpha", "beta", "norm_region", "k", "engine")

    def setup(self, shapes):
        self.across = messages.enum_name(self.options, "norm_region") == "ACROSS_CHANNELS"
        if self.options.local_size % 2 == 0:
            self.fail(f"lrn_param.local_size {self.options.local_size}, expected an odd number")

    def reshape(self, shapes):
        if len(shapes[0]) != 4:
            self.fail(f"the bottom has the shape {shapes[0]}, expected 4 axes (N, C, H, W)")
        return shapes

    def forward(self, bottoms):
        (bottom,), options = bottoms, self.options
        size = options.local_size
        if self.across:
            return [_AcrossChannels.apply(bottom, size, options.alpha, options.beta, options.k)]
        squares = functional.avg_pool2d(bottom * bottom, size, 1, size // 2)
        return [bottom * (squares * options.alpha + 1).pow(-options.beta)]


class MVN(Layer):
    """Normalizes each image of a bottom (N, C, H, W), each channel by itself or with across_channels all of them, to
    the mean 0 and with normalize_variance the standard deviation 1. The top always has 4 axes, as in Caffe."""

    MESSAGE = "mvn_param"
    FIELDS = ("normalize_variance", "across_channels", "eps")

    def reshape(self, shapes):
        if len(shapes[0]) > 4:
            self.fail(f"the bottom has the shape {shapes[0]}, expected 4 axes or fewer (N, C, H, W)")
        return [(*shapes[0], 1, 1, 1, 1)[:4]]

    def forward(self, bottoms):
        options = self.options
        bottom = bottoms[0].reshape((*bottoms[0].shape, 1, 1, 1, 1)[:4])
        axes = (1, 2, 3) if options.across_channels else (2, 3)
        if options.normalize_variance:
            return [_Normalized.apply(bottom, axes, options.eps, False, None)[0]]
        return [bottom - bottom.mean(axes, keepdim=True)]


class _Broadcast(Layer):
    """What Scale and Bias have in common: a factor or summand with the shape of some axes of the first bottom, which is
    the second bottom or a blob."""

    BOTTOMS = (1, 2)

    def _fit(self, shape: Shape, given: Shape) -> Tuple[int, ...]:
        """The shape that broadcasts to a bottom's, for a factor or summand of the shape `given`."""
        axis = self.axis(self.options.axis, shape) if given else 0
        if shape[axis:axis + len(given)] != given:
            self.fail(f"the shape {given} does not fit to the bottom's {shape} from axis {axis} on")
        return (*given, *[1] * (len(shape) - axis - len(given)))

    def _axes(self, shape: Shape) -> Shape:
        """The part of a bottom's shape that axis and num_axes name."""
        axis, count = self.axis(self.options.axis, shape), self.options.num_axes
        if count < -1 or axis + count > len(shape):
            self.fail(f"num_axes {count} from axis {axis} on, but the bottom has the shape {shape}")
        return shape[axis:] if count == -1 else shape[axis:axis + count]

    def reshape(self, shapes):
        self._fit(shapes[0], shapes[1] if len(shapes) > 1 else tuple(self.blobs[0].shape))
        return shapes[:1]

    def _fitted(self, bottom: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
        return one.reshape(self._fit(tuple(bottom.shape), tuple(one.shape)))


class Scale(_Broadcast):
    """bottom * factor, or with bias_term bottom * factor + bias. The factor is the second bottom, or else the first
    blob; the bias is the last blob, with the shape of the factor."""

    MESSAGE = "scale_param"
    FIELDS = ("axis", "num_axes", "filler", "bias_term", "bias_filler")

    def setup(self, shapes):
        factor = shapes[1] if len(shapes) > 1 else self._axes(shapes[0])
        if len(shapes) == 1:
            self.add_blob(factor, self.options.filler if self.options.HasField("filler") else None, 1)
        if self.options.bias_term:
            self.add_blob(factor, self.options.bias_filler)

    def forward(self, bottoms):
        bottom = bottoms[0]
        factor = self._fitted(bottom, bottoms[1] if len(bottoms) > 1 else self.blobs[0])
        if not self.options.bias_term:
            return [bottom * factor]
        return [torch.addcmul(self._fitted(bottom, self.blobs[-1]), bottom, factor)]


class Bias(_Broadcast):
    """bottom + summand. The summand is the second bottom, or else the blob."""

    MESSAGE = "bias_param"
    FIELDS = ("axis", "num_axes", "filler")

    def setup(self, shapes):
        if len(shapes) == 1:
            self.add_blob(self._axes(shapes[0]), self.options.filler)

    def forward(self, bottoms):
        return [bottoms[0] + self._fitted(bottoms[0], bottoms[1] if len(bottoms) > 1 else self.blobs[0])]


TYPES = {"BatchNorm": BatchNorm, "LRN": LRN, "MVN": MVN, "Scale": Scale, "Bias": Bias}
