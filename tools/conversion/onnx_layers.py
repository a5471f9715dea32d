"""Caffe's layers as nodes of ONNX (opset 12).

Each function of `WRITERS` writes one type of layer into a `Graph`. It computes what Caffe computes in the TEST phase.
The first axis of each blob is the batch. Its size is open, so a layer whose settings depend on it is refused.
"""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from common.errors import UserError


@dataclass(frozen=True)
class Blob:
    """A bottom or top of a layer."""

    # The name of its tensor. Layers that work in place write to a new tensor.
    name: str
    # In Caffe, with the batch size that the prototxt declares.
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer of a net with its weights."""

    # Caffe's LayerParameter.
    proto: Any
    bottoms: Sequence[Blob]
    tops: Sequence[Blob]
    # Its parameter blobs, float32.
    weights: Sequence[np.ndarray] = ()

    @property
    def rank(self) -> int:
        """The number of axes of the first bottom."""
        return len(self.bottoms[0].shape)

    def axis(self, axis: int) -> int:
        """An axis of the first bottom, counted from 0. Raises UserError if it is the batch."""
        positive = axis % self.rank
        if positive == 0:
            raise self.error("works across the images of a batch (axis 0)")
        return positive

    def error(self, problem: str) -> UserError:
        return UserError(f"layer {self.proto.name}: type {self.proto.type} {problem}, which cannot be exported")


@dataclass
class Graph:
    """The ONNX graph that is being made."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[Blob] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    # Tops of DummyData. Most give only their shape to a Crop; the others become initializers when they are used.
    dummies: dict[str, np.ndarray] = field(default_factory=dict)
    # The batch size, if a layer fixes it; None if it is open.
    batch: Optional[int] = None

    def constant(self, layer: Layer, values: Any, dtype: type = np.float32) -> str:
        """Adds an array. Returns the name of its tensor."""
        name = f"{layer.proto.name}/constant{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

    def node(self, layer: Layer, kind: str, inputs: Iterable[str], outputs: Optional[Sequence[Blob]] = None,
             **attributes: Any) -> str:
        """Adds a node. outputs: None for a new tensor. Returns the name of its first output."""
        inputs = list(inputs)
        for name in inputs:
            if name in self.dummies:
                values = self.dummies.pop(name)
                self.initializers.append(numpy_helper.from_array(values, name))
                self.batch = len(values)
        name = f"{layer.proto.name}/{kind}{len(self.nodes)}"
        names = [blob.name for blob in outputs] if outputs else [name + ":0"]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, inputs, names, name, **given))
        return names[0]

    def chain(self, layer: Layer, steps: Sequence[tuple], start: str) -> None:
        """Adds nodes of one tensor each, the last of which writes the layer's top. steps: (kind, other inputs,
        attributes) of each; start: the name of the tensor that the first one takes."""
        for number, (kind, others, attributes) in enumerate(steps or [("Identity", [], {})], start=1):
            start = self.node(layer, kind, [start, *others], layer.tops if number >= len(steps) else None, **attributes)

    def proto(self, name: str, outputs: Sequence[Blob]) -> onnx.GraphProto:
        """The finished graph. outputs: the blobs that it gives."""
        def described(blob: Blob) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(blob.name, TensorProto.FLOAT,
                                                 [self.batch or "batch", *blob.shape[1:]])
        return helper.make_graph(self.nodes, name, [described(blob) for blob in self.inputs],
                                 [described(blob) for blob in outputs], self.initializers)


def write(graph: Graph, layer: Layer) -> None:
    """Adds a layer to a graph. Raises UserError, which names the layer, if it cannot be exported."""
    kind = layer.proto.type
    if kind == "Python":
        raise layer.error(f"({layer.proto.python_param.module}.{layer.proto.python_param.layer}) is a Python layer")
    if kind not in WRITERS:
        raise layer.error("is not one of " + ", ".join(sorted(WRITERS)))
    WRITERS[kind](graph, layer)


# ---------------------------------------------------------------- inputs

def _input(graph: Graph, layer: Layer) -> None:
    graph.inputs += layer.tops


def _dummy_data(graph: Graph, layer: Layer) -> None:
    fillers = list(layer.proto.dummy_data_param.data_filler)
    for number, top in enumerate(layer.tops):
        filler = fillers[number if len(fillers) > 1 else 0] if fillers else None
        if filler is not None and filler.type != "constant":
            raise layer.error(f"has random values (filler {filler.type})")
        graph.dummies[top.name] = np.full(top.shape, filler.value if filler is not None else 0, np.float32)


# ---------------------------------------------------------------- layers with weights

def _per_axis(layer: Layer, settings: Any, name: str, default: int) -> list[int]:
    """A setting of a window, such as kernel_size, for each of its axes: height, width."""
    axes = layer.rank - 2
    letter = name.partition("_")[0]
    if axes == 2 and settings.HasField(letter + "_h"):
        return [getattr(settings, letter + "_h"), getattr(settings, letter + "_w")]
    values = list(getattr(settings, name))
    return (values or [default]) * (1 if len(values) == axes else axes)


def _window(layer: Layer) -> dict[str, list[int]]:
    settings = layer.proto.convolution_param
    if layer.rank < 3 or layer.axis(settings.axis) != 1:
        raise layer.error(f"has its channels on axis {settings.axis} of {layer.rank}, not on axis 1 of at least 3")
    return {"kernel_shape": _per_axis(layer, settings, "kernel_size", 0),
            "strides": _per_axis(layer, settings, "stride", 1),
            "pads": _per_axis(layer, settings, "pad", 0) * 2,
            "dilations": list(settings.dilation or [1]) * (1 if len(settings.dilation) > 1 else layer.rank - 2)}


def _convolution(graph: Graph, layer: Layer) -> None:
    weights = [graph.constant(layer, blob) for blob in layer.weights]
    for bottom, top in zip(layer.bottoms, layer.tops):
        graph.node(layer, "Conv", [bottom.name, *weights], [top], group=layer.proto.convolution_param.group,
                   **_window(layer))


def _im2col(graph: Graph, layer: Layer) -> None:
    """A convolution of each channel with kernels that pick one pixel each."""
    window, channels = _window(layer), layer.bottoms[0].shape[1]
    size = int(np.prod(window["kernel_shape"]))
    kernels = np.tile(np.eye(size), (channels, 1)).reshape(channels * size, 1, *window["kernel_shape"])
    graph.node(layer, "Conv", [layer.bottoms[0].name, graph.constant(layer, kernels)], layer.tops, group=channels,
               **window)


def _inner_product(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.inner_product_param
    axis = layer.axis(settings.axis)
    matrix = layer.weights[0].reshape(layer.weights[0].shape[-2:])
    weights = [graph.constant(layer, matrix), *(graph.constant(layer, bias.ravel()) for bias in layer.weights[1:])]
    steps: list[tuple] = [("Flatten", [], {"axis": axis}), ("Gemm", weights, {"transB": int(not settings.transpose)})]
    if axis > 1:
        steps.append(("Reshape", [_shape(graph, layer)], {}))
    graph.chain(layer, steps, layer.bottoms[0].name)


def _prelu(graph: Graph, layer: Layer) -> None:
    slope = layer.weights[0]
    shape = [slope.size] + [1] * (layer.rank - 2)
    graph.chain(layer, [("PRelu", [graph.constant(layer, slope.reshape(shape))], {})], layer.bottoms[0].name)


def _batch_norm(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.batch_norm_param
    if settings.HasField("use_global_stats") and not settings.use_global_stats:
        raise layer.error("uses the statistics of the batch (use_global_stats: false)")
    mean, variance, weight = layer.weights
    factor = np.float32(1 / weight.item() if weight.item() else 0)
    channels = np.ones(mean.size)
    inputs = [graph.constant(layer, values) for values in (channels, 0 * channels, mean * factor, variance * factor)]
    graph.chain(layer, [("BatchNormalization", inputs, {"epsilon": settings.eps})], layer.bottoms[0].name)


def _scale(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.scale_param
    weights = list(layer.weights)
    axis = settings.axis % layer.rank
    bias = weights.pop() if settings.bias_term else None
    if len(layer.bottoms) > 1:
        # Factors of the first axes alone get the last ones, to be the same along them.
        second, covered = layer.bottoms[1], axis + len(layer.bottoms[1].shape)
        missing = list(range(len(second.shape), len(second.shape) + layer.rank - covered)) if second.shape else []
        factor = graph.node(layer, "Unsqueeze", [second.name], axes=missing) if missing else second.name
        shape = second.shape
    else:
        shape = weights[0].shape
        factor = _along(graph, layer, weights[0], axis)
    if axis == 0 and shape and (bias is not None or len(layer.bottoms) == 1):
        raise layer.error("has a weight for each image of a batch (axis 0)")
    steps: list[tuple] = [("Mul", [factor], {})]
    if bias is not None:
        steps.append(("Add", [_along(graph, layer, bias, axis)], {}))
    graph.chain(layer, steps, layer.bottoms[0].name)


def _along(graph: Graph, layer: Layer, values: np.ndarray, axis: int) -> str:
    """A constant whose axes are those of the first bottom from `axis` on; it is the same along the others."""
    return graph.constant(layer, values.reshape(values.shape + (1,) * (layer.rank - axis - values.ndim)
                                                if values.ndim else ()))


# ---------------------------------------------------------------- pooling

def _pooling(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.pooling_param
    method = settings.PoolMethod.Name(settings.pool)
    if method == "STOCHASTIC" or len(layer.tops) > 1:
        raise layer.error("is stochastic" if len(layer.tops) == 1 else "has a second top, the mask")
    if settings.global_pooling:
        kind = "GlobalMaxPool" if method == "MAX" else "GlobalAveragePool"
        return graph.chain(layer, [(kind, [], {})], layer.bottoms[0].name)
    kernel, stride, pad = (
        [getattr(settings, name + "_h"), getattr(settings, name + "_w")] if settings.HasField(name + "_h")
        else [getattr(settings, {"kernel": "kernel_size"}.get(name, name))] * 2 for name in ("kernel", "stride", "pad"))
    before, after = layer.bottoms[0].shape[2:], layer.tops[0].shape[2:]
    # How far the last window reaches beyond the image. Caffe rounds the number of windows up, so this may be more than
    # its pad.
    ends = [max(0, (count - 1) * step + size - length - padding) for size, step, padding, length, count in zip(
        kernel, stride, pad, before, after)]
    if any((count - 1) * step - padding >= length for step, padding, length, count in zip(stride, pad, before, after)):
        raise layer.error("has a window that lies outside of the image")
    window = {"kernel_shape": kernel, "strides": stride, "pads": pad + ends}
    if method == "MAX":
        return graph.chain(layer, [("MaxPool", [], window)], layer.bottoms[0].name)
    # Caffe divides by the part of the window within the image and its pad, ONNX by the whole window.
    parts = [np.minimum(size, length + 2 * padding - np.arange(count) * step)
             for size, step, padding, length, count in zip(kernel, stride, pad, before, after)]
    steps: list[tuple] = [("AveragePool", [], {**window, "count_include_pad": 1})]
    if any((part < size).any() for part, size in zip(parts, kernel)):
        steps.append(("Mul", [graph.constant(layer, np.prod(kernel) / np.outer(*parts))], {}))
    return graph.chain(layer, steps, layer.bottoms[0].name)


def _lrn(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.lrn_param
    bottom, size = layer.bottoms[0].name, settings.local_size
    if settings.norm_region == settings.ACROSS_CHANNELS:
        return graph.chain(layer, [("LRN", [], {"alpha": settings.alpha, "beta": settings.beta, "bias": settings.k,
                                                "size": size})], bottom)
    # As Caffe does it, whose k has no effect here: x * (1 + alpha * mean of the squares in the window) ** -beta.
    alpha, one, exponent = (graph.constant(layer, value) for value in (settings.alpha, 1, -settings.beta))
    mean = graph.node(layer, "AveragePool", [graph.node(layer, "Mul", [bottom, bottom])], kernel_shape=[size] * 2,
                      pads=[size // 2] * 4, count_include_pad=1)
    divided = graph.node(layer, "Pow", [graph.node(layer, "Add", [graph.node(layer, "Mul", [mean, alpha]), one]),
                                        exponent])
    return graph.chain(layer, [("Mul", [divided], {})], bottom)


# ---------------------------------------------------------------- one value at a time

def _relu(graph: Graph, layer: Layer) -> None:
    slope = layer.proto.relu_param.negative_slope
    graph.chain(layer, [("LeakyRelu", [], {"alpha": slope}) if slope else ("Relu", [], {})], layer.bottoms[0].name)


def _power(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.power_param
    graph.chain(layer, [(kind, [graph.constant(layer, value)], {}) for kind, value, neutral in (
        ("Mul", settings.scale, 1), ("Add", settings.shift, 0), ("Pow", settings.power, 1)) if value != neutral],
        layer.bottoms[0].name)


def _softmax(graph: Graph, layer: Layer) -> None:
    """That of opset 12 is over all axes from the given one on, so the axis is brought to the end."""
    axis = layer.axis(layer.proto.softmax_param.axis)
    order = [other for other in range(layer.rank) if other != axis] + [axis]
    steps: list[tuple] = [("Softmax", [], {"axis": layer.rank - 1})]
    if axis != layer.rank - 1:
        steps = [("Transpose", [], {"perm": order}), *steps, ("Transpose", [], {"perm": np.argsort(order).tolist()})]
    graph.chain(layer, steps, layer.bottoms[0].name)


def _plain(kind: str) -> Callable[[Graph, Layer], None]:
    """The writer of a layer without settings."""
    def writer(graph: Graph, layer: Layer) -> None:
        for top in layer.tops:
            graph.node(layer, kind, [layer.bottoms[0].name], [top])
    return writer


# ---------------------------------------------------------------- several bottoms or tops

def _eltwise(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.eltwise_param
    names = [blob.name for blob in layer.bottoms]
    kind = {settings.PROD: "Mul", settings.SUM: "Sum", settings.MAX: "Max"}[settings.operation]
    if kind == "Mul":
        graph.chain(layer, [("Mul", [name], {}) for name in names[1:]], names[0])
        return
    if kind == "Sum" and any(coefficient != 1 for coefficient in settings.coeff):
        names = [graph.node(layer, "Mul", [name, graph.constant(layer, coefficient)])
                 for name, coefficient in zip(names, settings.coeff)]
    graph.node(layer, kind, names, layer.tops)


def _concat(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.concat_param
    axis = (settings.concat_dim if settings.HasField("concat_dim") else settings.axis) % layer.rank
    graph.node(layer, "Concat", [blob.name for blob in layer.bottoms], layer.tops, axis=axis)


def _slice(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.slice_param
    axis = settings.slice_dim if settings.HasField("slice_dim") else settings.axis
    if settings.slice_point:
        axis = layer.axis(axis)
        sizes: Optional[list[int]] = [top.shape[axis] for top in layer.tops]
    else:  # equal parts, also of a batch of pairs
        axis, sizes = axis % layer.rank, None
    graph.node(layer, "Split", [layer.bottoms[0].name], layer.tops, axis=axis, split=sizes)


def _crop(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.crop_param
    first = layer.axis(settings.axis)
    axes = list(range(first, layer.rank))
    offsets = list(settings.offset or [0]) * (1 if len(settings.offset) > 1 else len(axes))
    ends = [offset + layer.bottoms[1].shape[axis] for offset, axis in zip(offsets, axes)]
    graph.node(layer, "Slice", [layer.bottoms[0].name, *(
        graph.constant(layer, values, np.int64) for values in (offsets, ends, axes))], layer.tops)


# ---------------------------------------------------------------- shapes and sums

def _shape(graph: Graph, layer: Layer) -> str:
    """The shape of the top, with an open batch."""
    return graph.constant(layer, [-1, *layer.tops[0].shape[1:]], np.int64)


def _flatten(graph: Graph, layer: Layer) -> None:
    layer.axis(layer.proto.flatten_param.axis)
    graph.chain(layer, [("Reshape", [_shape(graph, layer)], {})], layer.bottoms[0].name)


def _reshape(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.reshape_param
    first = settings.axis if settings.axis >= 0 else layer.rank + 1 + settings.axis
    # The first new axis is the batch where it copies it (0), or where all others have the values of an image.
    sizes = list(settings.shape.dim)
    keeps = sizes and (sizes[0] == 0 or sizes[0] == -1 and 0 not in sizes
                       and np.prod(sizes[1:]) == np.prod(layer.bottoms[0].shape[1:]))
    if first == 0 and not keeps:
        raise layer.error(f"has the shape {sizes}, whose first number is not 0 (the batch as it is)")
    graph.chain(layer, [("Reshape", [_shape(graph, layer)], {})], layer.bottoms[0].name)


def _reduction(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.reduction_param
    kind = {settings.SUM: "ReduceSum", settings.ASUM: "ReduceL1", settings.SUMSQ: "ReduceSumSquare",
            settings.MEAN: "ReduceMean"}[settings.operation]
    axes = list(range(layer.axis(settings.axis), layer.rank))
    steps: list[tuple] = [(kind, [], {"axes": axes, "keepdims": 0})]
    if settings.coeff != 1:
        steps.append(("Mul", [graph.constant(layer, settings.coeff)], {}))
    graph.chain(layer, steps, layer.bottoms[0].name)


def _tile(graph: Graph, layer: Layer) -> None:
    settings = layer.proto.tile_param
    repeats = np.ones(layer.rank, np.int64)
    repeats[layer.axis(settings.axis)] = settings.tiles
    graph.chain(layer, [("Tile", [graph.constant(layer, repeats, np.int64)], {})], layer.bottoms[0].name)


# Caffe's type of a layer -> the function that adds it to a graph.
WRITERS: dict[str, Callable[[Graph, Layer], None]] = {
    "BatchNorm": _batch_norm, "Concat": _concat, "Convolution": _convolution, "Crop": _crop,
    "Dropout": _plain("Identity"), "DummyData": _dummy_data, "Eltwise": _eltwise, "Flatten": _flatten,
    "Im2col": _im2col, "InnerProduct": _inner_product, "Input": _input, "LRN": _lrn, "PReLU": _prelu,
    "Pooling": _pooling, "Power": _power, "ReLU": _relu, "Reduction": _reduction, "Reshape": _reshape, "Scale": _scale,
    "Sigmoid": _plain("Sigmoid"), "Slice": _slice, "Softmax": _softmax, "Split": _plain("Identity"),
    "TanH": _plain("Tanh"), "Tile": _tile}
