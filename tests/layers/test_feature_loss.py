"""Feature loss: arithmetic in float64, the layer inside real Caffe nets, and its clock."""
import numpy as np
import pytest

from layers.functions import feature_loss
from tests import caffe_nets, numeric

SHAPES = [(1, 1), (1, 4), (5, 1), (4, 6), (3, 20)]


def example(samples, dimensions, seed=0):
    random = np.random.RandomState(seed)
    h = random.rand(samples, dimensions)
    return random.randn(samples, dimensions), h / np.sqrt((h ** 2).sum(axis=1, keepdims=True))


def slow_loss(z, h, p, norms=None):
    total = 0.0
    for i in range(z.shape[0]):
        norm = np.sqrt(sum(value ** 2 for value in z[i])) if norms is None else norms[i]
        total += sum(abs(z[i, d] - norm * h[i, d]) ** p for d in range(z.shape[1])) / p
    return total


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_equals_the_slow_one(shape, p):
    z, h = example(*shape)
    assert feature_loss.forward(z, h, p)[0] == pytest.approx(slow_loss(z, h, p))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_equals_finite_differences(shape, p, exact):
    z, h = example(*shape)
    if exact and shape[1] == 1:
        z = np.abs(z)
    # Eq. (7) holds the norm constant, so the differences must, too.
    norms = None if exact else np.linalg.norm(z, axis=1)
    gradient = feature_loss.gradient(z, h, feature_loss.forward(z, h, p)[1], p, exact)
    expected = numeric.gradient(lambda moved: slow_loss(moved, h, p, norms), z)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def test_by_hand():
    # |z| = 5, so the residual is (3, 4) - 5 (0, 1) = (3, -1).
    z, h = np.array([[3.0, 4.0]]), np.array([[0.0, 1.0]])
    loss, residual = feature_loss.forward(z, h, 2)
    assert loss == 5.0
    assert feature_loss.forward(z, h, 1)[0] == 4.0
    np.testing.assert_allclose(feature_loss.gradient(z, h, residual, 2, exact=False), [[3, -1]])
    np.testing.assert_allclose(feature_loss.gradient(z, h, residual, 1, exact=False), [[1, -1]])
    # The norm's derivative: (outer . h) z / |z| = -1 (0.6, 0.8) is taken away.
    np.testing.assert_allclose(feature_loss.gradient(z, h, residual, 2, exact=True), [[3.6, -0.2]])


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("exact", [False, True])
def test_zero_vector_gives_zero(p, exact):
    z, h = example(3, 4)
    z[1] = 0
    loss, residual = feature_loss.forward(z, h, p)
    gradient = feature_loss.gradient(z, h, residual, p, exact)
    assert np.isfinite(loss) and np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], 0)
    assert gradient[0].any() and gradient[2].any()


@pytest.mark.parametrize("epoch, seen, batch, epoch_size, then", [
    (0, 0, 64, 100, (0, 64)), (0, 64, 64, 100, (1, 28)), (2, 36, 64, 100, (3, 0)), (0, 0, 64, 10, (6, 4))])
def test_clock_counts_passes(epoch, seen, batch, epoch_size, then):
    assert feature_loss.advance(epoch, seen, batch, epoch_size) == then


STATE = ["lr_mult: 0 decay_mult: 0"]


def text(shape, learnable=True, loss_weight=1, h_shape=None, **param):
    z = caffe_nets.parameter("z", shape) if learnable else caffe_nets.inputs(z=shape)
    return "\n".join([z, caffe_nets.inputs(h=h_shape or (shape[0], int(np.prod(shape[1:])))),
                      caffe_nets.python_layer("gabor", "feature_loss", "FeatureLossLayer", ["z", "h"], loss_weight,
                                              STATE, **dict({"epoch_size": 1000}, **param))])


def fill(net, z, h):
    caffe_nets.blob(net, "z").data[...] = z.reshape(net.blobs["z"].data.shape)
    net.blobs["h"].data[...] = h


@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize("gradient", ["paper", "exact"])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("shape", [(1, 3), (4, 6), (3, 2, 3, 3)])
def test_in_a_real_net(tmp_path, shape, p, gradient, normalization):
    net = caffe_nets.net(tmp_path, text(shape, loss_weight=0.5, p=p, gradient=gradient, normalization=normalization))
    z, h = example(shape[0], int(np.prod(shape[1:])))
    fill(net, z, h)
    divisor = shape[0] if normalization == "batch" else 1
    assert float(net.forward()["gabor"]) == pytest.approx(slow_loss(z, h, p) / divisor, rel=1e-5)
    net.backward()
    norms = np.linalg.norm(z, axis=1) if gradient == "paper" else None
    expected = numeric.gradient(lambda moved: 0.5 / divisor * slow_loss(moved, h, p, norms), z)
    np.testing.assert_allclose(net.params["z"][0].diff.reshape(z.shape), expected, rtol=1e-3, atol=1e-5)


def test_weight_decays_after_each_pass_and_not_each_iteration(tmp_path):
    # Five records, batches of two: passes end within the third and with the fifth batch.
    net = caffe_nets.net(tmp_path, text((2, 4), epoch_size=5, rho=0.5))
    z, h = example(2, 4)
    fill(net, z, h)
    plain = slow_loss(z, h, 2) / 2
    losses, gradients, clocks = [], [], []
    for _ in range(6):
        losses.append(float(net.forward()["gabor"]) / plain)
        net.clear_param_diffs()
        net.backward()
        gradients.append(np.abs(net.params["z"][0].diff).sum())
        clocks.append(tuple(net.params["gabor"][0].data))
    np.testing.assert_allclose(losses, [1, 1, 1, 0.5, 0.5, 0.25], rtol=1e-5)
    np.testing.assert_allclose(np.array(gradients) / gradients[0], [1, 1, 1, 0.5, 0.5, 0.25], rtol=1e-5)
    assert clocks == [(0, 2), (0, 4), (1, 1), (1, 3), (2, 0), (2, 2)]


def test_forward_alone_does_not_move_the_clock(tmp_path):
    net = caffe_nets.net(tmp_path, text((2, 4), epoch_size=2))
    fill(net, *example(2, 4))
    for _ in range(3):
        net.forward()
    assert tuple(net.params["gabor"][0].data) == (0, 0)


def solver_at(folder, shape):
    solver = caffe_nets.solver(folder, text(shape, epoch_size=5, rho=0.9), base_lr=0.1, momentum=0.9,
                               weight_decay=0.1)
    fill(solver.net, *example(*shape))
    return solver


def test_clock_survives_snapshot_and_resume(tmp_path):
    shape = (2, 4)
    through = solver_at(tmp_path, shape)
    through.step(7)
    stopped = solver_at(tmp_path, shape)
    stopped.step(4)
    stopped.snapshot()
    resumed = solver_at(tmp_path, shape)
    resumed.restore(str(tmp_path / "snapshot_iter_4.solverstate"))
    assert tuple(resumed.net.params["gabor"][0].data) == (1, 3)
    resumed.step(3)
    np.testing.assert_array_equal(resumed.net.params["gabor"][0].data, through.net.params["gabor"][0].data)
    np.testing.assert_array_equal(resumed.net.params["z"][0].data, through.net.params["z"][0].data)


def test_momentum_and_weight_decay_leave_the_clock_alone(tmp_path):
    solver = solver_at(tmp_path, (2, 4))
    solver.step(50)
    assert tuple(solver.net.params["gabor"][0].data) == (20, 0)


def test_features_of_another_size_are_refused(tmp_path, capfd):
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, text((2, 4), h_shape=(2, 5)))
    assert "layer gabor (FeatureLossLayer): the deep features are 2x4, the handcrafted features 2x5" in \
        capfd.readouterr().err
