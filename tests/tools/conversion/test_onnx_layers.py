"""Each type of layer as ONNX: onnxruntime computes what the real Caffe computes, also for another batch size."""
import caffe
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from common.errors import UserError
from tests import caffe_nets
from tools.conversion import export, onnx_layers
from tools.conversion.onnx_layers import Blob


def layer(kind, settings="", bottoms=("x",), tops=("y",)):
    names = " ".join([f'bottom: "{name}"' for name in bottoms] + [f'top: "{name}"' for name in tops])
    return f'layer {{ name: "{kind.lower()}" type: "{kind}" {names} {settings} }}'


def caffe_net(folder, text, seed=0):
    """The net with random weights. Those of BatchNorm are sums, as in training: the third blob counts them."""
    net, random = caffe_nets.net(folder, text, caffe.TEST), np.random.RandomState(seed)
    kinds = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    for name, blobs in net.params.items():
        for blob in blobs:
            blob.data[...] = random.randn(*blob.shape) / 2
        if kinds[name] == "BatchNorm":
            blobs[1].data[...] = random.uniform(0.5, 3, blobs[1].shape)
            blobs[2].data[...] = 2.5
    return net


def session(folder, net, outputs):
    """Returns a session of onnxruntime for the net of `caffe_net`."""
    graph = export.graph_of(str(folder / "net.prototxt"), net)
    proto = graph.proto("net", [Blob(name, tuple(net.blobs[name].shape)) for name in outputs])
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", export.OPSET)])
    model.ir_version = export.IR
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def require_equal(folder, shapes, text, outputs=("y",), batches=(2, 5), draw=np.random.RandomState.randn):
    """shapes: of the inputs, without the batch."""
    inputs = caffe_nets.inputs(**{name: (2, *shape) for name, shape in shapes.items()})
    net = caffe_net(folder, inputs + text)
    made = session(folder, net, outputs)
    for batch in batches:
        random = np.random.RandomState(batch)
        values = {name: draw(random, batch, *shape).astype(np.float32) for name, shape in shapes.items()}
        for name, value in values.items():
            net.blobs[name].reshape(*value.shape)
            net.blobs[name].data[...] = value
        net.forward()
        for name, found in zip(outputs, made.run(list(outputs), values)):
            expected = net.blobs[name].data
            assert found.shape == expected.shape and expected.std() > 0
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def pooling(settings):
    return layer("Pooling", f"pooling_param {{ {settings} }}")


def convolution(settings, kind="Convolution"):
    return layer(kind, f"convolution_param {{ {settings} }}")


MAP = {"x": (4, 7, 9)}
ODD = {"x": (2, 12, 11)}
CASES = {
    "convolution": (MAP, convolution("num_output: 6 kernel_size: 3")),
    "convolution without bias": (MAP, convolution("num_output: 6 kernel_size: 3 bias_term: false")),
    "convolution, groups": (MAP, convolution("num_output: 6 kernel_size: 3 group: 2 pad: 1 stride: 2")),
    "convolution, dilated": (MAP, convolution("num_output: 3 kernel_size: 3 dilation: 2 pad: 2")),
    "convolution, sizes a side": (MAP, convolution(
        "num_output: 3 kernel_h: 2 kernel_w: 3 pad_h: 0 pad_w: 2 stride_h: 3 stride_w: 1")),
    "convolution, lists": (MAP, convolution(
        "num_output: 3 kernel_size: 2 kernel_size: 3 pad: 1 pad: 0 stride: 1 stride: 2 dilation: 2 dilation: 1")),
    "im2col, zeros around": (MAP, convolution("kernel_size: 1 pad: 2", "Im2col")),
    "im2col": (MAP, convolution("kernel_size: 3 stride: 2 pad: 1", "Im2col")),
    "im2col, sizes a side": (MAP, convolution("kernel_h: 2 kernel_w: 3 dilation: 2", "Im2col")),
    "inner product": (MAP, layer("InnerProduct", "inner_product_param { num_output: 5 }")),
    "inner product, no bias": (MAP, layer("InnerProduct", "inner_product_param { num_output: 5 bias_term: false }")),
    "inner product, transposed": (MAP, layer("InnerProduct", "inner_product_param { num_output: 5 transpose: true }")),
    "inner product, axis 2": (MAP, layer("InnerProduct", "inner_product_param { num_output: 5 axis: 2 }")),
    "inner product, last axis": (MAP, layer("InnerProduct", "inner_product_param { num_output: 5 axis: -1 }")),
    "relu": (MAP, layer("ReLU")),
    "relu, leaky": (MAP, layer("ReLU", "relu_param { negative_slope: 0.3 }")),
    "prelu": (MAP, layer("PReLU")),
    "prelu, one slope": (MAP, layer("PReLU", "prelu_param { channel_shared: true }")),
    "prelu of vectors": ({"x": (6,)}, layer("PReLU")),
    "maximum": (ODD, pooling("pool: MAX kernel_size: 2 stride: 2")),
    "maximum, ceil": (ODD, pooling("pool: MAX kernel_size: 3 stride: 2")),
    "maximum, ceil and clipped": (ODD, pooling("pool: MAX kernel_size: 2 stride: 2 pad: 1")),
    "maximum, pad": (ODD, pooling("pool: MAX kernel_size: 3 stride: 2 pad: 1")),
    "maximum, floor": (ODD, pooling("pool: MAX kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR")),
    "maximum, floor, no pad": (ODD, pooling("pool: MAX kernel_size: 3 stride: 2 round_mode: FLOOR")),
    "maximum, stride above kernel": ({"x": (4, 7, 8)}, pooling("pool: MAX kernel_size: 2 stride: 3")),
    "maximum, last window of one pixel": ({"x": (4, 5, 5)}, pooling("pool: MAX kernel_size: 1 stride: 4")),
    "maximum, sizes a side": (ODD, pooling(
        "pool: MAX kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 2 pad_h: 1 pad_w: 0")),
    "maximum of all": (ODD, pooling("pool: MAX global_pooling: true")),
    "average": (ODD, pooling("pool: AVE kernel_size: 3 stride: 3")),
    "average, ceil": (ODD, pooling("pool: AVE kernel_size: 3 stride: 2")),
    "average, pad": (ODD, pooling("pool: AVE kernel_size: 3 stride: 2 pad: 1")),
    "average, large pad": (ODD, pooling("pool: AVE kernel_size: 5 stride: 3 pad: 2")),
    "average, ceil and clipped": (ODD, pooling("pool: AVE kernel_size: 2 stride: 2 pad: 1")),
    "average, floor": (ODD, pooling("pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR")),
    "average of all": (ODD, pooling("pool: AVE global_pooling: true")),
    "batch norm": (MAP, layer("BatchNorm", "batch_norm_param { eps: 0.01 }")),
    "batch norm of vectors": ({"x": (6,)}, layer("BatchNorm", "batch_norm_param { use_global_stats: true }")),
    "scale": (MAP, layer("Scale")),
    "scale, bias": (MAP, layer("Scale", "scale_param { bias_term: true }")),
    "scale, two axes": (MAP, layer("Scale", "scale_param { num_axes: 2 bias_term: true }")),
    "scale, last axis": (MAP, layer("Scale", "scale_param { axis: -1 bias_term: true }")),
    "scale, one factor": (MAP, layer("Scale", "scale_param { num_axes: 0 bias_term: true }")),
    "scale by a blob, each image": ({"x": (3, 4, 5), "f": ()}, layer("Scale", "scale_param { axis: 0 }", "xf")),
    "scale by a blob, each channel": ({"x": (3, 4, 5), "f": (3,)}, layer("Scale", "scale_param { axis: 0 }", "xf")),
    "scale by a blob, each value": ({"x": (3, 4), "f": (3, 4)}, layer("Scale", "scale_param { axis: 0 }", "xf")),
    "lrn": ({"x": (9, 4, 4)}, layer("LRN", "lrn_param { local_size: 5 alpha: 0.7 beta: 0.6 k: 2 }")),
    "lrn, few channels": ({"x": (3, 4, 4)}, layer("LRN", "lrn_param { local_size: 5 alpha: 0.7 }")),
    "lrn within": (MAP, layer("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.7 beta: 0.6 }")),
    "sum": ({"x": (3, 4), "z": (3, 4), "v": (3, 4)}, layer("Eltwise", bottoms="xzv")),
    "weighted sum": ({"x": (3, 4), "z": (3, 4)}, layer("Eltwise", "eltwise_param { coeff: 1 coeff: -2.5 }", "xz")),
    "product": ({"x": (3,), "z": (3,), "v": (3,)}, layer("Eltwise", "eltwise_param { operation: PROD }", "xzv")),
    "largest": ({"x": (3, 4), "z": (3, 4)}, layer("Eltwise", "eltwise_param { operation: MAX }", "xz")),
    "concat": ({"x": (3, 4), "z": (2, 4)}, layer("Concat", bottoms="xz")),
    "concat, last axis": ({"x": (3, 4), "z": (3, 2)}, layer("Concat", "concat_param { axis: -1 }", "xz")),
    "concat, old name": ({"x": (3, 4), "z": (3, 2)}, layer("Concat", "concat_param { concat_dim: 2 }", "xz")),
    "softmax": ({"x": (6,)}, layer("Softmax")),
    "softmax of maps": (MAP, layer("Softmax")),
    "softmax, last axis": (MAP, layer("Softmax", "softmax_param { axis: -1 }")),
    "dropout": (MAP, layer("Dropout")),
    "flatten": (MAP, layer("Flatten")),
    "flatten, middle": (MAP, layer("Flatten", "flatten_param { axis: 1 end_axis: 2 }")),
    "reshape": (MAP, layer("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }")),
    "reshape, one axis": (MAP, layer("Reshape", "reshape_param { shape { dim: 3 dim: 3 } axis: 3 }")),
    "reshape, new last axis": (MAP, layer("Reshape", "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }")),
    "sigmoid": (MAP, layer("Sigmoid")),
    "tanh": (MAP, layer("TanH")),
    "power": (MAP, layer("Power", "power_param { scale: -0.5 shift: 2 }")),
    "power of nothing": (MAP, layer("Power")),
    "power to zero": (MAP, layer("Power", "power_param { scale: 0 }")),
    "square": (MAP, layer("Power", "power_param { power: 2 shift: 0.5 }")),
    "crop": ({"x": (3, 8, 9), "z": (3, 4, 5)}, layer("Crop", "crop_param { offset: 1 }", "xz")),
    "crop, offsets": ({"x": (3, 8, 9), "z": (2, 4, 5)}, layer(
        "Crop", "crop_param { axis: 1 offset: 1 offset: 4 offset: 2 }", "xz")),
    "crop to a dummy": ({"x": (3, 8, 9)}, layer(
        "DummyData", "dummy_data_param { shape { dim: 1 dim: 1 dim: 4 dim: 5 } }", (), "w") + layer(
        "Crop", "crop_param { offset: 2 }", "xw")),
    "tile": (MAP, layer("Tile", "tile_param { axis: 1 tiles: 3 }")),
    "split": (MAP, layer("Split", "", "x", ("z", "y"))),
}


@pytest.mark.parametrize("case", CASES)
def test_onnxruntime_computes_what_caffe_computes(tmp_path, case):
    shapes, text = CASES[case]
    if case == "power to zero":
        text += layer("Eltwise", bottoms=("x", "y"), tops=("total",))
        return require_equal(tmp_path, shapes, text, ["total"])
    return require_equal(tmp_path, shapes, text)


def test_each_type_has_a_case():
    used = " ".join(text for _, text in CASES.values())
    assert [kind for kind in onnx_layers.WRITERS if f'type: "{kind}"' not in used] == ["Input", "Reduction", "Slice"]


@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_reduction(tmp_path, operation, axis):
    require_equal(tmp_path, MAP, layer(
        "Reduction", f"reduction_param {{ operation: {operation} axis: {axis} coeff: 0.7 }}"))


def test_l2_normalisation_of_several_layers(tmp_path):
    """As the nets have it that normalise their features."""
    require_equal(tmp_path, {"x": (5,)}, "".join([
        layer("Reduction", "reduction_param { operation: SUMSQ axis: 1 }", "x", ["s"]),
        layer("Power", "power_param { power: -0.5 shift: 1e-10 }", "s", ["inverse"]),
        layer("Scale", "scale_param { axis: 0 }", ("x", "inverse"))]))


@pytest.mark.parametrize("settings", ["axis: 1", "axis: 1 slice_point: 1 slice_point: 5", "slice_dim: 1",
                                      "axis: -3 slice_point: 2 slice_point: 3"])
def test_slice(tmp_path, settings):
    require_equal(tmp_path, {"x": (6, 3, 2)}, layer("Slice", f"slice_param {{ {settings} }}", "x", "yzv"), "yzv")


def test_pairs_share_a_net(tmp_path):
    """Two inputs along the batch, and their halves again."""
    require_equal(tmp_path, {"x": (3,), "z": (3,)}, "".join([
        layer("Concat", "concat_param { axis: 0 }", "xz", ["pair"]),
        layer("InnerProduct", "inner_product_param { num_output: 4 }", ["pair"], ["features"]),
        layer("Slice", "slice_param { axis: 0 }", ["features"], "ab"),
        layer("Eltwise", "eltwise_param { coeff: 1 coeff: -1 }", "ab")]))


def test_layers_in_place(tmp_path):
    """The blob's name stands for its last value; a branch takes the one before, where it is above."""
    require_equal(tmp_path, MAP, "".join([
        layer("Convolution", "convolution_param { num_output: 3 kernel_size: 1 }"),
        layer("BatchNorm", "", "y", "y"), layer("Scale", "scale_param { bias_term: true }", "y", "y"),
        layer("PReLU", "", "y", "y")]))


def test_an_input_that_is_changed_in_place(tmp_path):
    text = caffe_nets.inputs(x=(2, 3)) + layer("Power", "power_param { scale: 2 }", "x", "x") + layer("ReLU")
    net = caffe_net(tmp_path, text)
    made = session(tmp_path, net, "y")
    name, = (put.name for put in made.get_inputs())
    values = np.float32([[1, -1, 3]])
    np.testing.assert_array_equal(made.run(["y"], {name: values})[0], [[2, 0, 6]])
    assert name == "x"


def test_dummy_data_that_is_used_fixes_the_batch(tmp_path):
    """Zeros beside the channels, as a residual block without a projection has them."""
    text = caffe_nets.inputs(x=(2, 3, 4)) + layer(
        "DummyData", "dummy_data_param { shape { dim: 2 dim: 1 dim: 4 } data_filler { value: 0.5 } }", (), "z") + layer(
        "Concat", bottoms="xz")
    made = session(tmp_path, caffe_net(tmp_path, text), "y")
    assert made.get_inputs()[0].shape == [2, 3, 4]
    values = np.random.RandomState(0).randn(2, 3, 4).astype(np.float32)
    found, = made.run(["y"], {"x": values})
    np.testing.assert_array_equal(found, np.concatenate([values, np.full((2, 1, 4), 0.5)], axis=1))


def test_the_batch_is_open_and_the_names_are_those_of_caffe(tmp_path):
    net = caffe_net(tmp_path, caffe_nets.inputs(x=(2, 4, 7, 9)) + CASES["maximum"][1])
    made = session(tmp_path, net, "y")
    (put,), (got,) = made.get_inputs(), made.get_outputs()
    assert (put.name, put.shape, got.name, got.shape) == ("x", ["batch", 4, 7, 9], "y", ["batch", 4, 4, 5])


@pytest.mark.parametrize("shapes, text, said", [
    (MAP, layer("Python", 'python_param { module: "tests.tools.conversion.test_onnx_layers" layer: "Twice" }'),
     r"layer python: type Python \(tests.tools.conversion.test_onnx_layers.Twice\) is a Python layer, which cannot"),
    (MAP, layer("MVN"), "layer mvn: type MVN is not one of BatchNorm, Concat, "),
    (MAP, pooling("pool: STOCHASTIC kernel_size: 2"), "layer pooling: type Pooling is stochastic"),
    (MAP, layer("Pooling", "pooling_param { kernel_size: 2 }", "x", "yz"), "has a second top, the mask"),
    ({"x": (1, 6, 6)}, pooling("pool: MAX kernel_size: 1 stride: 4"), "a window that lies outside of the image"),
    (MAP, layer("BatchNorm", "batch_norm_param { use_global_stats: false }"), "uses the statistics of the batch"),
    (MAP, layer("Scale", "scale_param { axis: 0 num_axes: 2 }"), "has a weight for each image of a batch"),
    (MAP, layer("Reduction"), "layer reduction: type Reduction works across the images of a batch"),
    (MAP, layer("Softmax", "softmax_param { axis: 0 }"), "works across the images of a batch"),
    (MAP, layer("Flatten", "flatten_param { axis: 0 }"), "works across the images of a batch"),
    (MAP, layer("Tile", "tile_param { axis: 0 tiles: 2 }"), "works across the images of a batch"),
    (MAP, layer("Slice", "slice_param { axis: 0 slice_point: 1 }", "x", "yz"), "works across the images of a batch"),
    (MAP, layer("Reshape", "reshape_param { shape { dim: 2 dim: -1 } }"), r"has the shape \[2, -1\], whose first"),
    (MAP, layer("Reshape", "reshape_param { shape { dim: -1 dim: 9 } }"), r"has the shape \[-1, 9\], whose first"),
    ({"x": (4,)}, layer("DummyData", 'dummy_data_param { shape { dim: 1 } data_filler { type: "gaussian" } }', (), "y"),
     r"layer dummydata: type DummyData has random values \(filler gaussian\)"),
])
def test_what_cannot_be_exported_is_named(tmp_path, shapes, text, said):
    inputs = caffe_nets.inputs(**{name: (2, *shape) for name, shape in shapes.items()})
    net = caffe_nets.net(tmp_path, inputs + text, caffe.TEST)
    with pytest.raises(UserError, match=said) as error:
        export.graph_of(str(tmp_path / "net.prototxt"), net)
    assert str(error.value).endswith(", which cannot be exported")


class Twice(caffe.Layer):
    """A Python layer."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
