"""Layers that join, cut, repeat or rearrange blobs, against real Caffe."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from engine import messages
from engine.net import Net
from tests.caffe_nets import inputs, layer, parameter, refuses
from tests.engine import compare

few = settings(max_examples=20, derandomize=True, deadline=None)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


def normal(*shape):
    return np.random.RandomState(len(shape) + sum(shape)).standard_normal(shape).astype(np.float32)


def check(text, **arrays):
    """Compares the layer that `text` has for inputs of these values; its results are those of Caffe to the last bit."""
    made = inputs(**{name: array.shape for name, array in arrays.items()})
    return compare.run(made + "\n" + text, arrays, tolerance=0, gradient_tolerance=1e-6)


def draw_axis(data, shape):
    return data.draw(st.integers(-len(shape), len(shape) - 1), "axis")


@few
@given(st.data(), shapes, st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_concat(data, shape, sizes):
    axis = draw_axis(data, shape)
    arrays = {}
    for number, size in enumerate(sizes):
        one = list(shape)
        one[axis] = size
        arrays[f"x{number}"] = normal(*one) + number
    old = axis >= 0 and data.draw(st.booleans(), "concat_dim")
    check(layer("Concat", f"concat_param {{ {'concat_dim' if old else 'axis'}: {axis} }}", arrays), **arrays)


@few
@given(st.data(), shapes, st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_slice(data, shape, sizes):
    axis, equal = draw_axis(data, shape), data.draw(st.booleans(), "equal parts")
    shape = list(shape)
    shape[axis] = len(sizes) * sizes[0] if equal else sum(sizes)
    points = "" if equal else " ".join(f"slice_point: {point}" for point in np.cumsum(sizes)[:-1])
    old = axis >= 0 and data.draw(st.booleans(), "slice_dim")
    tops = [f"y{number}" for number in range(len(sizes))]
    check(layer("Slice", f"slice_param {{ {'slice_dim' if old else 'axis'}: {axis} {points} }}", tops=tops),
          x=normal(*shape))


def test_a_net_is_fitted_to_another_number_of_images(tmp_path):
    """Here the number of images decides where the layer cuts."""
    path = tmp_path / "net.prototxt"
    path.write_text(inputs(x=(2, 3)) + layer("Slice", "slice_param { axis: 0 }", tops=("y", "z")))
    net = Net(messages.read_text(str(path), "NetParameter"), messages.TEST)
    for count in (6, 4, 2):
        values = torch.from_numpy(normal(count, 3))
        net.layers[0].value = values
        net.reshape()
        assert (net.shapes["x"], net.shapes["y"]) == ((count, 3), (count // 2, 3))
        found = net.forward()
        assert torch.equal(found["y"], values[:count // 2]) and torch.equal(found["z"], values[count // 2:])
    net.layers[0].value = torch.zeros(3, 3)
    with pytest.raises(UserError, match=r"axis 0 of the shape \(3, 3\) cannot be cut into 2 equal parts"):
        net.reshape()


def test_a_slice_that_no_loss_uses_has_no_gradient():
    text = layer("Slice", tops=("a", "b")) + layer("Silence", bottoms=("a",), tops=(), name="silence")
    result = check(text, x=normal(2, 6))
    assert not result.gradients["x"][:, :3].any() and result.gradients["x"][:, 3:].all()


def test_split():
    check(layer("Split", tops=("a", "b", "c")), x=normal(2, 3))


@few
@given(st.data(), shapes)
def test_crop(data, shape):
    axis = draw_axis(data, shape)
    first = axis % len(shape)
    common = min(shape[first:]) - 1
    kind = data.draw(st.sampled_from(["none", "one", "each"]), "offsets")
    offsets = {"none": [], "one": [data.draw(st.integers(0, common))],
               "each": [data.draw(st.integers(0, size - 1)) for size in shape[first:]]}[kind]
    starts = offsets * (len(shape) - first) if len(offsets) == 1 else offsets or [0] * (len(shape) - first)
    # The second bottom's axes before `axis` do not count.
    model = tuple(size + 1 for size in shape[:first]) + tuple(
        data.draw(st.integers(1, size - start)) for size, start in zip(shape[first:], starts))
    given_offsets = " ".join(f"offset: {offset}" for offset in offsets)
    check(layer("Crop", f"crop_param {{ axis: {axis} {given_offsets} }}", ("x", "model")), x=normal(*shape),
          model=normal(*model))


@few
@given(st.data(), shapes, st.integers(1, 3))
def test_tile(data, shape, tiles):
    check(layer("Tile", f"tile_param {{ axis: {draw_axis(data, shape)} tiles: {tiles} }}"), x=normal(*shape))


@few
@given(st.data(), shapes)
def test_flatten(data, shape):
    axis = data.draw(st.integers(0, len(shape) - 1), "axis")
    end = data.draw(st.integers(max(0, axis - 1), len(shape) - 1), "end_axis")
    signed = data.draw(st.booleans(), "negative numbers") * len(shape)
    check(layer("Flatten", f"flatten_param {{ axis: {axis - signed} end_axis: {end - signed} }}"), x=normal(*shape))


@few
@given(st.data(), shapes)
def test_reshape(data, shape):
    """Some axes get new sizes, of which one may be 0 and one -1."""
    start = data.draw(st.integers(0, len(shape)), "start")
    end = data.draw(st.integers(start, len(shape)), "end")
    sizes = list(data.draw(st.permutations([*shape[start:end], 1]), "sizes"))
    for number, size in enumerate(sizes):
        if start + number < len(shape) and size == shape[start + number] and data.draw(st.booleans(), "zero"):
            sizes[number] = 0
    if data.draw(st.booleans(), "infer"):
        sizes[data.draw(st.integers(0, len(sizes) - 1))] = -1
    dims = " ".join(f"dim: {size}" for size in sizes)
    axis = start - (len(shape) + 1) * data.draw(st.booleans(), "negative axis")
    count = -1 if end == len(shape) and data.draw(st.booleans(), "to the end") else end - start
    check(layer("Reshape", f"reshape_param {{ shape {{ {dims} }} axis: {axis} num_axes: {count} }}"), x=normal(*shape))


def test_parameter():
    """It starts at 0, as in Caffe, and gets the gradient."""
    text = parameter("x", (2, 3)) + layer("Tile", "tile_param { tiles: 2 }")
    result = compare.run(text, {}, weights={"x": [normal(2, 3)]})
    assert set(result.gradients) == {"x/0"}
    assert compare.engine_net(text).layer("x").blobs[0].tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("kind, settings", [
    ("Concat", ""), ("Slice", "slice_param { slice_point: 1 }"), ("Tile", "tile_param { tiles: 2 }"), ("Flatten", ""),
    ("Reshape", "reshape_param { shape { dim: 3 dim: -1 } axis: 1 }"), ("Reduction", "reduction_param { axis: 2 }"),
    ("InnerProduct", "inner_product_param { num_output: 2 weight_filler { type: 'xavier' } }"), ("Softmax", ""),
    ("ArgMax", "argmax_param { top_k: 5 }"), ("Embed", "embed_param { num_output: 2 input_dim: 9 }"),
    ("SoftmaxWithLoss", ""), ("Accuracy", "")])
def test_the_order_in_memory_does_not_matter(kind, settings):
    """Convolutions may give maps whose channels lie side by side in memory."""
    bottoms = ("x", "labels") if "Loss" in kind or kind == "Accuracy" else ("x",)
    tops = ("y", "z") if kind == "Slice" else ("y",)
    net = compare.engine_net(inputs(x=(2, 3, 2, 4), labels=(2, 2, 4)) + layer(kind, settings, bottoms, tops))
    x = torch.from_numpy(np.abs(normal(2, 3, 2, 4)))
    values = []
    for memory in (torch.contiguous_format, torch.channels_last):
        net.layer("x").value = x.clone(memory_format=memory)
        values.append([net.forward(tops)[top] for top in tops])
    for one, other in zip(*values):
        np.testing.assert_allclose(other.detach().numpy(), one.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("kind, settings, shapes, tops, message", [
    ("Concat", "concat_param { axis: 2 }", [(2, 3)], 1, r"axis 2, but the bottom has the shape \(2, 3\)"),
    ("Concat", "concat_param { axis: 0 concat_dim: 0 }", [(2, 3)], 1, "both axis and concat_dim"),
    ("Concat", "", [(2, 3), (3, 3)], 1, r"the shape \(3, 3\), the first one \(2, 3\), expected the same but for"),
    ("Concat", "", [(2, 3), (2,)], 1, r"the shape \(2,\), the first one \(2, 3\)"),
    ("Slice", "", [(2, 3)], 2, r"axis 1 of the shape \(2, 3\) cannot be cut into 2 equal parts"),
    ("Slice", "slice_param { slice_point: 1 }", [(2, 3)], 3, "1 slice_point, expected 2, as there are 3 tops"),
    ("Slice", "slice_param { slice_point: 3 }", [(2, 3)], 2, r"slice_point 3, expected ascending numbers from 1 to 2"),
    ("Slice", "slice_param { slice_point: 2 slice_point: 1 }", [(2, 3)], 3, "slice_point 2, 1, expected ascending"),
    ("Slice", "slice_param { axis: 1 slice_dim: 1 }", [(2, 3)], 3, "both axis and slice_dim"),
    ("Crop", "crop_param { axis: 0 offset: 1 offset: 1 offset: 1 }", [(2, 3), (1, 1)], 1, "3 offset, expected 1 or 2"),
    ("Crop", "crop_param { axis: 0 offset: 1 }", [(2, 3), (1, 3)], 1,
     r"the shape \(2, 3\) cannot be cut to \(1, 3\) from axis 0 on, with offset 1"),
    ("Crop", "crop_param { axis: 0 }", [(2, 3), (2,)], 1, r"the shape \(2, 3\) cannot be cut to \(2,\)"),
    ("Crop", "", [(2, 3, 4)], 1, "1 bottoms, expected 2"),
    ("Tile", "", [(2, 3)], 1, "tile_param.tiles is 0 or missing"),
    ("Tile", "tile_param { tiles: -1 }", [(2, 3)], 1, "tile_param.tiles is -1"),
    ("Flatten", "flatten_param { axis: 2 end_axis: 0 }", [(2, 3, 4)], 1, "axis 2 comes after end_axis 0"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [(2, 3)], 1, r"shape \[-1, -1\], expected sizes, 0, or"),
    ("Reshape", "reshape_param { shape { dim: -2 dim: 3 } }", [(2, 3)], 1, r"shape \[-2, 3\], expected sizes, 0, or"),
    ("Reshape", "reshape_param { shape { dim: 6 dim: 1 dim: 0 } }", [(2, 3)], 1, "has a 0 for axis 2, but the bottom"),
    ("Reshape", "reshape_param { shape { dim: 4 dim: -1 } }", [(2, 3)], 1,
     r"the shape \(2, 3\) cannot become \(4, 1\), which has another number of values"),
    ("Reshape", "reshape_param { shape { dim: 7 } }", [(2, 3)], 1, r"the shape \(2, 3\) cannot become \(7,\)"),
    ("Reshape", "reshape_param { shape { dim: 6 } axis: 1 num_axes: 2 }", [(2, 3)], 1, "axis 1 and num_axes 2 do not"),
    ("Reshape", "reshape_param { shape { dim: 6 } axis: 3 }", [(2, 3)], 1, "axis 3, but the bottom has the shape"),
    ("Reshape", "reshape_param { shape { dim: 6 } num_axes: -2 }", [(2, 3)], 1, "num_axes -2 do not fit"),
    ("Silence", "", [(2, 3)], 1, "1 tops, expected 0"),
    ("Parameter", "parameter_param { shape { dim: 2 } }", [(2,)], 1, "1 bottoms, expected 0")])
def test_refusals(kind, settings, shapes, tops, message):
    """What the engine refuses, Caffe refuses as well."""
    arrays = {f"x{number}": shape for number, shape in enumerate(shapes)}
    text = inputs(**arrays) + layer(kind, settings, arrays, [f"y{number}" for number in range(tops)], name="its_name")
    with pytest.raises(UserError, match=rf"layer its_name \({kind}\): .*{message}") as error:
        compare.engine_net(text)
    assert "\n" not in str(error.value)
    assert refuses(text)
