"""Sparseness loss: arithmetic in float64, the layer in real Caffe on features and on shared weights, iter_size."""
import subprocess
import sys

import caffe
import numpy as np
import pytest

from layers.functions import sparseness_loss
from tests import caffe_nets, numeric

SHAPES = [(1, 1), (1, 4), (5, 1), (4, 6), (3, 2, 3, 3)]


def values_of(*shape, seed=0):
    """None of them near 0, where |x| has no derivative."""
    random = np.random.RandomState(seed)
    return random.choice([-1, 1], shape) * random.uniform(0.1, 2, shape)


def slow(values, p):
    """1/p |x|_p^p, one value at a time."""
    total = 0.0
    for value in values.ravel():
        total += value * value / 2 if p == 2 else value if value > 0 else -value
    return total


# ---------------------------------------------------------------- arithmetic

@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradient(shape, p):
    values = values_of(*shape)
    assert sparseness_loss.forward(values, p) == pytest.approx(slow(values, p), rel=1e-12)
    np.testing.assert_allclose(sparseness_loss.gradient(values, p),
                               numeric.gradient(lambda moved: slow(moved, p), values), rtol=1e-6)


def test_by_hand():
    values = np.array([[3.0, -4.0], [0.0, 0.5]])
    assert sparseness_loss.forward(values, 1) == 7.5
    assert sparseness_loss.forward(values, 2) == (9 + 16 + 0.25) / 2
    np.testing.assert_array_equal(sparseness_loss.gradient(values, 1), [[1, -1], [0, 1]])
    np.testing.assert_array_equal(sparseness_loss.gradient(values, 2), values)


@pytest.mark.parametrize("p", [1, 2])
def test_zeros_have_no_loss_and_no_gradient(p):
    zeros = np.zeros((3, 4), np.float32)
    assert sparseness_loss.forward(zeros, p) == 0
    gradient = sparseness_loss.gradient(zeros, p)
    assert gradient.dtype == np.float32 and gradient.shape == (3, 4) and not gradient.any()


# ---------------------------------------------------------------- features, in real nets

def on_features(shapes, loss_weight=0.5, learnable=True, **param):
    """Blobs x0, x1, ... with these shapes."""
    names = [f"x{number}" for number in range(len(shapes))]
    blobs = [caffe_nets.parameter(name, shape) if learnable else caffe_nets.inputs(**{name: shape})
             for name, shape in zip(names, shapes)]
    return "\n".join(blobs + [caffe_nets.python_layer("sparse", "sparseness_loss", "SparsenessLossLayer", names,
                                                      loss_weight, **param)])


@pytest.mark.parametrize("normalization", [None, "batch", "none"])
@pytest.mark.parametrize("coefficient", [None, "same", "divided"])
@pytest.mark.parametrize("p", [None, 1, 2])
@pytest.mark.parametrize("shapes", [[(4, 6)], [(1, 3)], [(5, 3, 2, 2), (5, 7), (5,)]])
def test_features_in_a_real_net(tmp_path, shapes, p, coefficient, normalization):
    """None: the key is left out, the default is p 2, the same coefficient, and the mean over the batch."""
    given = dict(p=p, coefficient=coefficient, normalization=normalization)
    net = caffe_nets.net(tmp_path, on_features(shapes, **{key: value for key, value in given.items() if value}))
    features = [values_of(*shape, seed=number) for number, shape in enumerate(shapes)]
    for number, array in enumerate(features):
        caffe_nets.blob(net, f"x{number}").data[...] = array
    divisor = (1 if normalization == "none" else shapes[0][0]) * (len(shapes) if coefficient == "divided" else 1)
    expected = sum(slow(array, p or 2) for array in features) / divisor
    assert float(net.forward()["sparse"]) == pytest.approx(expected, rel=1e-5)
    net.backward()
    for number, array in enumerate(features):
        gradient = numeric.gradient(lambda moved: 0.5 / divisor * slow(moved, p or 2), array)
        np.testing.assert_allclose(net.params[f"x{number}"][0].diff, gradient, rtol=1e-4)


def test_features_by_hand(tmp_path):
    """Eq. (4) with the mean of Eq. (2): (3^2 + 4^2 + 1^2 + 0) / 2 for x0 and 2^2 / 2 + 0 for x1, over two samples."""
    net = caffe_nets.net(tmp_path, on_features([(2, 2), (2, 1)], loss_weight=10, coefficient="divided"))
    caffe_nets.blob(net, "x0").data[...] = [[3, -4], [1, 0]]
    caffe_nets.blob(net, "x1").data[...] = [[2], [0]]
    assert float(net.forward()["sparse"]) == (13 + 2) / 2 / 2
    net.backward()
    np.testing.assert_allclose(net.params["x0"][0].diff, [[7.5, -10], [2.5, 0]], rtol=1e-6)
    np.testing.assert_allclose(net.params["x1"][0].diff, [[5], [0]], rtol=1e-6)


def test_the_actual_batch_divides(tmp_path):
    """Also after the batch has changed."""
    net = caffe_nets.net(tmp_path, on_features([(4, 3)], learnable=False))
    for batch in (4, 2, 5):
        net.blobs["x0"].reshape(batch, 3)
        net.blobs["x0"].data[...] = 2
        assert float(net.forward()["sparse"]) == pytest.approx(3 * 2)


def test_only_the_bottoms_that_need_a_gradient_get_one(tmp_path):
    text = on_features([(2, 3), (2, 3)]).replace('type: "Python"', 'type: "Python" propagate_down: [true, false]')
    net = caffe_nets.net(tmp_path, text)
    for name in ("x0", "x1"):
        net.params[name][0].data[...] = 1
        net.params[name][0].diff[...] = 9
    net.forward()
    net.backward()
    assert (net.params["x0"][0].diff == 0.25).all() and (net.params["x1"][0].diff == 9).all()


def reduction(bottom, p, coeff, loss_weight):
    operation = {1: "ASUM", 2: "SUMSQ"}[p]
    return (f'layer {{ name: "sparse" type: "Reduction" bottom: "{bottom}" top: "sparse" loss_weight: {loss_weight} '
            f'reduction_param {{ operation: {operation} coeff: {coeff} }} }}')


INNER_PRODUCT = ('layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { name: "V" lr_mult: 1 '
                 'decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 } inner_product_param { num_output: 3 '
                 'weight_filler { type: "xavier" } } }')
BODY = [caffe_nets.inputs(data=(4, 5), label=(4,)), INNER_PRODUCT,
        'layer { name: "softmax" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "softmax" }']


def random_data(net, seed=2):
    net.blobs["data"].data[...] = np.random.RandomState(seed).randn(4, 5)
    net.blobs["label"].data[...] = [0, 2, 1, 2]
    return net


@pytest.mark.parametrize("p", [1, 2])
def test_features_equal_caffes_reduction(tmp_path, p):
    """It has the batch size in its coefficient; with one of 4, all roundings are the same."""
    ours = caffe_nets.python_layer("sparse", "sparseness_loss", "SparsenessLossLayer", ["fc"], 0.3, p=p)
    moved = []
    for loss in (ours, reduction("fc", p, 1 / (4 * p), 0.3)):
        solver = caffe_nets.solver(tmp_path, "\n".join(BODY + [loss]), base_lr=0.1, momentum=0.9, weight_decay=0.1)
        random_data(solver.net)
        solver.step(5)
        moved.append([solver.net.params["fc"][number].data.copy() for number in (0, 1)])
        losses = float(solver.net.blobs["sparse"].data)
        moved[-1].append(losses)
    np.testing.assert_array_equal(moved[0][0], moved[1][0])
    np.testing.assert_array_equal(moved[0][1], moved[1][1])
    assert moved[0][2] == pytest.approx(moved[1][2], rel=1e-6)


# ---------------------------------------------------------------- weights, in real nets

def on_weights(loss_weight=0.3, name="V", shape=(3, 5), **param):
    return caffe_nets.python_layer("sparse", "sparseness_loss", "SparsenessLossLayer", [], loss_weight,
                                   [f'name: "{name}" lr_mult: 1 decay_mult: 1'], shape=list(shape), **param)


def cross_entropy(net, weights):
    """In float64, one sample at a time."""
    data, total = net.blobs["data"].data.astype(float), 0.0
    for x, label in zip(data, net.blobs["label"].data.astype(int)):
        scores = [sum(weights[c, d] * x[d] for d in range(5)) for c in range(3)]
        total += np.log(sum(np.exp(score) for score in scores)) - scores[label]
    return total / 4


@pytest.mark.parametrize("p", [1, 2])
def test_gradient_of_weights_adds_up(tmp_path, p):
    net = random_data(caffe_nets.net(tmp_path, "\n".join(BODY + [on_weights(p=p)])))
    weights = values_of(3, 5)
    net.params["fc"][0].data[...] = weights
    values = net.forward()
    assert float(values["sparse"]) == pytest.approx(slow(weights, p), rel=1e-5)
    net.clear_param_diffs()
    net.backward()
    expected = numeric.gradient(lambda moved: cross_entropy(net, moved) + 0.3 * slow(moved, p), weights)
    np.testing.assert_allclose(net.params["fc"][0].diff, expected, rtol=1e-3, atol=1e-5)
    # Without the diffs being cleared, as within an iteration of iter_size 2.
    net.backward()
    np.testing.assert_allclose(net.params["fc"][0].diff, 2 * expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(net.params["sparse"][0].data, net.params["fc"][0].data)


@pytest.mark.parametrize("iter_size", [1, 2, 3])
@pytest.mark.parametrize("p", [1, 2])
def test_step_of_the_solver_is_the_same_for_each_iter_size(tmp_path, p, iter_size):
    """One step is rate * (gradient of the softmax loss + 0.3 gradient of the sparseness + weight decay)."""
    solver = caffe_nets.solver(tmp_path, "\n".join(BODY + [on_weights(p=p)]), base_lr=0.1, momentum=0,
                               weight_decay=0.2, iter_size=iter_size)
    random_data(solver.net)
    weights = values_of(3, 5)
    solver.net.params["fc"][0].data[...] = weights
    expected = numeric.gradient(lambda moved: cross_entropy(solver.net, moved) + 0.3 * slow(moved, p)
                                + 0.1 * (moved ** 2).sum(), weights)
    solver.step(1)
    np.testing.assert_allclose(solver.net.params["fc"][0].data - weights, -0.1 * expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_weights_equal_caffes_reduction_where_iter_size_is_1(tmp_path, p):
    theirs = ('layer { name: "weights" type: "Parameter" top: "weights" param { name: "V" lr_mult: 1 decay_mult: 1 } '
              'parameter_param { shape { dim: 3 dim: 5 } } }\n' + reduction("weights", p, 1 / p, 0.3))
    moved = {}
    for name, loss in (("ours", on_weights(p=p)), ("theirs", theirs)):
        for iter_size in (1, 2):
            solver = caffe_nets.solver(tmp_path, "\n".join(BODY + [loss]), base_lr=0.1, momentum=0.9,
                                       weight_decay=0.1, iter_size=iter_size)
            random_data(solver.net)
            solver.step(5)
            moved[name, iter_size] = solver.net.params["fc"][0].data.copy()
    np.testing.assert_array_equal(moved["ours", 1], moved["theirs", 1])
    np.testing.assert_allclose(moved["ours", 2], moved["ours", 1], rtol=1e-5, atol=1e-7)
    # What Reduction makes of it: each pass overwrites the gradients of the passes before.
    assert np.abs(moved["theirs", 2] - moved["theirs", 1]).max() > 1e-2


def test_weights_of_a_batch_of_any_size_have_the_same_loss(tmp_path):
    net = random_data(caffe_nets.net(tmp_path, "\n".join(BODY + [on_weights()])))
    net.params["fc"][0].data[...] = 2
    net.blobs["data"].reshape(2, 5)
    net.blobs["label"].reshape(2)
    assert float(net.forward()["sparse"]) == 15 * 2


def test_weights_of_two_layers(tmp_path):
    """Two layers share V, and the loss counts V once."""
    second = INNER_PRODUCT.replace('"fc"', '"fc_again"')
    net = random_data(caffe_nets.net(tmp_path, "\n".join(BODY + [second, on_weights()])))
    net.params["fc"][0].data[...] = 2
    assert float(net.forward()["sparse"]) == 15 * 2


def test_snapshot_and_resume(tmp_path):
    def new():
        solver = caffe_nets.solver(tmp_path, "\n".join(BODY + [on_weights()]), base_lr=0.1, momentum=0.9)
        random_data(solver.net)
        return solver
    through, stopped, resumed = new(), new(), new()
    through.step(6)
    stopped.step(3)
    stopped.snapshot()
    resumed.restore(str(tmp_path / "snapshot_iter_3.solverstate"))
    resumed.step(3)
    np.testing.assert_array_equal(resumed.net.params["fc"][0].data, through.net.params["fc"][0].data)


# ---------------------------------------------------------------- errors

@pytest.mark.parametrize("name", ["U", ""])
def test_weights_of_no_earlier_layer_are_refused(tmp_path, capfd, name):
    loss = on_weights(name=name) if name else on_weights().replace('name: "V" ', "")
    net = random_data(caffe_nets.net(tmp_path, "\n".join(BODY + [loss])))
    with pytest.raises(ValueError):
        net.forward()
    said = capfd.readouterr().err.strip().splitlines()
    assert said == ["layer sparse (SparsenessLossLayer): no earlier layer has these weights, expected the name of its "
                    "weights in `param { name }`"]


def test_weights_of_a_later_layer_are_refused(tmp_path, capfd):
    net = random_data(caffe_nets.net(tmp_path, "\n".join([BODY[0], on_weights(), *BODY[1:]])))
    with pytest.raises(ValueError):
        net.forward()
    assert "no earlier layer has these weights" in capfd.readouterr().err


def test_weights_of_another_shape_are_refused_by_caffe(tmp_path):
    (tmp_path / "net.prototxt").write_text("\n".join(BODY + [on_weights(shape=(5, 3))]))
    process = subprocess.run(
        [sys.executable, "-c", "import caffe, sys; caffe.Net(sys.argv[1], caffe.TRAIN)",
         str(tmp_path / "net.prototxt")], stderr=subprocess.PIPE, encoding="utf-8")
    assert process.returncode != 0
    assert "Owner layer param shape is 3 5 (15); sharing layer expects shape 5 3 (15)" in process.stderr


@pytest.mark.parametrize("text, said", [
    (on_features([(2, 3)], shape=[2, 3]), "param_str: 'shape' is for weights, expected no bottoms, found 1"),
    (on_features([]), "no bottoms, expected features as bottoms, or the shape of weights as key 'shape'"),
    (on_features([(2, 3), (4, 3)]), "the bottoms have batches of 2, 4, expected the same size"),
    (on_features([(2, 3)], p=3), "param_str: 'p' is 3, expected one of 1, 2"),
    (on_features([(2, 3)], normalization="sum"),
     "param_str: 'normalization' is \"sum\", expected one of \"batch\", \"none\""),
    (on_features([(2, 3)], coefficient=2), "param_str: 'coefficient' is 2, expected one of \"same\", \"divided\""),
    (on_weights(shape=(3, 0)), "param_str: 'shape' is [3, 0], expected a list of integers >= 1"),
    (on_weights(normalization="batch"), "param_str: 'normalization' is for features, but 'shape' is for weights"),
    (on_weights(coefficient="same"), "param_str: 'coefficient' is for features, but 'shape' is for weights")])
def test_wrong_use_is_named(tmp_path, capfd, text, said):
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, "\n".join(BODY + [text]), caffe.TRAIN)
    line, = capfd.readouterr().err.strip().splitlines()
    assert line.endswith(" (SparsenessLossLayer): " + said)
