"""Losses and accuracy, against real Caffe and by hand."""
import math

import caffe
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from tests.caffe_nets import inputs, layer, refuses
from tests.engine import compare

few = settings(max_examples=25, derandomize=True, deadline=None)
shapes = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
modes = st.sampled_from(["", *(f"normalization: {mode}" for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE"))])
old_modes = modes | st.sampled_from(["normalize: true", "normalize: false", "normalize: false normalization: FULL"])
# Some labels are of this class; or none is, or all.
ignored = st.sampled_from(["", "ignore_label: 0", "ignore_label: 1", "ignore_label: -1"])
FLT_MIN = np.finfo(np.float32).tiny


def scores(shape, scale=3):
    return scale * np.random.RandomState(sum(shape)).standard_normal(shape)


def draw_labels(data, shape, axis, ignore=""):
    """One label for each place beside the axis of the classes; some are to be ignored."""
    places = shape[:axis] + shape[axis + 1:]
    random = np.random.RandomState(data.draw(st.integers(0, 99), "labels"))
    labels = random.randint(0, shape[axis], places).astype(np.float32)
    if "-1" in ignore:
        labels[random.uniform(size=places) < .3] = -1
    return labels


def draw_axis(data, shape, first=0):
    return data.draw(st.integers(first, len(shape) - 1), "axis")


def check(text, x, *others, **options):
    """Compares the layer for a bottom x and further ones."""
    names = ["labels", "more"][:len(others)]
    made = inputs(x=x.shape, **{name: np.shape(array) for name, array in zip(names, others)})
    return compare.run(made + text, dict(zip(["x", *names], [x, *others])), **options)


def loss(kind, param="", more="", tops=("loss",), bottoms=("x", "labels"), name="loss"):
    return layer(kind, f"{param} loss_weight: 1.5 {more}", bottoms, tops, name)


def run(text, arrays, tops):
    """The engine alone: values of tops and the gradient of x."""
    net = compare.engine_net(inputs(**{name: np.shape(array) for name, array in arrays.items()}) + text)
    for name, array in arrays.items():
        source = net.layer(name)
        source.value = source.value.new_tensor(array).requires_grad_(name == "x")
    blobs = net.forward(tops)
    net.backward()
    return [blobs[top].tolist() for top in tops], net.layer("x").value.grad


@few
@given(st.data(), shapes, old_modes, ignored)
def test_softmax_with_loss(data, shape, mode, ignore):
    axis = draw_axis(data, shape, 1)
    given_axis = axis - len(shape) * data.draw(st.booleans(), "negative axis")
    check(loss("SoftmaxWithLoss", f"loss_param {{ {mode} {ignore} }} softmax_param {{ axis: {given_axis} }}"),
          scores(shape), draw_labels(data, shape, axis, ignore))


@few
@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_classes_on_the_first_axis(data, classes, count):
    """Caffe wants as many labels along the first axis as there are classes."""
    shape = (classes, classes, count)
    check(loss("SoftmaxWithLoss", "softmax_param { axis: 0 }"), scores(shape), draw_labels(data, shape, 0))


def test_probabilities_as_second_top():
    """Caffe cannot do this: it asks for one loss_weight and for two. Its Softmax gives what is expected. No gradient
    comes from there."""
    x, labels = scores((3, 4)), [0, 3, 1]
    text = layer("Softmax", tops=("loss",), name="loss")
    expected = check(text, x, gradients=False).outputs["loss"]
    alone, gradient = run(layer("SoftmaxWithLoss", "", ("x", "labels"), ("loss",)), dict(x=x, labels=labels), ["loss"])
    two = layer("SoftmaxWithLoss", "", ("x", "labels"), ("loss", "p")) + layer(
        "Reduction", "loss_weight: 5", ("p",), ("sum",), name="sum")
    [value, probabilities], gradient_of_two = run(two, dict(x=x, labels=labels), ["loss", "p"])
    assert [value] == alone and np.allclose(probabilities, expected, atol=1e-7)
    assert (gradient_of_two == gradient).all()


def test_a_loss_without_a_top():
    """Caffe makes a top for it that has no name."""
    result = check(layer("SoftmaxWithLoss", "", ("x", "labels"), ()), scores((3, 4)), [0, 3, 1])
    assert result.gradients["x"].any() and not result.outputs
    assert result.engine.loss.item() == pytest.approx(float(result.caffe.blobs["(automatic)"].data), rel=1e-6)


def matrix_file(path, matrix, double=False):
    proto = caffe.proto.caffe_pb2.BlobProto()
    proto.shape.dim.extend(matrix.shape)
    (proto.double_data if double else proto.data).extend(matrix.ravel().tolist())
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("double", [False, True])
def test_infogain_with_a_file(tmp_path, double):
    matrix = np.random.RandomState(0).standard_normal((4, 4)).astype(np.float32)
    path = matrix_file(tmp_path / "h.binaryproto", matrix, double)
    text = loss("InfogainLoss", f'infogain_loss_param {{ source: "{path}" }}')
    result = check(text, scores((3, 4)), [0, 3, 1])
    again, _ = run(loss("InfogainLoss", bottoms=("x", "labels", "more")),
                   dict(x=scores((3, 4)), labels=[0, 3, 1], more=matrix), ["loss"])
    assert again == pytest.approx([float(result.outputs["loss"])], rel=1e-6)


@few
@given(st.data(), shapes, modes, ignored, st.booleans())
def test_infogain(data, shape, mode, ignore, two):
    """With H as third bottom; its gradient is checked through an InnerProduct, as Caffe has none for H."""
    axis = draw_axis(data, shape, 1)
    classes = shape[axis]
    features = shape[-1] if axis < len(shape) - 1 else 3
    text = layer("InnerProduct", f"inner_product_param {{ num_output: {shape[-1]} axis: -1 bias_term: false }}",
                 tops=("s",), name="s")
    text += loss("InfogainLoss", f"loss_param {{ {mode} {ignore} }} infogain_loss_param {{ axis: {axis} }}",
                 "loss_weight: 0" * two, ("loss", "p")[:1 + two], ("s", "labels", "more"))
    check(text, scores((*shape[:-1], features), 1), draw_labels(data, shape, axis, ignore),
          scores((1, 1, classes, classes)), force=False)


@few
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_euclidean(shape):
    """Both bottoms get a gradient; here the labels are a parameter. The shapes may differ but for the first axis."""
    other = (shape[0], int(np.prod(shape[1:])), 1)
    text = layer("Parameter", f"parameter_param {{ shape {{ {' '.join(f'dim: {size}' for size in other)} }} }}", (),
                 ("labels",), "labels")
    result = check(text + loss("EuclideanLoss"), scores(shape))
    assert set(result.gradients) == {"x", "labels/0"}


@few
@given(st.data(), shapes, st.sampled_from(["", "hinge_loss_param { norm: L1 }", "hinge_loss_param { norm: L2 }"]))
def test_hinge(data, shape, norm):
    """Also at the corner, where a margin is just kept."""
    x = np.round(scores(shape, 1))
    labels = draw_labels(data, (shape[0], int(np.prod(shape[1:]))), 1)
    check(loss("HingeLoss", norm), x, labels)


@few
@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([.1, 1, 3]), st.booleans())
def test_contrastive(pairs, count, margin, legacy):
    """The second pair has distance 0; a label is cut off, so 0.9 is a dissimilar pair."""
    random = np.random.RandomState(pairs)
    a, b = random.standard_normal((2, pairs, count, 1, 1)[:4])
    b[1:2] = a[1:2]
    labels = random.choice([0, .9, 1, 2], pairs)
    param = f"contrastive_loss_param {{ margin: {margin} legacy_version: {str(legacy).lower()} }}"
    result = check(loss("ContrastiveLoss", param, bottoms=("x", "labels", "more")), a, b, labels)
    assert np.isfinite(result.gradients["x"]).all() and not result.gradients["more"].any()


@pytest.mark.parametrize("legacy", ["true", "false"])
@pytest.mark.parametrize("distance", [1e-3, .5, .9, 1.1, 1.4, 3])
def test_dissimilar_pair_near_the_margin(legacy, distance):
    """Caffe divides by the distance + 0.0001, which counts for the smallest one."""
    param = f"contrastive_loss_param {{ legacy_version: {legacy} }}"
    check(loss("ContrastiveLoss", param, bottoms=("x", "labels", "more")), np.array([[distance, 0]]), [[0, 0]], [0])


@few
@given(st.data(), shapes, old_modes, ignored)
def test_sigmoid_cross_entropy(data, shape, mode, ignore):
    """Targets need not be 0 or 1. One to ignore is cut off first, so `ignore_label: 0` ignores 0.5 as well."""
    targets = np.random.RandomState(data.draw(st.integers(0, 99))).choice([0, .5, 1, -1], shape)
    check(loss("SigmoidCrossEntropyLoss", f"loss_param {{ {mode} {ignore} }}"), scores(shape, 20), targets)


@few
@given(st.data(), shapes, st.integers(0, 4), ignored, st.booleans())
def test_accuracy(data, shape, top_k, ignore, two):
    """With ties, which are errors."""
    axis = draw_axis(data, shape)
    given_axis = axis - len(shape) * data.draw(st.booleans(), "negative axis")
    x = np.random.RandomState(sum(shape)).randint(0, 3, shape)
    param = f"accuracy_param {{ top_k: {min(top_k, shape[axis])} axis: {given_axis} {ignore} }}"
    text = layer("Accuracy", param, ("x", "labels"), ("y", "each")[:1 + two])
    check(text, x, draw_labels(data, shape, axis, ignore), gradients=False)


def test_accuracy_by_hand():
    """Two labels of class 1, of which one is a tie, one of class 3; top 2 counts the tie as right, and class 0 has no
    samples."""
    arrays = dict(x=[[1, 2, 2, 0], [0, 9, 1, 5], [1, 2, 3, 2.5]], labels=[1, 1, 3])
    for top_k, expected in ((1, [1 / 3, [0, .5, 0, 0]]), (2, [1, [0, 1, 0, 1]])):
        text = layer("Accuracy", f"accuracy_param {{ top_k: {top_k} }}", ("x", "labels"), ("y", "each"))
        values, _ = run(text, arrays, ["y", "each"])
        assert values == [pytest.approx(expected[0]), expected[1]]


def test_accuracy_of_nan():
    """Nothing is as large as NaN, so Caffe counts the sample as right."""
    x = np.array([[np.nan] * 3, [1, np.nan, 0], [np.nan, 0, 1]])
    result = check(layer("Accuracy", "", ("x", "labels")), x, [1, 0, 1], gradients=False)
    assert result.outputs["y"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("mode", ["", "normalize: true", "normalize: false", "normalization: FULL",
                                  "normalization: VALID", "normalization: BATCH_SIZE", "normalization: NONE"])
@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "InfogainLoss", "SigmoidCrossEntropyLoss"])
def test_divisor_with_ignored_labels(tmp_path, kind, mode):
    """Two samples of three values each, of which two are ignored: the divisors all differ."""
    param = f"loss_param {{ {mode} ignore_label: 2 }}"
    x, labels = scores((2, 3, 3)), np.array([[2, 0, 1], [1, 2, 0]])
    if kind == "SigmoidCrossEntropyLoss":
        x = x[:, 0]
    elif kind == "InfogainLoss":
        if "normalize:" in mode:
            return
        param += f' infogain_loss_param {{ source: "{matrix_file(tmp_path / "h", scores((3, 3)))}" }}'
    check(loss(kind, param), x, labels)


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "SigmoidCrossEntropyLoss"])
@pytest.mark.parametrize("mode", ["FULL", "VALID", "BATCH_SIZE", "NONE"])
def test_all_labels_ignored(kind, mode):
    """The divisor is at least 1: no loss and no gradient, and no NaN. An ignored sample may have any scores."""
    labels = [2, 2] if kind == "SoftmaxWithLoss" else [[2] * 3] * 2
    x = np.array([[np.nan, 1, 2], [3, 4, 5]])
    result = check(loss(kind, f"loss_param {{ ignore_label: 2 normalization: {mode} }}"), x, labels)
    assert result.outputs["loss"] == 0 and not result.gradients["x"].any()


def test_accuracy_of_ignored_labels():
    result = check(layer("Accuracy", "accuracy_param { ignore_label: 2 }", ("x", "labels"), ("y", "each")),
                   scores((2, 3)), [2, 2], gradients=False)
    assert result.outputs["y"] == 0 and not result.outputs["each"].any()


def test_probability_of_zero():
    """The logarithm is that of FLT_MIN or of 1e-20; the gradient is that of a probability of 0."""
    x, arrays = np.array([[0, 500.]]), dict(x=[[0, 500]], labels=[0])
    result = check(layer("SoftmaxWithLoss", "", ("x", "labels"), ("loss",)), x, [0])
    assert result.outputs["loss"] == pytest.approx(-math.log(FLT_MIN))
    assert result.gradients["x"].tolist() == [[-1, 1]]
    infogain = layer("InfogainLoss", "", ("x", "labels", "more"), ("loss",))
    values, gradient = run(infogain, dict(arrays, more=np.eye(2)), ["loss"])
    assert values == [pytest.approx(-math.log(1e-20))]
    assert gradient.tolist() == [[-1, 1]]


def test_nan_scores_make_a_nan_loss():
    """Caffe's HingeLoss takes NaN for 0; the engine's is NaN, so that a training can be stopped."""
    x = np.array([[np.nan, 1], [1, 2]])
    for kind, labels in (("SoftmaxWithLoss", [1, 0]), ("EuclideanLoss", [[0] * 2] * 2)):
        assert np.isnan(check(loss(kind), x, labels).outputs["loss"])
    assert math.isnan(run(loss("HingeLoss"), dict(x=x, labels=[1, 0]), ["loss"])[0][0])


def test_labels_are_cut_off():
    """1.7 is class 1, and -0.5 class 0."""
    check(loss("SoftmaxWithLoss"), scores((2, 3)), [1.7, -.5])


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "HingeLoss", "Accuracy"])
def test_scores_and_labels_that_are_parts_of_a_blob(kind):
    """They do not lie one after the other in memory then."""
    text = layer("Slice", "slice_param { slice_point: 3 }", tops=("s", "labels"), name="slice")
    check(text + layer(kind, "", ("s", "labels")), np.c_[scores((4, 3)), [2, 0, 1, 2]], gradients=False)


LABELLED = [("SoftmaxWithLoss", (2, 3)), ("HingeLoss", (2, 3)), ("Accuracy", (2, 3)), ("InfogainLoss", (2, 3))]


@pytest.mark.parametrize("kind, shape", LABELLED)
@pytest.mark.parametrize("label", [-1, 3, math.nan, 1e9])
def test_label_out_of_range(kind, shape, label):
    """Caffe reads or even writes some other memory there."""
    bottoms = dict(x=scores(shape), labels=[1, label], **({"more": np.eye(3)} if kind == "InfogainLoss" else {}))
    with pytest.raises(UserError) as error:
        run(layer(kind, "", bottoms, name="its_name"), bottoms, [])
    assert str(error.value) == f"layer its_name ({kind}): label {label:g}, expected 0 to 2 (3 classes)"


@pytest.mark.parametrize("kind, settings, shapes, message", [
    ("SoftmaxWithLoss", "", [(2, 3), (3,)], r"have the shapes \(2, 3\) and \(3,\), expected the same first size"),
    ("SoftmaxWithLoss", "", [(2, 3), (2, 3)], r"labels of the shape \(2, 3\) for scores of the shape \(2, 3\)"),
    ("SoftmaxWithLoss", "softmax_param { axis: 2 }", [(2, 3), (2,)], "axis 2, but the bottom has the shape"),
    ("SoftmaxWithLoss", "loss_weight: 1 loss_weight: 1", [(2, 3), (2,)], "2 loss_weight, expected one for each"),
    ("InfogainLoss", "", [(2, 3), (2,)], "infogain_loss_param.source is missing, and there is no third bottom"),
    ("InfogainLoss", "", [(2, 3), (2,), (2, 3)], "the third bottom has 6 values, expected 3 x 3"),
    ("InfogainLoss", "loss_param { normalize: true }", [(2, 3), (2,), (3, 3)], "loss_param.normalize is not for"),
    ("InfogainLoss", 'infogain_loss_param { source: "none.binaryproto" }', [(2, 3), (2,)], "none.binaryproto: can"),
    ("EuclideanLoss", "", [(2, 3), (2, 2)], r"the bottoms have the shapes \(2, 3\) and \(2, 2\), expected as many"),
    ("EuclideanLoss", "", [(2, 3), (3, 3)], "expected the same first size"),
    ("HingeLoss", "", [(2, 3), (1, 2)], "expected the same first size"),
    ("ContrastiveLoss", "", [(2, 3), (2, 2), (2,)], "expected as many values in both"),
    ("SigmoidCrossEntropyLoss", "", [(2, 3), (2, 2)], "expected as many values in both"),
    ("Accuracy", "accuracy_param { top_k: 4 }", [(2, 3), (2,)], "top_k 4, but the bottom has 3 classes"),
    ("Accuracy", "", [(2, 3), (4,)], r"labels of the shape \(4,\) for scores of the shape \(2, 3\), expected \(2,\)")])
def test_refusals(kind, settings, shapes, message):
    """What the engine refuses, Caffe refuses as well."""
    bottoms = dict(zip(["x", "labels", "more"], shapes))
    text = inputs(**bottoms) + layer(kind, settings, bottoms, name="its_name")
    with pytest.raises(UserError, match=message) as error:
        compare.engine_net(text)
    assert "\n" not in str(error.value)
    assert refuses(text)


@pytest.mark.parametrize("kind, settings, shapes, message", [
    ("HingeLoss", "", [(2, 3), (2, 2)], r"labels of the shape \(2, 2\) for a bottom of the shape \(2, 3\), exp"),
    ("ContrastiveLoss", "", [(2, 3), (2, 3), (1,)], r"labels of the shape \(1,\) for a bottom of the shape \(2, 3\)"),
    ("HingeLoss", "loss_param { normalization: FULL }", [(2, 3), (2,)], "loss_param is not for this type of layer")])
def test_further_refusals(kind, settings, shapes, message):
    """Caffe does not use what these say, or reads some other memory."""
    bottoms = dict(zip(["x", "labels", "more"], shapes))
    with pytest.raises(UserError, match=rf"layer its_name \({kind}\): {message}"):
        compare.engine_net(inputs(**bottoms) + layer(kind, settings, bottoms, name="its_name"))


def test_a_damaged_matrix(tmp_path):
    for content, message in ((b"\xff\xff", "not a BlobProto of Caffe, or damaged"), (b"", "has 0 values")):
        path = tmp_path / "h.binaryproto"
        path.write_bytes(content)
        text = inputs(x=(2, 3), labels=(2,)) + loss("InfogainLoss", f'infogain_loss_param {{ source: "{path}" }}')
        with pytest.raises(UserError, match=f"h.binaryproto.* {message}"):
            compare.engine_net(text)
        assert refuses(text)
