"""Trainings of 100 iterations by `caffe train` and by the engine, from the same definitions: loss beside loss."""
import os
import subprocess
import sys

import numpy as np
import pytest

from bench import engine as bench_engine
from common.experiment import ROOT
from tests import small_data
from tests.tools import small_pairs
from tools.training import caffe_log, caffe_process

ITERATIONS = 100
# Name -> experiment, data, its settings, and the tolerance of the losses, as a part of the largest loss. The nets are
# small, so that rounding stays small over the iterations. That of the tuplets does not: Caffe's own losses change by
# 0.02 to 0.06 if its start weights change by 1e-7 of themselves (normal deviates, three seeds).
CASES = {"center and GABOR": ("xie2019a/fer2013-toy-center-gabor", "faces", 8, (), 1e-4),
         "pruned weights": ("xie2019b/fer2013-toy-v-l2-cp", "faces", 8, (), 1e-4),
         "tuplets": ("liu2017/synthetic-2b-nm", "subjects", 2, ("head.fc1=32", "head.fc2=16", "head.fc4=16",
                                                                "tuplets.positives=3", "tuplets.negatives=3"), 0.2),
         "attention": ("farzaneh2021/synthetic-dacl", "pairs", 8, (), 0.02),
         "disentangled": ("wu2023/synthetic-ndf", "pairs", 8, (), 0.02)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("faces", "subjects", "pairs"):
        (folder / name).mkdir()
    return {"faces": small_data.prepared(folder / "faces"), "subjects": small_data.with_subjects(folder / "subjects"),
            "pairs": small_pairs.prepared(folder / "pairs")}


def losses(command, solver, log):
    """The loss of each iteration."""
    with open(log, "w") as stream:
        subprocess.run([*command, "train", "-solver", solver], stderr=stream, check=True, cwd=ROOT,
                       env=caffe_process.environment(1))
    return np.array([value for _, value in caffe_log.curves(str(log))["loss"]])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_losses_over_100_iterations(tmp_path, data, case):
    name, source, batch, changes, tolerance = CASES[case]
    solver = bench_engine.write(name, batch, ITERATIONS, data[source], str(tmp_path / "net"), changes)
    theirs = losses(["caffe"], solver, tmp_path / "caffe.log")
    ours = losses([sys.executable, "-m", "engine"], solver, tmp_path / "engine.log")
    difference = np.abs(ours - theirs) / np.abs(theirs).max()
    if "FER_CURVES" in os.environ:
        np.save(os.path.join(os.environ["FER_CURVES"], case), [theirs, ours])
    print(case, "first 10:", difference[:10].max(), "all:", difference.max())
    assert len(theirs) == len(ours) == ITERATIONS + 1  # the last one is shown after the training
    assert difference[:3].max() <= 1e-4
    assert difference[:20].max() <= 0.02 and difference.max() <= tolerance
