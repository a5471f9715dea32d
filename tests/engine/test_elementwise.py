"""The layers that calculate each value by itself, against real Caffe."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import layer
from tests.engine import compare
from tests.engine.compare import net

FEW = settings(derandomize=True, deadline=None, max_examples=30)
SHAPES = st.lists(st.integers(1, 4), min_size=2, max_size=5)


def mixed(seed, *shapes):
    """Arrays in which about half of the values are -2, -1, 0, 1 or 2: corners, and equal ones."""
    random = np.random.RandomState(seed)
    return {f"data{number}": np.where(random.rand(*shape) < .5, random.randint(-2, 3, shape), random.randn(*shape))
            for number, shape in enumerate(shapes)}


@FEW
@given(st.sampled_from([
    ("ReLU", ""), ("ReLU", "relu_param { engine: CAFFE }"), ("ReLU", "relu_param { negative_slope: 0.3 }"),
    ("ELU", ""), ("ELU", "elu_param { alpha: 0.4 }"), ("Sigmoid", "sigmoid_param { engine: CAFFE }"),
    ("TanH", "tanh_param { engine: CAFFE }"), ("AbsVal", ""), ("BNLL", ""), ("Exp", "")]), SHAPES)
def test_simple(kind, shape):
    compare.run(net(*kind, shape), mixed(1, shape))


def test_corners():
    data = {"data0": [[-2, 0, 0, 2]]}
    expected = {"ReLU": [0, 0, 0, 1], "AbsVal": [-1, 0, 0, 1], "ELU": [np.exp(-2), 1, 1, 1]}
    for kind, gradient in expected.items():
        compared = compare.run(net(kind, "", (1, 4)), data)
        drawn = compared.caffe.blobs["top0"].diff
        np.testing.assert_allclose(compared.gradients["data0"], drawn * [gradient], rtol=1e-6)


def test_large_values():
    data = {"data0": [[-1000, -60, -30, -1, 0, 1, 30, 60, 1000]]}
    for kind in "BNLL", "Sigmoid", "TanH", "ELU":
        compare.run(net(kind, "", (1, 9)), data)
        compare.run(net(kind, "", (1, 40)), {"data0": np.linspace(-8, 8, 40)[None]})


@FEW
@given(SHAPES.filter(lambda shape: len(shape) <= 4), st.sampled_from(["", "channel_shared: true"]))
def test_prelu(shape, shared):
    compare.run(net("PReLU", f"prelu_param {{ {shared} }}", shape), mixed(2, shape))


def test_prelu_of_torch(monkeypatch):
    monkeypatch.setattr(layer, "FUSED", ("cpu",))
    for shared in "", "channel_shared: true":
        compare.run(net("PReLU", f"prelu_param {{ {shared} }}", (2, 3, 4)), mixed(2, (2, 3, 4)))


@FEW
@given(SHAPES, st.sampled_from([0, 1, 2, 3, -1, 0.5, -1.5]), st.sampled_from([1, 0.5, 2, 0]),
       st.sampled_from([0, 0.25, 1]))
def test_power(shape, power, scale, shift):
    data = mixed(3, shape)["data0"]
    if power not in (0, 1, 2):
        data = np.abs(data) + 0.2  # no root of a number below 0, no 0 / 0 in Caffe's gradient
    compare.run(net("Power", f"power_param {{ power: {power} scale: {scale} shift: {shift} }}", shape), {"data0": data})


def test_gradient_of_a_power_at_0():
    """It is NaN in Caffe, so only the outputs are compared."""
    text = net("Power", "power_param { power: 3 scale: 2 }", (1, 3)) + "force_backward: true"
    compare.run(text.replace("force_backward: true", ""), {"data0": [[0, 1, -1]]}, gradients=False)
    ours = compare.engine_net(text)
    top = ours.forward()["top0"]
    top.sum().backward()
    assert ours.layers[0].value.grad.tolist() == [[0, 0, 0]]


BASES = st.sampled_from([-1, 0.5, 2, 10])


@FEW
@given(SHAPES, BASES, st.sampled_from([1, -0.5, 2]), st.sampled_from([0, 0.25, -1]))
def test_exp(shape, base, scale, shift):
    text = f"exp_param {{ base: {base} scale: {scale} shift: {shift} }}"
    compare.run(net("Exp", text, shape), mixed(4, shape))


@FEW
@given(SHAPES, BASES, st.sampled_from([1, 0.5, 2]), st.sampled_from([0, 0.25, 1]))
def test_log(shape, base, scale, shift):
    data = np.abs(mixed(5, shape)["data0"]) + 0.1
    text = f"log_param {{ base: {base} scale: {scale} shift: {shift} }}"
    compare.run(net("Log", text, shape), {"data0": data})


def test_threshold():
    text = net("Threshold", "threshold_param { threshold: 1 }", (2, 5))
    compared = compare.run(text, {"data0": [[-1, 0, 1, 1.5, 2]] * 2}, gradients=False)
    assert compared.outputs["top0"].tolist() == [[0, 0, 0, 1, 1]] * 2
    assert not compare.engine_net(text + "force_backward: true").forward()["top0"].grad_fn


@settings(FEW, max_examples=60)
@given(SHAPES, st.integers(2, 4), st.sampled_from(["", "operation: PROD", "operation: PROD stable_prod_grad: true",
                                                   "operation: SUM", "coeff", "operation: MAX"]))
def test_eltwise(shape, count, text):
    if text == "coeff":
        text = " ".join(f"coeff: {number}" for number in [0.5, -1, 2, 1][:count])
    compare.run(net("Eltwise", f"eltwise_param {{ {text} }}", *[shape] * count), mixed(6, *[shape] * count))


def test_gradient_of_equal_maxima():
    compared = compare.run(net("Eltwise", "eltwise_param { operation: MAX }", (1, 3), (1, 3), (1, 3)),
                           {"data0": [[1, 1, 0]], "data1": [[1, 0, 0]], "data2": [[1, 1, 1]]})
    whose = [compared.gradients[f"data{number}"] != 0 for number in range(3)]
    assert np.concatenate(whose).tolist() == [[False, True, False], [True, False, False], [False, False, True]]


def test_product_without_a_stable_gradient():
    shape, random = (3, 4), np.random.RandomState(7)
    compare.run(net("Eltwise", "eltwise_param { operation: PROD stable_prod_grad: false }", shape, shape),
                {name: random.uniform(0.5, 2, shape) for name in ("data0", "data1")})


@pytest.mark.parametrize("kind, text, shapes, expected", [
    ("Eltwise", "eltwise_param { coeff: 1 }", [(2, 3)] * 2, "1 coeff with 2 bottoms and operation SUM"),
    ("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 2 }", [(2, 3)] * 2, "operation PROD, expected none"),
    ("Eltwise", "", [(2, 3), (2, 4)], "a bottom has the shape (2, 4), but the first one (2, 3)"),
    ("Eltwise", "", [(2, 3)], "1 bottoms, expected 2 or more"),
    ("PReLU", "", [(2,)], "the bottom has the shape (2,), expected 2 axes or more"),
    ("Exp", "exp_param { base: -2 }", [(2, 3)], "exp_param.base -2, expected a number greater than 0, or -1 for e"),
    ("Log", "log_param { base: 0 }", [(2, 3)], "log_param.base 0, expected a number greater than 0"),
    ("Log", "log_param { base: 1 }", [(2, 3)], "log_param.base 1, expected another base"),
    ("ReLU", "elu_param { alpha: 1 }", [(2, 3)], "elu_param is not for this type of layer"),
    ("ReLU", "", [(2, 3), (2, 3)], "2 bottoms, expected 1"),
])
def test_refused(kind, text, shapes, expected):
    compare.refused(net(kind, text, *shapes), expected)


def test_other_shape_of_shared_slopes():
    text = net("PReLU", 'param { name: "a" }', (2, 3)) + compare.layer(
        "Power", "", ["data0"], ["x"]) + compare.layer("Eltwise", "", ["x", "x"], ["y"])
    text += compare.layer("PReLU", 'param { name: "a" } prelu_param { channel_shared: true }', ["y"], ["z"])
    compare.refused(text, "parameter 0 has the shape (), but that of layer top0 has (3,)")


@pytest.mark.parametrize("ratio", [0, 0.3, 0.5, 0.8])
def test_dropout(ratio):
    text = net("Dropout", f"dropout_param {{ dropout_ratio: {ratio} }}", (100, 50)) + "force_backward: true"
    data = compare.drawn(7, (100, 50))["data0"].astype(np.float32) + 10
    theirs, ours = compare.caffe_net(text), compare.engine_net(text, seed=1)
    source = ours.layers[0]
    source.value = torch.tensor(data).requires_grad_()
    theirs.blobs["data0"].data[...] = data
    tops = [ours.forward()["top0"] for _ in range(2)]
    for values in [theirs.forward()["top0"]] + [top.detach().numpy() for top in tops]:
        np.testing.assert_allclose(values[values != 0], (data / (1 - ratio))[values != 0], rtol=1e-6)
        assert abs((values == 0).mean() - ratio) <= 4 * (ratio * (1 - ratio) / data.size) ** .5
    assert (tops[0] == tops[1]).all() == (ratio == 0), "other values are dropped in another pass"
    (tops[1] * 2).sum().backward()
    np.testing.assert_allclose(source.value.grad.numpy(), 2 * values / data, rtol=1e-5)
    again = compare.engine_net(text, seed=1)
    again.layers[0].value = torch.tensor(data)
    assert (again.forward()["top0"] == tops[0]).all(), "the same seed and pass drop the same values"


def test_dropout_in_the_phase_test():
    compare.run(net("Dropout", "", (4, 5)), compare.drawn(8, (4, 5)), phase=compare.TEST)


def test_dropout_refused():
    for ratio in "1", "-0.5":
        compare.refused(net("Dropout", f"dropout_param {{ dropout_ratio: {ratio} }}", (4, 5)),
                        f"dropout_ratio {ratio}, expected 0 or more, and less than 1")
