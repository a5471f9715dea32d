"""Connection pruning: the mask, the layer in real Caffe nets, and what the solver makes of it."""
import subprocess
import sys

import caffe
import numpy as np
import pytest

from layers.functions import pruning
from tests import caffe_nets, numeric


@pytest.mark.parametrize("shape, share, cut", [((7, 512), 0.3, 1075), ((10, 10), 0.3, 30), ((3, 5), 0.5, 8),
                                               ((2, 2), 0, 0), ((2, 2), 1, 4), ((1, 1), 0.3, 0)])
def test_the_weakest_are_cut(shape, share, cut):
    weights = np.random.RandomState(0).randn(*shape).astype(np.float32)
    mask = pruning.mask(weights, share)
    assert mask.shape == shape and mask.dtype == np.float32 and set(np.unique(mask)) <= {0, 1}
    assert (mask == 0).sum() == cut
    if 0 < cut < weights.size:
        assert np.abs(weights[mask == 0]).max() < np.abs(weights[mask == 1]).min()


def test_mask_by_hand():
    np.testing.assert_array_equal(pruning.mask(np.array([[3., -1, 0.5], [-0.2, 4, -5]]), 0.5), [[1, 0, 0], [0, 1, 1]])
    # Of equal ones the first.
    np.testing.assert_array_equal(pruning.mask(np.array([1., -1, 1, 1]), 0.5), [0, 0, 1, 1])


def text(samples, shape, outputs, share, name="V", pruned=True):
    """An InnerProduct with its pruning before it, and |y|^2 / 2 as the loss."""
    pruning_layer = caffe_nets.python_layer(
        "pruning", "pruning", "PruningLayer", ["x"], 0, ['name: "V"', "lr_mult: 0 decay_mult: 0"], ["x"],
        outputs=outputs, share=share, seed=4)
    return "\n".join([
        caffe_nets.parameter("x", (samples,) + shape), pruning_layer if pruned else "",
        f'layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc" param {{ name: "{name}" }} '
        f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}',
        'layer { name: "loss" type: "Reduction" bottom: "fc" top: "loss" loss_weight: 1 '
        'reduction_param { operation: SUMSQ coeff: 0.5 } }'])


def test_in_a_real_net(tmp_path):
    net = caffe_nets.net(tmp_path, text(5, (2, 3, 2), 4, 0.3))
    random = np.random.RandomState(1)
    x, weights = random.randn(5, 2, 3, 2), random.randn(4, 12).astype(np.float32)
    net.params["x"][0].data[...] = x
    # Weights that come by the InnerProduct's name, as from a caffemodel.
    net.params["fc"][0].data[...] = weights
    mask = pruning.mask(weights, 0.3)
    assert (mask == 0).sum() == 14
    for _ in range(2):
        net.clear_param_diffs()
        net.forward()
        y = x.reshape(5, 12) @ (weights * mask).T
        np.testing.assert_allclose(net.blobs["fc"].data, y, rtol=1e-4, atol=1e-5)
        net.backward()
        np.testing.assert_array_equal(net.params["fc"][0].data, weights * mask)
        np.testing.assert_array_equal(net.params["pruning"][1].data, mask)
        np.testing.assert_allclose(net.params["fc"][0].diff, (y.T @ x.reshape(5, 12)) * mask, rtol=1e-4, atol=1e-5)
        assert (net.params["fc"][0].diff[mask == 0] == 0).all()
        np.testing.assert_allclose(net.params["fc"][0].diff, numeric.gradient(
            lambda moved: 0.5 * ((x.reshape(5, 12) @ (moved * mask).T) ** 2).sum(), weights.astype(float)),
            rtol=1e-4, atol=1e-4)
        # What it passes on is not changed, nor is the gradient.
        np.testing.assert_allclose(net.params["x"][0].diff.reshape(5, 12), y @ (weights * mask), rtol=1e-4, atol=1e-5)


def test_weights_start_from_the_xavier_filler(tmp_path):
    weights = caffe_nets.net(tmp_path, text(2, (300,), 40, 0.3)).params["fc"][0].data
    assert 0.0999 < np.abs(weights).max() <= 0.1 and abs(weights.mean()) < 0.002
    other = caffe_nets.net(tmp_path, text(2, (300,), 40, 0.3).replace('seed\\": 4', 'seed\\": 5'))
    assert (other.params["fc"][0].data != weights).all()


SOLVER = dict(base_lr=0.02, momentum=0.9, weight_decay=0.01)


def test_cut_connections_stay_at_exactly_zero(tmp_path):
    solver = caffe_nets.solver(tmp_path, text(6, (20,), 10, 0.3), **SOLVER)
    solver.net.params["x"][0].data[...] = np.random.RandomState(2).randn(6, 20)
    start = solver.net.params["fc"][0].data.copy()
    solver.step(25)
    weights = solver.net.params["fc"][0].data
    assert (weights == 0).sum() == 60 == round(0.3 * weights.size)
    np.testing.assert_array_equal(weights == 0, pruning.mask(start, 0.3) == 0)
    assert (weights[weights != 0] != start[weights != 0]).all()


def test_resumed_training_keeps_the_mask(tmp_path):
    definition = text(6, (20,), 10, 0.3)

    def new():
        solver = caffe_nets.solver(tmp_path, definition, **SOLVER)
        solver.net.params["x"][0].data[...] = np.random.RandomState(2).randn(6, 20)
        return solver
    whole = new()
    whole.step(12)
    half = new()
    half.step(6)
    half.snapshot()
    resumed = new()
    resumed.restore(str(tmp_path / "snapshot_iter_6.solverstate"))
    # A weight at 0 by chance is not a cut one.
    kept = np.argwhere(resumed.net.params["pruning"][1].data)[0]
    resumed.step(6)
    np.testing.assert_array_equal(resumed.net.params["fc"][0].data, whole.net.params["fc"][0].data)
    assert resumed.net.params["fc"][0].data[tuple(kept)] != 0


def test_weights_of_a_model_are_what_is_pruned(tmp_path):
    (tmp_path / "dense").mkdir()
    dense = caffe_nets.net(tmp_path / "dense", text(3, (20,), 10, 0, pruned=False))
    dense.save(str(tmp_path / "dense.caffemodel"))
    net = caffe_nets.net(tmp_path, text(3, (20,), 10, 0.3))
    net.copy_from(str(tmp_path / "dense.caffemodel"))
    net.forward()
    weights = dense.params["fc"][0].data
    np.testing.assert_array_equal(net.params["fc"][0].data, weights * pruning.mask(weights, 0.3))


def test_other_outputs_than_the_inner_products_are_refused(tmp_path):
    (tmp_path / "net.prototxt").write_text(text(2, (4,), 3, 0.3).replace("num_output: 3", "num_output: 5"))
    process = subprocess.run(
        [sys.executable, "-c", "import caffe, sys; caffe.Net(sys.argv[1], caffe.TRAIN)",
         str(tmp_path / "net.prototxt")], stderr=subprocess.PIPE, encoding="utf-8")
    assert process.returncode != 0
    assert "Owner layer param shape is 3 4 (12); sharing layer expects shape 5 4 (20)" in process.stderr


def test_zero_share_changes_nothing(tmp_path):
    net = caffe_nets.net(tmp_path, text(2, (4,), 3, 0), caffe.TRAIN)
    before = net.params["fc"][0].data.copy()
    net.forward()
    np.testing.assert_array_equal(net.params["fc"][0].data, before)
