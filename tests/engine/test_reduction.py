"""Layers that reduce axes, against real Caffe."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from tests.caffe_nets import inputs, layer, refuses
from tests.engine import compare

few = settings(max_examples=20, derandomize=True, deadline=None)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


def values(shape):
    """Numbers of which some are equal and some are 0."""
    return np.random.RandomState(sum(shape)).randint(-3, 4, shape) / np.float32(2)


@few
@given(st.data(), shapes, st.sampled_from(["SUM", "ASUM", "SUMSQ", "MEAN"]), st.sampled_from([None, 1, -2, .3]))
def test_reduction(data, shape, operation, coeff):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1), "axis")
    more = "" if coeff is None else f"coeff: {coeff}"
    text = layer("Reduction", f"reduction_param {{ operation: {operation} axis: {axis} {more} }}")
    compare.run(inputs(x=shape) + text, dict(x=values(shape)))


@few
@given(st.data(), shapes, st.booleans())
def test_arg_max(data, shape, values_too):
    """Along an axis or over all values of a sample; of equal values, Caffe takes the last one first."""
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1), "axis")
    count = int(np.prod(shape[1:])) if axis is None else shape[axis]
    top_k = data.draw(st.integers(1, count), "top_k")
    where = "" if axis is None else f"axis: {axis}"
    compare.run(inputs(x=shape) + layer("ArgMax", f"argmax_param {{ {where} top_k: {top_k} "
                                                  f"out_max_val: {str(values_too).lower()} }}"),
                dict(x=values(shape)), gradients=False, tolerance=0)


def test_arg_max_of_minus_infinity():
    """Values that are -inf are taken each once, too."""
    x = np.array([[-np.inf, 2, -np.inf, 2]])
    result = compare.run(inputs(x=(1, 4)) + layer("ArgMax", "argmax_param { top_k: 4 }"), dict(x=x), gradients=False)
    assert result.outputs["y"].tolist() == [[[3, 1, 2, 0]]]


@few
@given(st.data(), shapes, st.sampled_from([1, 30, 300]))
def test_softmax(data, shape, scale):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1), "axis")
    compare.run(inputs(x=shape) + layer("Softmax", f"softmax_param {{ axis: {axis} engine: CAFFE }}"),
                dict(x=scale * values(shape)))


@pytest.mark.parametrize("kind, settings, shape, message", [
    ("Reduction", "reduction_param { axis: 2 }", (2, 3), r"axis 2, but the bottom has the shape \(2, 3\)"),
    ("ArgMax", "argmax_param { top_k: 4 }", (2, 3), r"top_k 4, expected 1 to 3, as the bottom has the shape \(2, 3\)"),
    ("ArgMax", "argmax_param { axis: 0 top_k: 3 }", (2, 3), "top_k 3, expected 1 to 2"),
    ("ArgMax", "argmax_param { top_k: 0 }", (2, 3), "top_k 0, expected 1 to 3"),
    ("ArgMax", "argmax_param { axis: 2 }", (2, 3), "axis 2, but the bottom"),
    ("Softmax", "", (2,), r"axis 1, but the bottom has the shape \(2,\)")])
def test_refusals(kind, settings, shape, message):
    text = inputs(x=shape) + layer(kind, settings, name="its_name")
    with pytest.raises(UserError, match=f"layer its_name \\({kind}\\): {message}"):
        compare.engine_net(text)
    assert refuses(text)
