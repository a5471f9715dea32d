"""Nets on several ranks, which are threads here, against the same nets in one process."""
import threading

import numpy as np
import pytest
import torch

from engine import ranks, slicing, solver, solver_param
from tests import caffe_nets
from tests.engine import compare, training
from tests.engine.compare import layer

SIZES = [2, 3]


class Thread(ranks.Alone):
    """A rank in a thread. `shared`: a barrier and a place for each rank's tensor."""

    def __init__(self, rank, size, shared):
        self.rank, self.size, self.shared = rank, size, shared

    def gather(self, tensor):
        barrier, tensors = self.shared
        assert tensor.is_contiguous()
        tensors[self.rank] = tensor.detach().clone()
        barrier.wait()
        assert len({tuple(one.shape) for one in tensors}) == 1
        made = [one.clone() for one in tensors]
        barrier.wait()
        return made

    def sum_(self, tensor):
        tensor.copy_(sum(self.gather(tensor)))


def on_ranks(size, work):
    """What work(rank) returns in each of the threads."""
    shared = threading.Barrier(size, timeout=20), [None] * size
    made, errors = [None] * size, []

    def run(rank):
        try:
            made[rank] = work(Thread(rank, size, shared))
        except Exception as error:
            errors.append(error)
            shared[0].abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for error in errors:
        raise error
    return made


def passes(text, inputs, rank, phase, number):
    """Outputs and gradients by name, and the number of layers that ran on a part of the rows."""
    net = compare.engine_net(text, phase, seed=1, ranks=rank)
    cut, seen = set(), {}
    for one in net.layers:
        def forward(bottoms, one=one, own=one.forward):
            if net.context.rows is not None:
                cut.add(one.name)
            return own(bottoms)
        one.forward = forward
        if one.param.type == "Parameter":
            blob = one.blobs[0].detach()
            blob.copy_(torch.linspace(-1, 1, blob.numel()).view(blob.shape))
    for _ in range(number):
        for one in net.layers:
            if one.param.type == "Input":
                one.values = [torch.tensor(inputs[name], dtype=torch.float32) for name in one.param.top]
        net.forward()
        seen.update({name: net.blobs[name].detach().clone() for name in net.outputs})
        seen["loss"] = net.loss.detach().clone()
        net.backward()
        for one in net.layers:
            if one.param.type == "Input":
                seen.update({f"gradient of {name}": value.grad for name, value in zip(one.param.top, one.values)
                             if value.grad is not None})
    net.sum_gradients()
    for one in net.parameters:
        seen[f"{one.layer}/{one.number}"] = one.blob.detach().clone()
        if one.blob.grad is not None:
            seen[f"gradient of {one.layer}/{one.number}"] = one.blob.grad
    return seen, cut


def alike(text, inputs, cut, size=2, phase=compare.TRAIN, number=2, tolerance=2e-6):
    """Checks that `number` passes give the same values and gradients in one process and on `size` ranks, and that the
    layers named in `cut`, and no others, ran on parts."""
    expected, none = passes(text, inputs, ranks.ALONE, phase, number)
    assert not none
    for found, ran in on_ranks(size, lambda rank: passes(text, inputs, rank, phase, number)):
        assert ran == set(cut)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].shape == values.shape, name
            difference = (found[name] - values).abs().max().item() / max(1e-2, values.abs().max().item())
            assert difference <= tolerance, (name, difference)
    return expected


def drawn(**shapes):
    random = np.random.RandomState(0)
    return {name: random.standard_normal(shape) for name, shape in shapes.items()}


IMAGE = (6, 4, 5, 5)
FILLER = 'weight_filler { type: "gaussian" std: 0.5 }'
# Type, settings, shape of the bottom(s), and whether it works by row.
CASES = [
    ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 group: 2 %s }" % FILLER, [IMAGE], True),
    ("Deconvolution", "convolution_param { num_output: 2 kernel_size: 2 %s }" % FILLER, [IMAGE], True),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", [IMAGE], True),
    ("Pooling", "pooling_param { pool: AVE global_pooling: true }", [IMAGE], True),
    ("ReLU", "", [IMAGE], True), ("ReLU", "", [(6,)], True), ("PReLU", "", [IMAGE], True),
    ("PReLU", "prelu_param { channel_shared: true }", [IMAGE], True),
    ("ELU", "", [IMAGE], True), ("Sigmoid", "", [IMAGE], True), ("TanH", "", [IMAGE], True),
    ("AbsVal", "", [IMAGE], True), ("BNLL", "", [IMAGE], True), ("Power", "power_param { scale: 2 }", [IMAGE], True),
    ("Exp", "", [IMAGE], True), ("Log", "log_param { shift: 9 }", [IMAGE], True), ("Threshold", "", [IMAGE], True),
    ("LRN", "", [IMAGE], True), ("LRN", "lrn_param { norm_region: WITHIN_CHANNEL }", [IMAGE], True),
    ("MVN", "", [IMAGE], True), ("MVN", "", [(6, 3)], True), ("Dropout", "", [IMAGE], True),
    ("BatchNorm", "", [IMAGE], True), ("BatchNorm", "", [(6, 3)], True),
    ("BatchNorm", "batch_norm_param { use_global_stats: true }", [IMAGE], True),
    ("Split", "", [IMAGE], True), ("Eltwise", "", [IMAGE, IMAGE], True),
    ("Eltwise", "eltwise_param { operation: MAX }", [IMAGE, IMAGE], True),
    ("InnerProduct", "inner_product_param { num_output: 3 %s }" % FILLER, [IMAGE], True),
    ("InnerProduct", "inner_product_param { num_output: 3 axis: -1 %s }" % FILLER, [IMAGE], True),
    ("InnerProduct", "inner_product_param { num_output: 3 axis: 0 %s }" % FILLER, [IMAGE], False),
    ("InnerProduct", "inner_product_param { num_output: 3 axis: -2 %s }" % FILLER, [(6, 3)], False),
    ("Softmax", "", [IMAGE], True), ("Softmax", "softmax_param { axis: 0 }", [IMAGE], False),
    ("Softmax", "softmax_param { axis: -2 }", [(6, 3)], False),
    ("Reduction", "reduction_param { axis: 1 }", [IMAGE], True), ("Reduction", "", [IMAGE], False),
    ("Tile", "tile_param { tiles: 2 }", [IMAGE], True), ("Tile", "tile_param { tiles: 2 axis: 0 }", [IMAGE], False),
    ("Flatten", "", [IMAGE], True), ("Flatten", "flatten_param { axis: 0 end_axis: 1 }", [IMAGE], False),
    ("Concat", "", [IMAGE, IMAGE], True), ("Concat", "concat_param { axis: 0 }", [IMAGE, IMAGE], False),
    ("Concat", "concat_param { concat_dim: 0 }", [IMAGE, IMAGE], False),
    ("Concat", "concat_param { axis: -1 }", [IMAGE, IMAGE], True),
    ("Slice", "slice_param { slice_point: 1 }", [IMAGE], True),
    ("Slice", "slice_param { slice_dim: 0 }", [IMAGE], False),
    ("Slice", "slice_param { axis: -4 }", [IMAGE], False),
    ("Crop", "crop_param { axis: 2 }", [IMAGE, (6, 4, 2, 3)], True),
    ("Crop", "crop_param { axis: 2 }", [IMAGE, (5, 4, 2, 3)], False),
    ("Crop", "crop_param { axis: 0 }", [IMAGE, IMAGE], False),
    ("Scale", "", [IMAGE], True), ("Scale", "scale_param { axis: 0 }", [IMAGE], False),
    ("Scale", "scale_param { axis: 0 num_axes: 0 bias_term: true }", [IMAGE], True),
    ("Scale", "scale_param { axis: 0 }", [IMAGE, (6,)], True),
    ("Scale", "scale_param { axis: 0 bias_term: true }", [IMAGE, (6, 4)], False),
    ("Scale", "scale_param { axis: 1 }", [IMAGE, (4,)], False),
    ("Scale", "scale_param { axis: 1 }", [(6, 6, 2), (6,)], False),
    ("Scale", "scale_param { axis: 0 }", [IMAGE, ()], False),
    ("Bias", "bias_param { axis: -1 }", [IMAGE], True), ("Bias", "bias_param { axis: 0 }", [IMAGE, (6, 4)], True),
    ("Bias", "bias_param { axis: -4 num_axes: 1 }", [IMAGE], False),
    ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", [IMAGE], True),
    ("Reshape", "reshape_param { axis: 1 shape { dim: -1 } }", [IMAGE], True),
    ("Reshape", "reshape_param { shape { dim: 6 dim: -1 } }", [IMAGE], False),
    ("Reshape", "reshape_param { shape { dim: -1 dim: 4 } }", [IMAGE], False),
    ("Reshape", "reshape_param { shape { dim: 1 } num_axes: 0 }", [IMAGE], False),
    ("Reshape", "reshape_param { axis: -1 shape { dim: 1 } }", [IMAGE], True),
    ("ArgMax", "", [IMAGE], False), ("EuclideanLoss", "", [IMAGE, IMAGE], False),
]


LOSS = "loss_weight: 0.7 reduction_param { operation: SUMSQ }"


@pytest.mark.parametrize("kind, settings, shapes, cut", CASES)
def test_layers_by_row_and_others(kind, settings, shapes, cut):
    """Behind layers that work by row, so that the bottoms are parts and get a gradient, and before one that does so."""
    inputs = drawn(**{f"data{number}": shape for number, shape in enumerate(shapes)})
    text, bottoms = caffe_nets.inputs(**{name: array.shape for name, array in inputs.items()}), []
    for name, array in inputs.items():
        bottoms.append(f"{name}_in" if array.shape else name)
        text += layer("Power", "power_param { scale: 1.5 }", [name], bottoms[-1:]) if array.shape else ""
    tops = ["top", "top1"] if kind in ("Slice", "Split") else ["top"]
    text += layer(kind, settings, bottoms, tops)
    for top in tops if kind not in ("Threshold", "ArgMax", "EuclideanLoss") else ():
        text += layer("TanH", "loss_weight: 0.7", [top], [f"{top}_out"])
    shapes = compare.engine_net(text).shapes
    for size in SIZES:
        parts = {name for name, shape in shapes.items()
                 if name.endswith(("_in", "_out")) and shape and shape[0] >= size}
        alike(text + " force_backward: true", inputs, parts | {"top"} if cut else parts, size)


def test_embed_and_silence():
    text = caffe_nets.inputs(data=(5, 2)) + layer(
        "Embed", "embed_param { input_dim: 3 num_output: 2 %s }" % FILLER, ["data"], ["top"]) + layer(
        "Power", "", ["data"], ["none"]) + layer("Silence", "", ["none"], [], name="silence") + layer(
        "Reduction", LOSS, ["top"], ["loss"])
    indices = np.array([[0, 1], [2, 2], [1, 0], [0, 0], [2, 1]])
    for size in SIZES:
        alike(text, dict(data=indices), ["top", "none", "silence"], size)


@pytest.mark.parametrize("total", [2, 3, 4, 5, 7])
def test_any_number_of_rows(total):
    """Also fewer than ranks: then all of them compute the whole batch."""
    text = caffe_nets.inputs(data=(total, 3, 4, 4)) + layer(
        "Convolution", "convolution_param { num_output: 2 kernel_size: 3 %s }" % FILLER, ["data"], ["conv"]) + layer(
        "BatchNorm", "", ["conv"], ["norm"]) + layer("Dropout", "", ["norm"], ["drop"]) + layer(
        "EuclideanLoss", "", ["drop", "conv"], ["loss"])
    for size in SIZES:
        alike(text, drawn(data=(total, 3, 4, 4)), ["conv", "norm", "drop"] if total >= size else [], size)


@pytest.mark.parametrize("size", SIZES)
def test_the_rows_of_the_ranks(size):
    for total in range(size, 12):
        parts = [slicing.Rows(Thread(rank, size, None), total) for rank in range(size)]
        bounds = [(part.start, part.end) for part in parts]
        assert [row for start, end in bounds for row in range(start, end)] == list(range(total))
        sizes = [end - start for start, end in bounds]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


SHARED = """
layer { name: "%s" type: "InnerProduct" bottom: "%s" top: "%s" param { name: "w" } inner_product_param {
        num_output: 4 bias_term: false weight_filler { type: "gaussian" std: 0.5 } } }"""
SQUARES = "reduction_param { operation: SUMSQ } loss_weight: 1"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("at_first", [True, False])
@pytest.mark.parametrize("more", [
    "", SHARED % ("few", "small", "c"),
    (SHARED % ("turned", "square", "c")).replace("num_output", "axis: 0 num_output"),
    'layer { name: "p" type: "Parameter" top: "c" param { name: "w" } parameter_param { shape { dim: 4 dim: 4 } } }'])
def test_a_parameter_of_layers_on_parts_and_on_whole_blobs(size, at_first, more):
    """The first two layers work by row. Of the others one has too few rows, one is on axis 0, one is a Parameter."""
    inputs = dict(data=(5, 4), small=(1, 4), square=(4, 1))
    text = SHARED % ("first", "data", "a") + SHARED % ("second", "a", "b")
    text += layer("Reduction", SQUARES, ["b"], ["loss"])
    more += layer("Reduction", SQUARES, ["c"], ["more"]) if more else ""
    text = caffe_nets.inputs(**inputs) + (more + text if at_first else text + more)
    found = alike(text, drawn(**inputs), ["first", "second"], size)
    assert max(found[name].abs().max() for name in found if name.startswith("gradient of")) > 1e-2


@pytest.mark.parametrize("size", SIZES)
def test_python_layers_see_whole_blobs_and_whole_gradients(size):
    """PruningLayer multiplies the gradient that the InnerProduct behind it has added; the sparseness of the same
    weights adds to it; the centers have a gradient of Python only."""
    inputs = dict(data=(5, 6), label=(5,))
    arrays = dict(drawn(**inputs), label=np.array([0, 1, 2, 1, 0]))
    text = "\n".join([
        caffe_nets.inputs(**inputs), layer("Power", "power_param { scale: 2 }", ["data"], ["in"]),
        caffe_nets.python_layer("pruning", "pruning", "PruningLayer", ["in"], 0, ['name: "w"', "lr_mult: 0"], ["in"],
                                outputs=4, share=0.4),
        SHARED % ("ip", "in", "ip"),
        caffe_nets.python_layer("sparse", "sparseness_loss", "SparsenessLossLayer", [], 0.1, ['name: "w"'],
                                shape=[4, 6]), SHARED % ("again", "in", "again"),
        caffe_nets.python_layer("center", "center_loss", "CenterLossLayer", ["ip", "label"], 0.5, classes=3),
        layer("Eltwise", "", ["ip", "again"], ["sum"]), layer("TanH", "", ["sum"], ["out"]),
        layer("SoftmaxWithLoss", "", ["out", "label"], ["loss"])])
    found = alike(text, arrays, ["in", "ip", "again", "sum", "out"], size)
    gradient = found["gradient of pruning/0"]
    assert (gradient == 0).sum() >= 9 and gradient.abs().max() > 1e-2
    assert found["gradient of center/0"].abs().max() > 1e-2


@pytest.mark.parametrize("size", SIZES)
def test_parts_behind_whole_blobs_with_a_gradient(size):
    """The gradient of a blob that is cut is gathered. It has a reader of each kind."""
    text = caffe_nets.inputs(data=(5, 4)) + layer("Power", "", ["data"], ["in"]) + layer(
        "Softmax", "softmax_param { axis: 0 }", ["in"], ["whole"]) + layer("TanH", "", ["whole"], ["part"]) + layer(
        "Reduction", LOSS, ["part"], ["loss"]) + layer("Reduction", SQUARES, ["whole"], ["other"])
    found = alike(text + " force_backward: true", drawn(data=(5, 4)), ["in", "part"], size)
    assert found["gradient of data"].abs().max() > 1e-2


def test_outputs_and_losses_are_whole():
    """Of layers that work by row: an output, and a loss that is read, too."""
    text = caffe_nets.inputs(data=(5, 4)) + layer("Power", "power_param { power: 2 } loss_weight: 0.5", ["data"],
                                                  ["loss"]) + layer("TanH", "", ["loss"], ["out"])
    found = alike(text + " force_backward: true", drawn(data=(5, 4)), ["loss", "out"])
    assert found["out"].shape == (5, 4)


def test_a_blob_that_is_kept_is_whole():
    text = caffe_nets.inputs(data=(5, 4)) + layer("TanH", "", ["data"], ["kept"]) + layer("TanH", "", ["kept"], ["out"])

    def kept(rank):
        return compare.engine_net(text, ranks=rank).forward(keep=["kept"])["kept"].shape

    assert on_ranks(2, kept) == [(5, 4), (5, 4)]


def test_a_bottom_without_propagate_down():
    text = caffe_nets.inputs(data=(5, 4)) + SHARED % ("ip", "data", "ip") + layer(
        "EuclideanLoss", "propagate_down: true propagate_down: false", ["ip", "data"], ["loss"])
    alike(text + " force_backward: true", drawn(data=(5, 4)), ["ip"])


@pytest.mark.parametrize("size", SIZES)
def test_in_the_phase_test(size):
    text = caffe_nets.inputs(data=(5, 3, 4, 4), label=(5,)) + layer("BatchNorm", "", ["data"], ["norm"]) + layer(
        "Dropout", "", ["norm"], ["norm"], name="drop") + layer(
        "InnerProduct", "inner_product_param { num_output: 3 %s }" % FILLER, ["norm"], ["ip"]) + layer(
        "Accuracy", "", ["ip", "label"], ["accuracy"])
    arrays = dict(drawn(data=(5, 3, 4, 4)), label=np.arange(5) % 3)
    alike(text, arrays, ["norm", "drop", "ip"], size, compare.TEST)


def test_a_solvers_nets_are_divided(tmp_path):
    net = training.NET.replace("dim: 8", "dim: 5")
    path = training.write(tmp_path, "max_iter: 3 test_iter: 2 test_interval: 2", net)

    def work(rank):
        made = solver.Solver(solver_param.read(path), training.Log(), ranks=rank)
        rows = []
        for one in made.net, *made.test_nets:
            layer = one.layer("second")
            layer.forward = lambda bottoms, own=layer.forward: rows.append(len(bottoms[0])) or own(bottoms)
        made.step(3)
        return rows, training.weights(made)

    (_, expected), first, second = work(ranks.ALONE), *on_ranks(2, work)
    assert first[0] == [2] * (3 + 2 * 2) and second[0] == [3] * (3 + 2 * 2)
    for _, found in first, second:
        assert training.difference(found, expected) <= 1e-6
