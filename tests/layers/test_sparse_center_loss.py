"""Sparse center loss: arithmetic in float64, the layer inside real Caffe nets, and centers that the solver leaves."""
import numpy as np
import pytest

from layers.functions import center_loss, sparse_center_loss
from tests import caffe_nets, numeric

SHAPES = [(1, 1, 1), (1, 5, 3), (4, 1, 2), (6, 5, 3), (9, 12, 7)]
FROZEN = ["lr_mult: 0 decay_mult: 0"]


def example(samples, dimensions, classes, seed=0):
    random = np.random.RandomState(seed)
    return (random.randn(samples, dimensions), random.uniform(0.05, 1, (samples, dimensions)),
            random.randint(classes, size=samples), random.randn(classes, dimensions))


def slow_loss(x, attention, labels, centers):
    return sum(0.5 * attention[i, j] * (x[i, j] - centers[labels[i], j]) ** 2
               for i in range(x.shape[0]) for j in range(x.shape[1]))


def slow_steps(x, attention, labels, centers):
    steps = np.zeros_like(centers)
    for k in range(len(centers)):
        members = [i for i in range(len(x)) if labels[i] == k]
        for i in members:
            steps[k] += attention[i] * (centers[k] - x[i]) / (1 + len(members))
    return steps


@pytest.mark.parametrize("shape", SHAPES)
def test_both_gradients_equal_finite_differences(shape):
    x, attention, labels, centers = example(*shape)
    loss, difference = sparse_center_loss.forward(x, attention, labels, centers)
    assert loss == pytest.approx(slow_loss(x, attention, labels, centers))
    of_x, of_attention = sparse_center_loss.gradients(difference, attention)
    np.testing.assert_allclose(of_x, numeric.gradient(
        lambda moved: slow_loss(moved, attention, labels, centers), x), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(of_attention, numeric.gradient(
        lambda moved: slow_loss(x, moved, labels, centers), attention), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_weights_of_1_it_is_the_center_loss(shape):
    x, _, labels, centers = example(*shape)
    ones = np.ones_like(x)
    loss, difference = sparse_center_loss.forward(x, ones, labels, centers)
    plain, gradient = center_loss.forward(x, labels, centers)
    assert loss == plain
    np.testing.assert_array_equal(sparse_center_loss.gradients(difference, ones)[0], gradient)
    np.testing.assert_array_equal(sparse_center_loss.center_steps(difference, ones, labels, len(centers)),
                                  center_loss.center_steps(difference, labels, len(centers)))


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_equal_the_slow_ones(shape):
    x, attention, labels, centers = example(*shape)
    _, difference = sparse_center_loss.forward(x, attention, labels, centers)
    np.testing.assert_allclose(sparse_center_loss.center_steps(difference, attention, labels, len(centers)),
                               slow_steps(x, attention, labels, centers), atol=1e-12)


def test_steps_by_hand():
    # Class 0 has x = 1 and 3 with weights 1/2 and 1, and its center at 0:
    # (1/2 (0 - 1) + 1 (0 - 3)) / (1 + 2) = -7/6. Class 1 has x = 9 of weight 1/4 and its center at 5:
    # 1/4 (5 - 9) / (1 + 1) = -1/2. Class 2 is absent.
    x, attention = np.array([[1.0], [3.0], [9.0]]), np.array([[0.5], [1.0], [0.25]])
    labels, centers = np.array([0, 0, 1]), np.array([[0.0], [5.0], [7.0]])
    loss, difference = sparse_center_loss.forward(x, attention, labels, centers)
    assert loss == 0.5 * (0.5 * 1 + 1 * 9 + 0.25 * 16)
    np.testing.assert_allclose(sparse_center_loss.center_steps(difference, attention, labels, 3),
                               [[-7 / 6], [-1 / 2], [0]])
    of_x, of_attention = sparse_center_loss.gradients(difference, attention)
    np.testing.assert_array_equal(of_x, [[0.5], [3], [1]])
    np.testing.assert_array_equal(of_attention, [[0.5], [4.5], [8]])


def test_a_weight_of_0_takes_a_dimension_out():
    x, attention, labels, centers = example(6, 5, 3)
    attention[:, 2] = 0
    _, difference = sparse_center_loss.forward(x, attention, labels, centers)
    assert (sparse_center_loss.gradients(difference, attention)[0][:, 2] == 0).all()
    assert (sparse_center_loss.center_steps(difference, attention, labels, 3)[:, 2] == 0).all()


def text(samples, shape, classes, loss_weight=1, bottoms=("x", "label", "attention"), params=FROZEN, **param):
    shape = (samples,) + shape
    lines = [caffe_nets.parameter("x", shape), caffe_nets.inputs(label=(samples,))]
    if "attention" in bottoms:
        lines.append(caffe_nets.parameter("attention", shape))
    return "\n".join(lines + [caffe_nets.python_layer(
        "sparse", "sparse_center_loss", "SparseCenterLossLayer", bottoms, loss_weight, params, classes=classes,
        **param)])


def fill(net, x, attention, labels, centers):
    net.params["x"][0].data[...] = x.reshape(net.blobs["x"].data.shape)
    if "attention" in net.params:
        net.params["attention"][0].data[...] = attention.reshape(net.blobs["attention"].data.shape)
    net.blobs["label"].data[...] = labels
    net.params["sparse"][0].data[...] = centers


def single(*arrays):
    """What float32 makes of float64."""
    return [array.astype(np.float32).astype(float) for array in arrays]


@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize("samples, shape, classes", [(1, (4,), 2), (6, (5,), 3), (5, (2, 3, 2), 7)])
def test_in_a_real_net(tmp_path, samples, shape, classes, normalization):
    x, attention, labels, centers = example(samples, int(np.prod(shape)), classes)
    net = caffe_nets.net(tmp_path, text(samples, shape, classes, 0.25, normalization=normalization, alpha=0.5))
    fill(net, x, attention, labels, centers)
    x, attention, centers = single(x, attention, centers)
    divisor = samples if normalization == "batch" else 1
    assert float(net.forward()["sparse"]) == pytest.approx(
        slow_loss(x, attention, labels, centers) / divisor, rel=1e-5)
    net.backward()
    for name, function, at in (("x", lambda moved: slow_loss(moved, attention, labels, centers), x),
                               ("attention", lambda moved: slow_loss(x, moved, labels, centers), attention)):
        np.testing.assert_allclose(net.params[name][0].diff.reshape(x.shape),
                                   0.25 / divisor * numeric.gradient(function, at), rtol=1e-4, atol=1e-5)
    # Neither the loss weight nor the batch size enters the centers' move, and the solver gets nothing to do.
    np.testing.assert_allclose(net.params["sparse"][0].data,
                               centers - 0.5 * slow_steps(x, attention, labels, centers), rtol=1e-4, atol=1e-5)
    assert (net.params["sparse"][0].diff == 0).all()


def test_without_attention_it_is_the_center_loss_in_a_net(tmp_path):
    x, attention, labels, centers = example(6, 5, 3)
    net = caffe_nets.net(tmp_path, text(6, (5,), 3, bottoms=("x", "label")))
    fill(net, x, attention, labels, centers)
    x, centers = single(x, centers)
    loss, difference = center_loss.forward(x, labels, centers)
    assert float(net.forward()["sparse"]) == pytest.approx(loss / 6, rel=1e-5)
    net.backward()
    np.testing.assert_allclose(net.params["x"][0].diff, difference / 6, rtol=1e-5, atol=1e-6)


def test_two_solver_steps_move_the_centers_by_their_own_rule_alone(tmp_path):
    """No momentum, weight decay or learning rate of the solver: each is large here and would show."""
    x, attention, labels, start = example(6, 4, 3, seed=5)
    solver = caffe_nets.solver(tmp_path, text(6, (4,), 3, 0.01, alpha=0.5), base_lr=0.3, momentum=0.9,
                               weight_decay=0.1)
    fill(solver.net, x, attention, labels, start)
    centers = start.copy()
    for _ in range(2):
        seen, weights = (solver.net.params[name][0].data.astype(float) for name in ("x", "attention"))
        solver.step(1)
        centers = centers - 0.5 * slow_steps(seen, weights, labels, centers)
        np.testing.assert_allclose(solver.net.params["sparse"][0].data, centers, rtol=1e-5, atol=1e-6)
    assert (solver.net.params["x"][0].data != x.astype(np.float32)).any()


def test_an_absent_class_stays_where_it_is(tmp_path):
    x, attention, _, start = example(4, 4, 2, seed=6)
    solver = caffe_nets.solver(tmp_path, text(4, (4,), 2), base_lr=0.5, momentum=0.9, weight_decay=0.1)
    fill(solver.net, x, attention, np.array([0, 1, 1, 0]), start)
    solver.step(1)
    after = solver.net.params["sparse"][0].data.copy()
    solver.net.blobs["label"].data[...] = 0
    solver.step(1)
    np.testing.assert_array_equal(solver.net.params["sparse"][0].data[1], after[1])


def test_centers_survive_a_snapshot(tmp_path):
    x, attention, labels, start = example(4, 4, 2, seed=6)
    first, second = (caffe_nets.solver(tmp_path, text(4, (4,), 2), base_lr=0.5) for _ in range(2))
    fill(first.net, x, attention, labels, start)
    first.step(1)
    first.snapshot()
    second.restore(str(tmp_path / "snapshot_iter_1.solverstate"))
    np.testing.assert_array_equal(second.net.params["sparse"][0].data, first.net.params["sparse"][0].data)


def test_centers_start_from_he_initialisation(tmp_path):
    def centers(seed):
        return caffe_nets.net(tmp_path, text(2, (3000,), 8, seed=seed)).params["sparse"][0].data.copy()
    np.testing.assert_array_equal(centers(3), centers(3))
    assert (centers(3) != centers(4)).any()
    assert centers(3).std() == pytest.approx(np.sqrt(2 / 8), rel=0.02) and abs(centers(3).mean()) < 0.01


@pytest.mark.parametrize("label, said", [(3, "label 3, expected an integer from 0 to 2"), (0.5, "label 0.5, expected")])
def test_wrong_label_is_refused_by_name(tmp_path, capfd, label, said):
    net = caffe_nets.net(tmp_path, text(2, (4,), 3))
    fill(net, np.zeros((2, 4)), np.ones((2, 4)), np.array([0, label]), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="label"):
        net.forward()
    assert "layer sparse (SparseCenterLossLayer): " + said in capfd.readouterr().err


def test_weights_of_another_size_are_refused(tmp_path, capfd):
    wrong = text(2, (4,), 3).replace("shape { dim: 2 dim: 4 }", "shape { dim: 2 dim: 5 }", 1)
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, wrong)
    assert "the features are 2x5, the attention weights 2x4" in capfd.readouterr().err
