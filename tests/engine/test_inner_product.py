"""Layers with a matrix of weights, against real Caffe."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from tests.caffe_nets import inputs, layer, refuses
from tests.engine import compare

few = settings(max_examples=20, derandomize=True, deadline=None)
flags = st.booleans()


def lower(flag):
    return str(flag).lower()


@few
@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 4), flags, flags)
def test_inner_product(data, shape, outputs, transpose, bias):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1), "axis")
    text = layer("InnerProduct", f"inner_product_param {{ num_output: {outputs} axis: {axis} bias_term: {lower(bias)} "
                                 f"transpose: {lower(transpose)} }}")
    x = np.random.RandomState(sum(shape)).standard_normal(shape)
    result = compare.run(inputs(x=shape) + text, dict(x=x))
    assert set(result.gradients) == {"x", "layer/0"} | ({"layer/1"} if bias else set())


@pytest.mark.parametrize("transpose", ["true", "false"])
def test_square_weights(transpose):
    text = layer("InnerProduct", f"inner_product_param {{ num_output: 3 transpose: {transpose} }}")
    compare.run(inputs(x=(2, 3)) + text, dict(x=np.arange(6).reshape(2, 3)))


def test_inner_product_of_maps_by_hand():
    """The values of a map come channel by channel, row by row."""
    text = inputs(x=(1, 2, 1, 2)) + layer("InnerProduct", "inner_product_param { num_output: 1 }")
    net = compare.engine_net(text)
    net.layer("layer").blobs[0].data[:] = net.layer("layer").blobs[0].new_tensor([1, 10, 100, 1000])
    net.layer("layer").blobs[1].data[:] = .5
    net.layer("x").value[:] = net.layer("x").value.new_tensor([[[[1, 2]], [[3, 4]]]])
    assert net.forward()["y"].tolist() == [[4321.5]]


def test_fillers():
    text = inputs(x=(2, 3)) + layer("InnerProduct", "inner_product_param { num_output: 2 weight_filler { value: 2 } "
                                                    "bias_filler { value: 3 } }")
    weights, bias = compare.engine_net(text).layer("layer").blobs
    assert weights.tolist() == [[2] * 3] * 2 and bias.tolist() == [3, 3]


@few
@given(st.lists(st.integers(1, 3), max_size=3), st.integers(1, 5), st.integers(1, 4), flags)
def test_embed(shape, count, outputs, bias):
    """Also an index several times, of which the gradients add up; and one that is not whole."""
    text = inputs(x=shape) + layer("Embed", f"embed_param {{ num_output: {outputs} input_dim: {count} "
                                            f"bias_term: {lower(bias)} }}")
    x = np.random.RandomState(count).uniform(-.9, count - .1, shape)
    compare.run(text, dict(x=x), gradients=False)
    text += layer("Reduction", "reduction_param { operation: SUMSQ } loss_weight: .5", ("y",), ("loss",), "loss")
    result = compare.run(text, dict(x=x), force=False)
    assert set(result.gradients) == {"layer/0"} | ({"layer/1"} if bias else set())


@pytest.mark.parametrize("index", [-1, 3, np.nan])
def test_index_out_of_range(index):
    """Caffe reads some other memory there."""
    text = inputs(x=(2,)) + layer("Embed", "embed_param { num_output: 2 input_dim: 3 }", name="words")
    net = compare.engine_net(text)
    net.layer("x").value[1] = index
    with pytest.raises(UserError, match=rf"layer words \(Embed\): index {index:g}, expected 0 to 2 \(input_dim 3\)"):
        net.forward()


@pytest.mark.parametrize("kind, settings, shape, message", [
    ("InnerProduct", "", (2, 3), "inner_product_param.num_output is 0 or missing"),
    ("InnerProduct", "inner_product_param { num_output: 1 axis: 2 }", (2, 3), r"axis 2, but the bottom has the shape"),
    ("InnerProduct", "inner_product_param { num_output: 1 axis: -3 }", (2, 3), "axis -3, but the bottom"),
    ("InnerProduct", "inner_product_param { num_output: 1 } param { } param { } param { }", (2, 3), "3 `param`, but"),
    ("Embed", "embed_param { num_output: 1 }", (2,), "embed_param.input_dim is 0 or missing"),
    ("Embed", "embed_param { input_dim: 1 }", (2,), "embed_param.num_output is 0 or missing")])
def test_refusals(kind, settings, shape, message):
    text = inputs(x=shape) + layer(kind, settings, name="its_name")
    with pytest.raises(UserError, match=f"layer its_name \\({kind}\\): {message}"):
        compare.engine_net(text)
    assert refuses(text)
