"""Each schedule on the engine on PyTorch, beside real Caffe: its weights and decisions, stopped and undisturbed."""
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from common import experiment, files, machine
from common.experiment import ROOT
from common.machine import Device
from layers.functions import pruning
from tests import small_data
from tests.tools import small_pairs
from tests.tools.conftest import SMALL
from tests.tools.training import test_pretraining, test_pruned_run
from tests.tools.training.schedules import test_adaptive_weights as of_weights
from tests.tools.training.schedules import test_plateau as of_plateau
from tests.tools.training.schedules import test_self_paced as of_paces
from tools.evaluation import evaluate, predictions
from tools.training import caffe_process, pretrained, pretraining, run
from tools.training.caffe_process import Engine
from tools.training.schedules import adaptive_weights, plateau, self_paced

CAFFE, TORCH = Engine(1), Engine(1, Device("torch"))
DROPOUT = [change for change in SMALL if "gabor" not in change]


@pytest.fixture(scope="module")
def two_features(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("data"), ("gsf", "sift"))


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def blobs(path):
    return {(layer.name, number): np.array(blob.data) for layer in pretrained.read(path).layer
            for number, blob in enumerate(layer.blobs)}


def assert_same_weights(found, expected, tolerance=2e-5):
    """tolerance: of the largest value of a blob. The two add up in another order, so each number of a pass differs by
    some 1e-7; seen after these few steps is 2e-6, and 7e-6 after two stages."""
    found, expected = blobs(found.caffemodel()), blobs(expected.caffemodel())
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        if len(values):
            assert abs(found[key] - values).max() <= tolerance * abs(values).max(), key


def decisions(one, device):
    """The predictions of the validation split, by the engine that trained the run."""
    machine.use(device)
    try:
        assert evaluate.evaluate(one, "val")["engine"] == device.engine
    finally:
        machine.use(machine.DEFAULT)
    return [(found.unit, found.predicted) for found in predictions.read(evaluate.decisions_path(one, "val"))]


def assert_same_decisions(found, expected):
    ours = decisions(found, TORCH.device)
    assert ours == decisions(expected, CAFFE.device) and len(ours) > 6


def both(tmp_path, train):
    """The runs of train(engine, folder) on the engine and on Caffe. Both have the same snapshots, and say what trained
    them; PyTorch is not loaded into this process."""
    found, expected = (train(engine, str(tmp_path / engine.device.engine)) for engine in (TORCH, CAFFE))
    assert found.snapshots() == expected.snapshots() and found.is_finished
    assert (found.info["engine"], expected.info["engine"]) == ("torch", "caffe")
    assert found.info["versions"]["torch"][0].isdigit() and "torch" not in expected.info["versions"]
    assert "torch" not in sys.modules
    return found, expected


def test_one_training(tmp_path, data, small, trained):
    found = run.train(small, data, str(tmp_path / "a run"), None, TORCH)
    assert found.snapshots() == [4, 8, 12]
    assert_same_weights(found, trained)
    assert read(found.caffemodel()) != read(trained.caffemodel())  # it is another program
    assert_same_decisions(found, trained)


@pytest.mark.parametrize("strategy", ["alaw", pytest.param("blaw", marks=pytest.mark.slow)])
def test_adaptive_weights(tmp_path, two_features, strategy):
    found, expected = both(tmp_path, lambda engine, folder: run.train(
        of_weights.load(strategy), two_features, folder, None, engine, processes=2))
    assert_same_weights(found, expected)
    assert_same_decisions(found, expected)
    ours, theirs = map(adaptive_weights.history, (found, expected))
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs):
        assert one["weights"] == pytest.approx(other["weights"], rel=1e-12)  # the same one was amplified
        assert one["accuracy"] == other["accuracy"]
        assert one["sparseness"] == pytest.approx(other["sparseness"], abs=1e-6)


def test_self_paced(tmp_path):
    """Adam divides each gradient by its own size, so where a gradient is no more than rounding, such as that of a shift
    before a BatchNorm, the step is as long as any other, and may go anywhere: no weight is farther than five steps of
    0.001 there and back, and on the mean they are near."""
    data = small_pairs.prepared(tmp_path)
    found, expected = both(tmp_path, lambda engine, folder: run.train(
        experiment.load(of_paces.NAME, of_paces.SHORT), data, folder, None, engine))
    apart = np.concatenate([abs(values - blobs(expected.caffemodel())[key])
                            for key, values in blobs(found.caffemodel()).items()])
    assert apart.max() < 2 * 5 * 0.001 and apart.mean() < 0.05 * 0.001
    assert_same_decisions(found, expected)
    for number in (1, 2):
        ours, theirs = (self_paced.selection(one, number) for one in (found, expected))
        np.testing.assert_array_equal(ours["selected"], theirs["selected"])
        np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_plateau_of_the_learning_rate(tmp_path):
    data = small_data.with_subjects(tmp_path, (24, 14, 14))
    found, expected = both(tmp_path, lambda engine, folder: run.train(
        of_plateau.quick(), data, folder, None, engine))
    assert_same_weights(found, expected)
    assert_same_decisions(found, expected)
    ours, theirs = map(plateau.history, (found, expected))
    assert [(one.rate, one.accuracy) for one in ours] == [(one.rate, one.accuracy) for one in theirs]
    assert {one.rate for one in ours} > {1}
    assert [one.loss for one in ours] == pytest.approx([one.loss for one in theirs], rel=1e-4)


def test_stages_and_tuplets(tmp_path, monkeypatch):
    """The last two stages have adaptive clusters."""
    load, data = experiment.load, small_data.with_subjects(tmp_path)
    monkeypatch.setattr(experiment, "load", lambda name, changes=(): test_pretraining.quick(
        load(name, test_pretraining.SMALL)))
    for name in ("fer2013-liu2017", "multi_pie-liu2017", "sfew-liu2017"):
        os.symlink(data, str(tmp_path / name))
    last = experiment.load("liu2017/sfew-2b-nm")
    assert "clusters" in last.losses

    def train(engine, folder):
        weights = pretraining.train(last, str(tmp_path), folder + "-stages", engine)
        return run.train(last, str(tmp_path / "sfew-liu2017"), folder, weights, engine)
    found, expected = both(tmp_path, train)
    assert_same_weights(found, expected)
    assert_same_decisions(found, expected)
    assert found.info["weights_from"]["iteration"] == expected.info["weights_from"]["iteration"]


def test_pruned_weights(tmp_path, data, capfd):
    chosen, dense = (experiment.load("xie2019b/fer2013-toy-w-l2", test_pruned_run.SMALL + more)
                     for more in (["head.prune_w=0.3"], []))
    weights = run.train(dense, data, str(tmp_path / "dense"), None, CAFFE).caffemodel()
    found, expected = both(tmp_path, lambda engine, folder: run.train(chosen, data, folder, weights, engine))
    assert_same_weights(found, expected)
    mask = pruning.mask(test_pruned_run.weights(run.Run(str(tmp_path / "dense"))), 0.3)
    np.testing.assert_array_equal(test_pruned_run.weights(found) == 0, mask == 0)


def command_line(name, data, out, changes, *more):
    return [sys.executable, "-m", "tools.cli", "train", name, "--data", data, "--out", out, "--threads", "1",
            "--engine", "torch", *more] + [word for change in changes for word in ("--set", change)]


def stopped(words, log, reached, number):
    """Runs a command, and sends it a signal as soon as its log has a text. Returns what it said."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not (os.path.exists(log) and reached.encode() in read(log)):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate(timeout=60)[1]


def test_with_dropout_it_is_stopped_and_killed_and_ends_in_the_same_bytes(tmp_path, data):
    """On Caffe, a net with dropout has no snapshot when it is stopped, and goes on with other random numbers."""
    name, out = "xie2019b/fer2013-toy-dropout", str(tmp_path / "run")
    words, log = command_line(name, data, out, DROPOUT), os.path.join(out, caffe_process.LOG)
    said = stopped(words, log, "Iteration 1 (", signal.SIGINT)
    assert "stops after this iteration, with a snapshot" in said
    [first] = run.Run(out).snapshots()
    assert f"stopped, the last snapshot is of iteration {first} of 12\n" in said and first not in (4, 8, 12)
    stopped(words, log, "Iteration 9 (", signal.SIGKILL)
    assert run.Run(out).snapshots() == [4, 8]  # one that only a stop has left goes when the next is there
    assert subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0
    undisturbed = run.train(experiment.load(name, DROPOUT), data, str(tmp_path / "whole"), None, TORCH)
    for iteration in (4, 8, 12):
        assert read(run.Run(out).weights_of(iteration)) == read(undisturbed.weights_of(iteration))
    other = run.train(experiment.load(name, DROPOUT + ["solver.random_seed=2"]), data, str(tmp_path / "other"),
                      None, TORCH)
    for key, values in blobs(undisturbed.caffemodel()).items():
        assert np.isfinite(values).all() and (not len(values) or key[0] == "train_data" or
                                              (values != blobs(other.caffemodel())[key]).any()), key


@pytest.mark.slow
def test_killed_and_given_again_adaptive_weights_end_in_the_same_bytes(tmp_path, two_features):
    out, whole = str(tmp_path / "alaw"), str(tmp_path / "whole" / "alaw")
    words = command_line("xie2019a/fer2013-toy-alaw", two_features, out, of_weights.CHANGES, "--processes", "2")
    for moment, text in (("rounds/01/gsf/caffe.log", "Iteration 2 ("), ("rounds/02/sift/caffe.log", "Iteration 3 ("),
                         ("rounds/03/training/caffe.log", "Iteration 1 (")):
        stopped(words, os.path.join(out, moment), text, signal.SIGKILL)
    assert subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0
    run.train(of_weights.load("alaw"), two_features, whole, None, TORCH)
    contents = of_weights.contents(whole)
    assert len(contents) == 5 and of_weights.contents(out) == contents


def test_trials_have_a_card_each(tmp_path, monkeypatch):
    """Of several cards; where there are more losses than cards, they take turns."""
    files.claim(str(tmp_path), run.KIND)
    monkeypatch.setattr(adaptive_weights.nets, "deploy", lambda *_, **__: None)
    monkeypatch.setattr(adaptive_weights.build, "text", lambda _: "")
    seen = []

    class Trials(adaptive_weights.Round):
        def __init__(self, engine, processes):
            self.schedule = types.SimpleNamespace(losses=("gsf", "sift", "third"))
            self.training = types.SimpleNamespace(engine=engine, processes=processes, data=None)
            self.experiment = None

        def train(self, name, factors, engine, tested=True):
            seen.append((name, factors))
            return caffe_process.Segment(str(tmp_path))

        def measure(self, segment, losses, engine):
            return {losses[0]: (engine, os.getpid())}
    for gpu, expected in (("0,1", ["0", "1", "0"]), ("3", ["3"] * 3), (None, [None] * 3)):
        for processes in (1, 2):
            found = Trials(Engine(4, Device("torch", gpu, "bf16")), processes).trials()
            assert [found[loss][0] for loss in ("gsf", "sift", "third")] == [
                Engine(2, Device("torch", card, "bf16")) for card in expected]
            # Side by side, the first and the third are of one process, and so of one card.
            assert len({pid for _, pid in found.values()}) == processes and found["gsf"][1] == found["third"][1]
    assert seen[:3] == [("gsf", factors(1, 0, 0)), ("sift", factors(0, 1, 0)), ("third", factors(0, 0, 1))]


def factors(gsf, sift, third):
    return {"gsf": gsf, "sift": sift, "third": third}


@pytest.mark.parametrize("device, program, flags", (
    (Device(), ["caffe"], []), (Device(gpu="2"), ["caffe"], ["-gpu", "2"]),
    (Device("torch"), [sys.executable, "-m", "engine"], []),
    (Device("torch", "0,1", "bf16"), [sys.executable, "-m", "engine"], ["-gpu", "0,1", "-precision", "bf16"])))
def test_the_command_of_a_training(tmp_path, data, small, monkeypatch, device, program, flags):
    """No card is needed for it."""
    seen = []

    def started(command, **options):
        seen.append((command, options["env"]["OMP_NUM_THREADS"]))
        raise KeyboardInterrupt
    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(KeyboardInterrupt):
        run.train(small, data, str(tmp_path / "run"), None, Engine(3, device))
    [(command, threads)] = seen
    solver = str(tmp_path / "run" / "solver.prototxt")
    assert command == [*program, "train", "-solver", solver, "-sigint_effect", "stop", *flags]
    assert threads == "3"
