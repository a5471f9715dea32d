"""Pruning from run to run: what a trained net's weakest connections are, and a stopped training that goes on."""
import os

import numpy as np

from common import experiment, files
from layers.functions import pruning
from tools.training import pretrained, run
from tools.training.caffe_process import Engine

SMALL = ["solver.batch_size=8", "solver.max_iter=6", "solver.snapshot=3", "solver.test_interval=6",
         "losses.sparse_w.weight=1e-3"]


def weights(trained, layer="fc2_7"):
    model = pretrained.read(trained.caffemodel())
    blob = next(one for one in model.layer if one.name == layer).blobs[0]
    return np.array(blob.data, np.float32).reshape(tuple(blob.shape.dim))


def test_a_pruned_run_begins_with_a_trained_one(tmp_path, data):
    dense = run.train(experiment.load("xie2019b/fer2013-toy-w-l2", SMALL), data, str(tmp_path / "dense"), None,
                      Engine(1))
    assert (weights(dense) != 0).all()
    chosen = experiment.load("xie2019b/fer2013-toy-w-l2", SMALL + ["head.prune_w=0.3"])
    pruned = run.train(chosen, data, str(tmp_path / "pruned"), dense.caffemodel(), Engine(1))
    found, mask = weights(pruned), pruning.mask(weights(dense), 0.3)
    assert (mask == 0).sum() == round(0.3 * 7 * 512)
    np.testing.assert_array_equal(found == 0, mask == 0)
    assert (found != weights(dense)).any(axis=1).all()
    # As if it had been killed before its last snapshot.
    whole = files.digest(pruned.caffemodel())
    for kind in ("caffemodel", "solverstate"):
        os.unlink(pruned.path("snapshots", "iter_6." + kind))
    resumed = run.train(chosen, data, str(tmp_path / "pruned"), dense.caffemodel(), Engine(1))
    assert files.digest(resumed.caffemodel()) == whole
