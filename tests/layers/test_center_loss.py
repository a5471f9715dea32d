"""Center loss: arithmetic in float64, the layer inside real Caffe nets, and what the solver makes of it."""
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from layers.functions import center_loss
from tests import caffe_nets, numeric

SHAPES = [(1, 1, 1), (1, 5, 3), (4, 1, 2), (6, 5, 3), (9, 12, 7)]


def example(samples, dimensions, classes, seed=0):
    random = np.random.RandomState(seed)
    return (random.randn(samples, dimensions), random.randint(classes, size=samples),
            random.randn(classes, dimensions))


def slow_loss(x, labels, centers):
    return sum(0.5 * (x[i, d] - centers[labels[i], d]) ** 2
               for i in range(x.shape[0]) for d in range(x.shape[1]))


def slow_steps(x, labels, centers):
    steps = np.zeros_like(centers)
    for n in range(len(centers)):
        members = [x[i] for i in range(len(x)) if labels[i] == n]
        for member in members:
            steps[n] += (centers[n] - member) / (1 + len(members))
    return steps


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_for_features_equals_finite_differences(shape):
    x, labels, centers = example(*shape)
    _, gradient = center_loss.forward(x, labels, centers)
    expected = numeric.gradient(lambda moved: slow_loss(moved, labels, centers), x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_steps_equal_the_slow_ones(shape):
    x, labels, centers = example(*shape)
    loss, difference = center_loss.forward(x, labels, centers)
    assert loss == pytest.approx(slow_loss(x, labels, centers))
    np.testing.assert_allclose(center_loss.center_steps(difference, labels, len(centers)),
                               slow_steps(x, labels, centers), atol=1e-12)


def test_steps_by_hand():
    # Two samples of class 0 at 1 and 3, center 0 at 0: ((0 - 1) + (0 - 3)) / (1 + 2); class 1 is absent.
    x, labels, centers = np.array([[1.0], [3.0]]), np.array([0, 0]), np.array([[0.0], [5.0]])
    loss, difference = center_loss.forward(x, labels, centers)
    assert loss == 0.5 * (1 + 9)
    np.testing.assert_allclose(center_loss.center_steps(difference, labels, 2), [[-4 / 3], [0]])


def text(samples, shape, classes, loss_weight=1, params=(), learnable=False, **param):
    shape = (samples,) + shape
    features = caffe_nets.parameter("x", shape) if learnable else caffe_nets.inputs(x=shape)
    return "\n".join([features, caffe_nets.inputs(label=(samples,)), caffe_nets.python_layer(
        "center", "center_loss", "CenterLossLayer", ["x", "label"], loss_weight, params, classes=classes, **param)])


def fill(net, x, labels, centers=None):
    caffe_nets.blob(net, "x").data[...] = x.reshape(net.blobs["x"].data.shape)
    net.blobs["label"].data[...] = labels
    if centers is not None:
        net.params["center"][0].data[...] = centers


@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize("samples, shape, classes", [(1, (4,), 2), (6, (5,), 3), (5, (2, 3, 2), 7)])
def test_in_a_real_net(tmp_path, samples, shape, classes, normalization):
    x, labels, centers = example(samples, int(np.prod(shape)), classes)
    net = caffe_nets.net(tmp_path, text(samples, shape, classes, 0.25, learnable=True,
                                        normalization=normalization))
    fill(net, x, labels, centers)
    x, centers = x.astype(np.float32).astype(float), centers.astype(np.float32).astype(float)
    divisor = samples if normalization == "batch" else 1
    assert float(net.forward()["center"]) == pytest.approx(slow_loss(x, labels, centers) / divisor, rel=1e-5)
    net.backward()
    expected = numeric.gradient(lambda moved: 0.25 * slow_loss(moved, labels, centers) / divisor, x)
    np.testing.assert_allclose(net.params["x"][0].diff.reshape(x.shape), expected, rtol=1e-4, atol=1e-5)
    # Neither the loss weight nor the batch size enters the centers' step.
    np.testing.assert_allclose(net.params["center"][0].diff, slow_steps(x, labels, centers), rtol=1e-4, atol=1e-5)


def test_centers_start_from_the_xavier_filler(tmp_path):
    first = caffe_nets.net(tmp_path, text(2, (300,), 40, seed=3)).params["center"][0].data.copy()
    again = caffe_nets.net(tmp_path, text(2, (300,), 40, seed=3)).params["center"][0].data
    other = caffe_nets.net(tmp_path, text(2, (300,), 40, seed=4)).params["center"][0].data
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert 0.099 < np.abs(first).max() <= 0.1
    assert abs(first.mean()) < 0.002


@pytest.mark.parametrize("low, high", [(-0.25, 1.5), (2, 2)])
def test_centers_start_in_a_range(tmp_path, low, high):
    centers = caffe_nets.net(tmp_path, text(2, (300,), 40, initial=[low, high])).params["center"][0].data
    assert low <= centers.min() <= low + 0.01 * (high - low) and high - 0.01 * (high - low) <= centers.max() <= high
    np.testing.assert_allclose(centers.mean(), (low + high) / 2, atol=0.02)


def solved(folder, params, x, labels, centers, steps, classes=3, **settings):
    solver = caffe_nets.solver(folder, text(len(x), x.shape[1:], classes, 0.008, params), **settings)
    fill(solver.net, x, labels, centers)
    for _ in range(steps):
        solver.step(1)
    return solver.net.params["center"][0].data.copy()


def test_solver_applies_momentum_learning_rate_and_decay_to_the_centers(tmp_path):
    x, labels, start = example(6, 4, 3, seed=5)
    labels[:] = [0, 0, 0, 1, 1, 0]
    rate, momentum, decay, lr_mult, decay_mult = 0.1, 0.8, 0.05, 0.5, 2
    got = solved(tmp_path, [f"lr_mult: {lr_mult} decay_mult: {decay_mult}"], x, labels, start, steps=3,
                 base_lr=rate, momentum=momentum, weight_decay=decay)
    centers, history = start.copy(), np.zeros_like(start)
    for _ in range(3):
        step = slow_steps(x, labels, centers) + decay * decay_mult * centers
        history = momentum * history + rate * lr_mult * step
        centers = centers - history
    np.testing.assert_allclose(got, centers, rtol=1e-5, atol=1e-6)


def test_absent_class_keeps_moving_by_momentum(tmp_path):
    x, _, start = example(4, 4, 2, seed=6)
    solver = caffe_nets.solver(tmp_path, text(4, (4,), 2), base_lr=0.5, momentum=0.5, weight_decay=0)
    fill(solver.net, x, np.array([0, 0, 1, 1]), start)
    solver.step(1)
    after_first = solver.net.params["center"][0].data.copy()
    fill(solver.net, x, np.array([0, 0, 0, 0]))
    solver.step(1)
    moved = solver.net.params["center"][0].data
    np.testing.assert_allclose(moved[1] - after_first[1], 0.5 * (after_first[1] - start[1]), rtol=1e-4, atol=1e-6)


def test_steps_add_up_over_iter_size(tmp_path):
    x, labels, start = example(6, 4, 3, seed=7)
    got = solved(tmp_path, (), x, labels, start, steps=1, base_lr=0.3, momentum=0, weight_decay=0, iter_size=2)
    # Caffe divides what has added up over the two passes by iter_size.
    np.testing.assert_allclose(got, start - 0.3 * slow_steps(x, labels, start), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label, said", [(3, "label 3, expected an integer from 0 to 2 (3 classes)"),
                                         (-1, "label -1, expected"), (0.5, "label 0.5, expected")])
def test_wrong_label_is_refused_by_name(tmp_path, capfd, label, said):
    net = caffe_nets.net(tmp_path, text(2, (4,), 3))
    fill(net, np.zeros((2, 4)), np.array([0, label]))
    with pytest.raises(ValueError, match="label"):
        net.forward()
    assert "layer center (CenterLossLayer): " + said in capfd.readouterr().err


@pytest.mark.parametrize("param, said", [
    ('{"name": "center"}', "key 'classes' is missing, expected an integer >= 1"),
    ('{"name": "center", "classes": "7"}', "'classes' is \"7\", expected an integer >= 1"),
    ('{"name": "center", "classes": 7, "lambda": 1}', "unknown key 'lambda', expected one of classes, initial, name"),
    ('{"name": "center", "classes": 7, "initial": [1, 0]}', "'initial' is [1, 0], expected [low, high]"),
    ('{"name": "center", "classes": 7, "normalization": "mean"}', 'expected one of "batch", "none"'),
    ("classes: 7", "param_str is not JSON")])
def test_wrong_param_str_is_named_before_caffe_aborts(tmp_path, param, said):
    definition = re.sub(r'param_str: "(\\.|[^"\\])*"', lambda _: "param_str: " + json.dumps(param), text(2, (4,), 7))
    (tmp_path / "net.prototxt").write_text(definition)
    process = subprocess.run(
        [sys.executable, "-c", "import caffe, sys; caffe.Net(sys.argv[1], caffe.TRAIN)",
         str(tmp_path / "net.prototxt")], stderr=subprocess.PIPE, encoding="utf-8")
    assert process.returncode != 0
    assert "(CenterLossLayer): param_str" in process.stderr
    assert said in process.stderr
