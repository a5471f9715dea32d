"""Convolution, Deconvolution, Im2col and Pooling against real Caffe."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import caffe_nets
from tests.engine import compare
from tests.engine.compare import drawn, net

FEW = settings(derandomize=True, deadline=None, max_examples=60)


def listed(**sizes):
    return " ".join(f"{name}: {size}" for name, values in sizes.items() for size in values)


@st.composite
def convolutions(draw, transposed=False):
    """The settings of a layer, and the shapes of its bottoms."""
    dimensions = draw(st.sampled_from([1, 2, 2, 2]))
    sizes = {name: draw(st.lists(st.integers(least, most), min_size=dimensions, max_size=dimensions))
             for name, least, most in (("kernel", 1, 3), ("stride", 1, 3), ("pad", 0, 2), ("dilation", 1, 2))}
    form = draw(st.sampled_from(["each", "once", "default", "h_w"]))
    if form == "once":
        sizes = {name: [values[0]] * dimensions for name, values in sizes.items()}
        text = listed(**{name + "_size" * (name == "kernel"): values[:1] for name, values in sizes.items()})
    elif form == "default":
        sizes.update(stride=[1] * dimensions, pad=[0] * dimensions, dilation=[1] * dimensions)
        text = listed(kernel_size=sizes["kernel"])
    elif form == "h_w" and dimensions == 2:
        text = listed(dilation=sizes["dilation"]) + "".join(
            f" {name}_h: {sizes[name][0]} {name}_w: {sizes[name][1]}" for name in ("kernel", "stride", "pad"))
    else:
        text = listed(kernel_size=sizes["kernel"], **{name: sizes[name] for name in ("stride", "pad", "dilation")})
    shape = []
    for kernel, stride, pad, dilation in zip(*sizes.values()):
        extent = (kernel - 1) * dilation + 1
        least = (2 * pad - extent) // stride + 2 if transposed else extent - 2 * pad
        shape.append(max(1, least) + draw(st.integers(0, 4)))
    group = draw(st.integers(1, 3))
    shape = [draw(st.integers(1, 2)), group * draw(st.integers(1, 2)), *shape]
    text += f" num_output: {group * draw(st.integers(1, 2))} group: {group}"
    text += draw(st.sampled_from(["", " bias_term: false", " engine: CAFFE", " axis: 1 force_nd_im2col: true"]))
    return f"convolution_param {{ {text} }}", [shape] * draw(st.integers(1, 2))


@FEW
@given(convolutions())
def test_convolution(case):
    text, shapes = case
    compare.run(net("Convolution", text, *shapes, tops=len(shapes)), drawn(1, *shapes))


@FEW
@given(convolutions(transposed=True))
def test_deconvolution(case):
    text, shapes = case
    compare.run(net("Deconvolution", text, *shapes, tops=len(shapes)), drawn(2, *shapes))


@FEW
@given(convolutions())
def test_im2col(case):
    text, (shape, *_) = case
    if len(shape) == 3:
        compare.refused(net("Im2col", text, shape), "expected 2 axes after the channels")
    else:
        compare.run(net("Im2col", text, shape), drawn(3, shape))


def test_im2col_lays_the_rows_of_a_window_under_each_other():
    text = net("Im2col", "convolution_param { kernel_h: 2 kernel_w: 1 stride_h: 1 stride_w: 2 }", (1, 2, 2, 3))
    outputs = compare.run(text, {"data0": np.arange(12).reshape(1, 2, 2, 3)}).outputs
    np.testing.assert_array_equal(outputs["top0"], [[[[0, 2]], [[3, 5]], [[6, 8]], [[9, 11]]]])


def test_convolution_is_no_flipped_kernel():
    text = net("Convolution", "convolution_param { num_output: 1 kernel_size: 2 }", (1, 1, 1 + 1, 3))
    outputs = compare.run(text, {"data0": [[[[1, 2, 3], [4, 5, 6]]]]},
                          {"top0": [[[[[1, 10], [100, 1000]]]], [0.5]]}).outputs
    np.testing.assert_array_equal(outputs["top0"], [[[[5421.5, 6532.5]]]])


def test_inner_layers_and_shared_weights():
    shared = 'param { name: "w" } param { name: "b" }'
    text = caffe_nets.inputs(data=(2, 3, 6, 5)) + "".join(
        compare.layer("Convolution", f"{shared} convolution_param {{ num_output: 3 kernel_size: 3 pad: 1 }}", [below],
                      [above]) for below, above in (("data", "one"), ("one", "two")))
    compare.run(text, {"data": drawn(0, (2, 3, 6, 5))["data0"]})


@pytest.mark.parametrize("kind, text, shape, expected", [
    ("Convolution", "num_output: 4", (1, 3, 5, 5), "layer top0 (Convolution): 0 kernel_size, expected 1 or 2"),
    ("Convolution", "num_output: 4 kernel_size: 3 kernel_h: 2 kernel_w: 2", (1, 3, 5, 5),
     "either kernel_size or, for images, kernel_h and kernel_w"),
    ("Convolution", "num_output: 4 kernel_h: 2 kernel_w: 2", (1, 3, 5), "for images"),
    ("Convolution", "num_output: 4 kernel_h: 2", (1, 3, 5, 5), "kernel (2, 0), expected 1 or more"),
    ("Convolution", "num_output: 4 kernel_size: 3 stride: 0", (1, 3, 5, 5), "stride (0, 0), expected 1 or more"),
    ("Convolution", "num_output: 4 kernel_size: 3 pad: 1 pad: 1 pad: 1", (1, 3, 5, 5), "3 pad, expected 1 or 2"),
    ("Convolution", "num_output: 4 kernel_size: 3 group: 3", (1, 3, 5, 5), "group 3, but 3 channels and num_output 4"),
    ("Deconvolution", "num_output: 6 kernel_size: 3 group: 3", (1, 4, 5, 5), "group 3, but 4 channels"),
    ("Convolution", "kernel_size: 3", (1, 3, 5, 5), "num_output 0"),
    ("Convolution", "num_output: 4 kernel_size: 3 axis: 2", (1, 3, 5, 5), "convolution_param.axis 2 is not supported"),
    ("Convolution", "num_output: 4 kernel_size: 3", (1, 3), "the bottom has the shape (1, 3), expected 1 or 2 axes"),
    ("Convolution", "num_output: 4 kernel_size: 1", (1, 3, 2, 2, 2), "(1, 3, 2, 2, 2), expected 1 or 2 axes"),
    ("Convolution", "num_output: 4 kernel_size: 3 dilation: 3", (1, 3, 5, 7), "(1, 3, 5, 7), too small for the kernel"),
    ("Im2col", "kernel_size: 4", (1, 3, 5, 3), "(1, 3, 5, 3), too small for the kernel"),
    ("Deconvolution", "num_output: 4 kernel_size: 1 pad: 1", (1, 3, 2, 7), "(1, 3, 2, 7), too small for the kernel"),
])
def test_convolution_refused(kind, text, shape, expected):
    compare.refused(net(kind, f"convolution_param {{ {text} }}", shape), expected)


def test_bottoms_of_a_convolution():
    text = "convolution_param { num_output: 4 kernel_size: 3 }"
    compare.refused(net("Convolution", text, (1, 3, 5, 5), (1, 3, 5, 6), tops=2),
                    "a bottom has the shape (1, 3, 5, 6), but the first one (1, 3, 5, 5)")
    compare.refused(net("Convolution", text, (1, 3, 5, 5), (1, 3, 5, 5)), "1 tops, expected one for each of the 2")


@st.composite
def poolings(draw):
    """Settings and the shape of the bottom, such that no window is outside of it."""
    pool, mode = draw(st.sampled_from(["MAX", "AVE"])), draw(st.sampled_from(["", "round_mode: FLOOR"]))
    kernel, stride = [[draw(st.integers(1, 4)) for _ in range(2)] for _ in range(2)]
    pad = [draw(st.integers(0, size - 1)) for size in kernel]
    if draw(st.booleans()):
        kernel, stride, pad = [[values[0]] * 2 for values in (kernel, stride, pad)]
        text = f"kernel_size: {kernel[0]} stride: {stride[0]} pad: {pad[0]}"
    else:
        text = "".join(f" {name}_h: {values[0]} {name}_w: {values[1]}"
                       for name, values in (("kernel", kernel), ("stride", stride), ("pad", pad)))
    shape = []
    for window, step, beside in zip(kernel, stride, pad):
        def inside(size, window=window, step=step, beside=beside):
            windows = size + 2 * beside - window
            windows = windows // step if mode else -(-windows // step)
            last = windows - (any(pad) and windows * step >= size + beside)
            return last >= 0 and last * step < size + beside
        shape.append(draw(st.integers(1, 9).filter(inside)))
    return f"pooling_param {{ pool: {pool} {mode} {text} }}", (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *shape)


@settings(FEW, max_examples=200)
@given(poolings())
def test_pooling(case):
    text, shape = case
    compare.run(net("Pooling", text, shape), drawn(3, shape))


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_global_pooling(pool):
    for shape in (2, 3, 5, 4), (1, 2, 1, 7):
        compare.run(net("Pooling", f"pooling_param {{ pool: {pool} global_pooling: true }}", shape), drawn(4, shape))


def pooled(text, data):
    text = net("Pooling", f"pooling_param {{ {text} }}", (1, 1, 1, len(data)))
    return compare.run(text, {"data0": np.reshape(data, (1, 1, 1, -1))}).outputs["top0"].ravel().tolist()


def test_windows_of_pooling():
    window = "kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2"
    # ceil: a third window over the last value alone; AVE divides by the part within the image
    assert pooled(f"pool: MAX {window}", [1, 2, 3, 4, 5, 6]) == [3, 5, 6]
    assert pooled(f"pool: AVE {window}", [1, 2, 3, 4, 5, 6]) == [2, 4, 5.5]
    assert pooled(f"pool: AVE {window} round_mode: FLOOR", [1, 2, 3, 4, 5, 6]) == [2, 4]
    # padding counts, but what is beyond it does not
    assert pooled(f"pool: AVE {window} pad_h: 0 pad_w: 1", [3, 6, 9, 12]) == [3, 9, 6]
    # MAX never sees padding
    assert pooled(f"pool: MAX {window} pad_h: 0 pad_w: 1", [-3, -6, -9, -12]) == [-3, -6, -12]
    # the third window would begin in the padding and is dropped
    assert pooled("pool: MAX kernel_h: 1 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 0 pad_w: 1",
                  [1, 2, 3]) == [1, 3]


def test_equal_maxima_of_pooling():
    data = np.random.RandomState(5).randint(0, 2, (2, 3, 6, 7))
    compare.run(net("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", data.shape), {"data0": data})


def test_places_of_maxima():
    text = net("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", (2, 3, 6, 7), tops=2)
    compare.run(text, drawn(6, (2, 3, 6, 7)), outputs=["top0"])
    places = compare.run(text, drawn(6, (2, 3, 6, 7)), gradients=False).outputs["top1"]
    assert places.max() > 30


@pytest.mark.parametrize("text, expected", [
    ("pool: STOCHASTIC kernel_size: 2", "pooling_param.pool STOCHASTIC is not supported"),
    ("", "kernel (0, 0)"),
    ("kernel_size: 2 kernel_h: 3 kernel_w: 3", "either kernel_size or both kernel_h and kernel_w"),
    ("kernel_h: 3", "either kernel_size or both kernel_h and kernel_w"),
    ("kernel_size: 2 stride_w: 3", "either stride or both stride_h and stride_w"),
    ("kernel_size: 2 pad: 1 pad_h: 1 pad_w: 1", "either pad or both pad_h and pad_w"),
    ("kernel_size: 2 pad: 2", "pad (2, 2) and kernel (2, 2), expected a kernel greater than pad"),
    ("kernel_size: 2 stride: 0", "stride (0, 0), expected 1 or more"),
    ("kernel_size: 2 global_pooling: true", "either global_pooling or the size of a kernel"),
    ("stride: 2 global_pooling: true", "global_pooling takes pad 0 and stride 1 only"),
    ("kernel_size: 8", "(1, 2, 5, 6), to which kernel (8, 8), stride (1, 1) and pad (0, 0) do not fit"),
    ("kernel_size: 1 stride: 3", "(1, 2, 5, 6), to which kernel (1, 1), stride (3, 3)"),
])
def test_pooling_refused(text, expected):
    compare.refused(net("Pooling", f"pooling_param {{ {text} }}", (1, 2, 5, 6)), expected)


def test_bottoms_and_tops_of_pooling():
    compare.refused(net("Pooling", "pooling_param { kernel_size: 2 }", (1, 2, 5)), "(1, 2, 5), expected 4 axes")
    compare.refused(net("Pooling", "pooling_param { kernel_size: 2 pool: AVE }", (1, 2, 5, 5), tops=2), "only MAX has")
    compare.refused(net("Pooling", "pooling_param { kernel_size: 3 pad: 2 }", (1, 2, 5, 5), tops=2),
                    "a second top is not supported")
