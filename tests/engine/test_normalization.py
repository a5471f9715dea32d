"""LRN, BatchNorm, MVN, Scale and Bias against real Caffe."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import layer
from tests import caffe_nets
from tests.engine import compare
from tests.engine.compare import drawn, net

FEW = settings(derandomize=True, deadline=None, max_examples=40)
PHASES = st.sampled_from([compare.TRAIN, compare.TEST])


def shapes(least, most):
    return st.lists(st.integers(1, 4), min_size=least, max_size=most)


@FEW
@given(st.sampled_from([1, 3, 5, 7]), st.floats(0.125, 3, width=32), st.floats(0.125, 2, width=32),
       st.floats(0.5, 4, width=32), st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"]),
       st.tuples(*[st.integers(1, most) for most in (2, 8, 6, 6)]))
def test_lrn(size, alpha, beta, k, region, shape):
    text = f"lrn_param {{ local_size: {size} alpha: {alpha} beta: {beta} k: {k} norm_region: {region} engine: CAFFE }}"
    compare.run(net("LRN", text, shape), drawn(7, shape))


def test_alpha_of_lrn_is_divided_by_the_size():
    data = np.array([1., 2, 3, 4]).reshape(1, 4, 1, 1)
    outputs = compare.run(net("LRN", "lrn_param { local_size: 3 alpha: 3 beta: 1 k: 2 }", data.shape),
                          {"data0": data}).outputs["top0"]
    np.testing.assert_allclose(outputs.ravel(), [1 / 7, 2 / 16, 3 / 31, 4 / 27], rtol=1e-6)


def test_lrn_refused():
    compare.refused(net("LRN", "lrn_param { local_size: 4 }", (1, 2, 3, 3)), "local_size 4, expected an odd number")
    compare.refused(net("LRN", "", (1, 2, 3)), "the shape (1, 2, 3), expected 4 axes")


@settings(FEW, max_examples=60)
@given(shapes(2, 5), PHASES, st.sampled_from(["", "use_global_stats: true", "use_global_stats: false"]),
       st.sampled_from(["", "eps: 0.01"]), st.sampled_from(["", "moving_average_fraction: 0.9"]),
       st.sampled_from([0, 1, 2.5]), st.integers(1, 3))
def test_batch_norm(shape, phase, stored, eps, fraction, factor, passes):
    channels = drawn(1, shape[1:2], shape[1:2])
    blobs = {"top0": [channels["data0"], channels["data1"] ** 2, [factor]]}
    compare.run(net("BatchNorm", f"batch_norm_param {{ {stored} {eps} {fraction} }}", shape), drawn(2, shape), blobs,
                phase=phase, passes=passes)


def test_batch_norm_of_torch(monkeypatch):
    monkeypatch.setattr(layer, "FUSED", ("cpu",))
    for shape in (5, 3), (1, 3), (2, 3, 4, 5):
        compare.run(net("BatchNorm", "", shape), drawn(2, shape), passes=2)


def test_statistics_of_batch_norm():
    text = net("BatchNorm", "batch_norm_param { moving_average_fraction: 0.5 eps: 1e-9 }", (2, 1))
    compared = compare.run(text, {"data0": [[1], [3]]}, passes=2)
    assert compared.outputs["top0"].ravel().tolist() == [-1, 1]
    # sums: (0.5 + 1) times the mean 2, the variance 2 (divisor 1) and 1
    assert [blob.item() for blob in compared.engine.layers[1].blobs] == [3, 3, 1.5]


def test_statistics_are_not_learned():
    for params in "", "param { lr_mult: 0 }", "param { lr_mult: 0 decay_mult: 0 } " * 3:
        text = params + " batch_norm_param { use_global_stats: true }"
        parameters = compare.engine_net(net("BatchNorm", text, (2, 3))).parameters
        assert [(one.rate, one.blob.requires_grad) for one in parameters] == [(0, False)] * 3
    compare.refused(net("BatchNorm", "param { decay_mult: 0 }", (2, 3)), "lr_mult 1, expected 0")
    compare.refused(net("BatchNorm", "", (2,)), "the bottom has the shape (2,), expected 2 axes or more")


def test_in_place():
    text = caffe_nets.inputs(data=(3, 2, 5, 4)) + "".join(
        compare.layer(kind, settings, [below], [above], f"layer{number}")
        for number, (kind, settings, below, above) in enumerate([
            ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false }", "data", "a"),
            ("BatchNorm", "", "a", "a"),
            ("Scale", "scale_param { bias_term: true }", "a", "a"),
            ("PReLU", "", "a", "a"),
            ("Convolution", "convolution_param { num_output: 4 kernel_size: 1 bias_term: false }", "a", "b"),
            ("BatchNorm", "", "b", "b"),
            ("Bias", "", "b", "b")]))
    text += compare.layer("Eltwise", "", ["a", "b"], ["sum"])
    text += compare.layer("ReLU", "relu_param { negative_slope: 0.1 }", ["sum"], ["sum"], "relu")
    compare.run(text, {"data": drawn(3, (3, 2, 5, 4))["data0"]}, passes=2)


@FEW
@given(shapes(2, 4), st.sampled_from(["", "normalize_variance: false"]), st.sampled_from(["", "across_channels: true"]),
       st.sampled_from(["", "eps: 0.5"]))
def test_mvn(shape, variance, across, eps):
    compare.run(net("MVN", f"mvn_param {{ {variance} {across} {eps} }}", shape), drawn(4, shape))


def test_mvn_of_a_constant_image():
    data = np.concatenate([np.full((1, 1, 2, 2), 3), np.arange(4).reshape(1, 1, 2, 2)])
    compared = compare.run(net("MVN", "", data.shape), {"data0": data})
    assert not compared.outputs["top0"][0].any()
    compare.refused(net("MVN", "", (1, 2, 3, 4, 5)), "the shape (1, 2, 3, 4, 5), expected 4 axes or fewer")


@st.composite
def parts(draw):
    """A shape, and the settings axis and num_axes with the part of the shape that they name."""
    shape = draw(shapes(1, 4))
    axis = draw(st.integers(0, len(shape) - 1))
    count = draw(st.integers(-1, len(shape) - axis))
    part = shape[axis:] if count == -1 else shape[axis:axis + count]
    return shape, f"axis: {draw(st.sampled_from([axis, axis - len(shape)]))} num_axes: {count}", part


@settings(FEW, max_examples=60)
@given(parts(), st.booleans(), st.sampled_from(["", "bias_term: true"]))
def test_scale(part, second, bias):
    shape, axes, factor = part
    bottoms = [shape, factor] if second else [shape]
    compare.run(net("Scale", f"scale_param {{ {axes} {bias} }}", *bottoms), drawn(5, *bottoms))


def test_scalar_without_an_axis():
    for kind in "Scale", "Bias":
        compare.run(net(kind, "", (3,), ()), drawn(5, (3,), ()))


@FEW
@given(parts(), st.booleans())
def test_bias(part, second):
    shape, axes, summand = part
    bottoms = [shape, summand] if second else [shape]
    compare.run(net("Bias", f"bias_param {{ {axes} }}", *bottoms), drawn(6, *bottoms))


@pytest.mark.parametrize("kind, text, expected", [
    ("Scale", "", [1]), ("Scale", "filler { value: 3 }", [3]), ("Scale", "filler { }", [0]),
    ("Scale", "bias_term: true bias_filler { value: 2 }", [1, 2]), ("Scale", "bias_term: true", [1, 0]),
    ("Bias", "", [0]), ("Bias", "filler { value: 4 }", [4]),
    ("PReLU", "", [0.25]), ("PReLU", "filler { value: 2 }", [2]),
])
def test_initial_values(kind, text, expected):
    text = net(kind, f"{kind.lower()}_param {{ {text} }}", (2, 3))
    ours, theirs = compare.engine_net(text).layers[1].blobs, compare.caffe_net(text).params["top0"]
    expected = [[one] * 3 for one in expected]
    assert [blob.tolist() for blob in ours] == [blob.data.tolist() for blob in theirs] == expected


@pytest.mark.parametrize("text, bottoms, expected", [
    ("axis: 2", [(2, 3)], "axis 2, but the bottom has the shape (2, 3)"),
    ("num_axes: 2", [(2, 3)], "num_axes 2 from axis 1 on, but the bottom has the shape (2, 3)"),
    ("num_axes: -2", [(2, 3)], "num_axes -2 from axis 1 on"),
    ("", [(2, 3), (2,)], "the shape (2,) does not fit to the bottom's (2, 3) from axis 1 on"),
    ("axis: 0", [(2, 3), (2, 3, 1)], "the shape (2, 3, 1) does not fit to the bottom's (2, 3) from axis 0 on"),
    ("", [(2, 3), (3,), (3,)], "3 bottoms, expected 1 to 2"),
])
def test_scale_refused(text, bottoms, expected):
    compare.refused(net("Scale", f"scale_param {{ {text} }}", *bottoms), expected)
    compare.refused(net("Bias", f"bias_param {{ {text} }}", *bottoms), expected)
