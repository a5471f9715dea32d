"""Layers of windows over an image: convolution, pooling, and windows as columns."""
from typing import List, Optional, Tuple

import torch
from torch.nn import functional

from . import messages, precision
from .layer import Layer, Shape

_LEAST = torch.finfo(torch.float32).min


class _Windows(Layer):
    """What layers of windows with the settings of a convolution share."""

    MESSAGE = "convolution_param"
    FIELDS = ("num_output", "bias_term", "pad", "pad_h", "pad_w", "kernel_size", "kernel_h", "kernel_w", "stride",
              "stride_h", "stride_w", "dilation", "group", "weight_filler", "bias_filler", "axis", "engine",
              "force_nd_im2col")
    # How many axes may come after the channels.
    DIMENSIONS: Tuple[int, ...] = (1, 2)

    def setup(self, shapes):
        options, dimensions = self.options, len(shapes[0]) - 2
        if dimensions not in self.DIMENSIONS:
            self.fail(f"the bottom has the shape {shapes[0]}, expected {' or '.join(map(str, self.DIMENSIONS))} axes "
                      "after the channels")
        if self.axis(options.axis, shapes[0]) != 1:
            self.fail(f"convolution_param.axis {options.axis} is not supported by the engine, expected 1")
        self.kernel = self._sizes("kernel_size", "kernel", dimensions, None)
        self.stride = self._sizes("stride", "stride", dimensions, 1)
        self.pad = self._sizes("pad", "pad", dimensions, 0)
        self.dilation = self._sizes("dilation", None, dimensions, 1)
        for name, sizes in (("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)):
            if min(sizes) < 1:
                self.fail(f"{name} {sizes}, expected 1 or more")

    def _sizes(self, name: str, short: Optional[str], dimensions: int, default: Optional[int]) -> Shape:
        """A setting along each axis: `name`, once or once an axis, or `short`_h and `short`_w."""
        sizes = list(getattr(self.options, name))
        if short and (self.options.HasField(f"{short}_h") or self.options.HasField(f"{short}_w")):
            if sizes or dimensions != 2:
                self.fail(f"expected either {name} or, for images, {short}_h and {short}_w")
            sizes = [getattr(self.options, f"{short}_h"), getattr(self.options, f"{short}_w")]
        elif not sizes and default is not None:
            sizes = [default]
        if len(sizes) not in (1, dimensions):
            self.fail(f"{len(sizes)} {name}, expected 1 or {dimensions}")
        return tuple(sizes if len(sizes) == dimensions else sizes * dimensions)

    def _size(self, size: int, kernel: int, stride: int, pad: int) -> int:
        """The size of the top along an axis; `kernel` is with its dilation."""
        return (size + 2 * pad - kernel) // stride + 1

    def reshape(self, shapes):
        self.require_same(shapes)
        if len(shapes) != len(self.param.top):
            self.fail(f"{len(self.param.top)} tops, expected one for each of the {len(shapes)} bottoms")
        shape = shapes[0]
        kernel = [(size - 1) * step + 1 for size, step in zip(self.kernel, self.dilation)]
        sizes = tuple(map(self._size, shape[2:], kernel, self.stride, self.pad))
        if min(sizes) < 1:
            self.fail(f"the bottom has the shape {shape}, too small for the kernel {self.kernel} with pad {self.pad}")
        return [(shape[0], self._width(shape), *sizes)] * len(shapes)

    def _width(self, shape: Shape) -> int:
        """The number of channels of the top."""
        raise NotImplementedError


class Convolution(_Windows):
    """Convolution of bottoms (N, C, L) or (N, C, H, W), which have the same shape; a top for each.

    Blobs: weights (num_output, C / group, kernel ...), bias (num_output). Volumes are refused: torch 1.7 gets the
    gradient of their weights wrong.
    """

    BOTTOMS = (1, None)
    TOPS = (1, None)
    FUNCTIONS = {1: functional.conv1d, 2: functional.conv2d}

    def setup(self, shapes):
        super().setup(shapes)
        options = self.options
        self.channels, self.group = shapes[0][1], options.group
        if not options.num_output or not self.group or self.channels % self.group or options.num_output % self.group:
            self.fail(f"group {self.group}, but {self.channels} channels and num_output {options.num_output}, expected "
                      "multiples of it")
        self.add_blob(self._weights() + self.kernel, options.weight_filler)
        if options.bias_term:
            self.add_blob((options.num_output,), options.bias_filler)

    def _weights(self) -> Shape:
        """The first two axes of the weights."""
        return (self.options.num_output, self.channels // self.group)

    def reshape(self, shapes):
        if len(shapes[0]) != len(self.kernel) + 2 or shapes[0][1] != self.channels:
            self.fail(f"the bottom has the shape {shapes[0]}, but the weights {tuple(self.blobs[0].shape)} are for "
                      f"{self.channels} channels")
        return super().reshape(shapes)

    def _width(self, shape):
        return self.options.num_output

    def forward(self, bottoms):
        bias = self.blobs[1] if self.options.bias_term else None
        return [precision.multiply(self._convolve, bottom, self.blobs[0], bias) for bottom in bottoms]

    def _convolve(self, bottom, weights, bias):
        return self.FUNCTIONS[len(self.kernel)](bottom, weights, bias, self.stride, self.pad, self.dilation, self.group)


class Deconvolution(Convolution):
    """Convolution the other way round, its gradient. Blobs: weights (C, num_output / group, kernel ...), bias."""

    FUNCTIONS = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d}

    def _weights(self):
        return (self.channels, self.options.num_output // self.group)

    def _size(self, size, kernel, stride, pad):
        return stride * (size - 1) + kernel - 2 * pad

    def _convolve(self, bottom, weights, bias):
        # Torch 1.7 gets the gradients wrong if all sizes of a kernel are 1, so it gets one more column.
        wider = max(self.kernel) == 1 and (max(self.stride) > 1 or max(self.pad) > 0)
        top = self.FUNCTIONS[len(self.kernel)](bottom, functional.pad(weights, (0, 1)) if wider else weights, bias,
                                               self.stride, self.pad, 0, self.group, self.dilation)
        return top[..., :-self.dilation[-1]] if wider else top


class Im2col(_Windows):
    """The values of each window of a bottom (N, C, H, W), one under the other: (N, C * kernel_h * kernel_w, rows,
    columns). Caffe has it for its own convolution; with a kernel of 1x1 it puts zeros around the maps."""

    DIMENSIONS = (2,)

    def _width(self, shape):
        return shape[1] * self.kernel[0] * self.kernel[1]

    def forward(self, bottoms):
        (bottom,) = bottoms
        if max(self.kernel) == max(self.stride) == 1:  # faster, and the same
            above, left = self.pad
            return [functional.pad(bottom, (left, left, above, above))]
        columns = functional.unfold(bottom, self.kernel, self.dilation, self.pad, self.stride)
        return [columns.view(self.reshape([tuple(bottom.shape)])[0])]


class Pooling(Layer):
    """MAX or AVE of windows of a bottom (N, C, H, W).

    With round_mode CEIL the last window may end beyond the bottom. AVE then divides by the part that is within H + pad,
    so it counts the padding on both sides. A second top of MAX has the places of the maxima in the image.
    """

    MESSAGE = "pooling_param"
    FIELDS = ("pool", "pad", "pad_h", "pad_w", "kernel_size", "kernel_h", "kernel_w", "stride", "stride_h", "stride_w",
              "engine", "global_pooling", "round_mode")
    TOPS = (1, 2)

    def setup(self, shapes):
        options = self.options
        self.method = messages.enum_name(options, "pool")
        if self.method == "STOCHASTIC":
            self.fail("pooling_param.pool STOCHASTIC is not supported by the engine, expected MAX or AVE")
        if self.method == "AVE" and len(self.param.top) > 1:
            self.fail("2 tops, but only MAX has a second one")
        self.ceil = messages.enum_name(options, "round_mode") == "CEIL"
        given = any(options.HasField(name) for name in ("kernel_size", "kernel_h", "kernel_w"))
        if options.global_pooling and given:
            self.fail("expected either global_pooling or the size of a kernel")
        self.kernel = None if options.global_pooling else self._pair("kernel_size", "kernel")
        self.stride, self.pad = self._pair("stride", "stride"), self._pair("pad", "pad")
        if options.global_pooling and (self.pad != (0, 0) or self.stride != (1, 1)):
            self.fail(f"pad {self.pad} and stride {self.stride}, but global_pooling takes pad 0 and stride 1 only")
        if min(self.stride) < 1:
            self.fail(f"stride {self.stride}, expected 1 or more")
        if self.kernel and any(pad >= max(size, 1) for pad, size in zip(self.pad, self.kernel)):
            self.fail(f"pad {self.pad} and kernel {self.kernel}, expected a kernel greater than pad")

    def _pair(self, name: str, short: str) -> Shape:
        """The setting `name`, or `short`_h and `short`_w, along both axes."""
        options, both = self.options, (f"{short}_h", f"{short}_w")
        found = [one for one in both if options.HasField(one)]
        if len(found) == 1 or (found and options.HasField(name)):
            self.fail(f"expected either {name} or both {both[0]} and {both[1]}")
        return tuple(getattr(options, one) for one in found) or (getattr(options, name),) * 2

    def reshape(self, shapes):
        if len(shapes[0]) != 4:
            self.fail(f"the bottom has the shape {shapes[0]}, expected 4 axes (N, C, H, W)")
        sizes, margins = self._windows(shapes[0])
        if any(margins) and len(self.param.top) > 1:
            self.fail(f"a second top is not supported by the engine with kernel {self.kernel}, stride {self.stride} "
                      f"and pad {self.pad} on the shape {shapes[0]}")
        return [(*shapes[0][:2], *sizes)] * len(self.param.top)

    def _windows(self, shape: Shape) -> Tuple[List[int], List[int]]:
        """The size of the top, and how much to pad (or cut, if less than 0) the bottom left, right, above and below.

        That makes up for two differences: torch pads by no more than half of a kernel, and an old one drops a last
        window beyond the image only along an axis with padding.
        """
        kernel = self.kernel or shape[2:]
        beforehand = any(2 * pad > window for pad, window in zip(self.pad, kernel))
        sizes: List[int] = []
        margins: List[int] = []
        for size, window, stride, pad in zip(shape[2:], kernel, self.stride, self.pad):
            pooled = (size + 2 * pad - window + (stride - 1 if self.ceil else 0)) // stride + 1
            before = after = pad if beforehand else 0
            if any(self.pad) and (pooled - 1) * stride >= size + pad:
                pooled -= 1  # the last window would begin in the padding
                if beforehand or not pad:  # the others end where the bottom is cut
                    after += (pooled - 1) * stride + window - size - 2 * pad
            if pooled < 1 or (pooled - 1) * stride >= size + pad:
                self.fail(f"the bottom has the shape {shape}, to which kernel {kernel}, stride {self.stride} and pad "
                          f"{self.pad} do not fit: a window would be outside of it")
            sizes.append(pooled)
            margins[:0] = [before, after]  # torch wants the last axis first
        return sizes, margins

    def forward(self, bottoms):
        (bottom,), pad = bottoms, self.pad
        kernel = self.kernel or bottom.shape[2:]
        margins = self._windows(tuple(bottom.shape))[1]
        if any(margins):
            bottom = functional.pad(bottom, margins, value=_LEAST if self.method == "MAX" else 0)
            pad = (0, 0) if max(margins) > 0 else pad
        if self.method == "AVE":
            return [functional.avg_pool2d(bottom, kernel, self.stride, pad, ceil_mode=self.ceil)]
        if len(self.param.top) == 1:
            return [functional.max_pool2d(bottom, kernel, self.stride, pad, ceil_mode=self.ceil)]
        top, places = functional.max_pool2d(bottom, kernel, self.stride, pad, ceil_mode=self.ceil, return_indices=True)
        return [top, places.to(top.dtype)]


TYPES = {"Convolution": Convolution, "Deconvolution": Deconvolution, "Im2col": Im2col, "Pooling": Pooling}
