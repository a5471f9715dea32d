"""Self-paced learning: which samples, how long, and paces that go on after a kill in the same bytes."""
import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import caffe
import numpy as np
import pytest

from common import experiment, files
from common.errors import UserError
from data_prep import lmdb_io
from prototxt import build, nets
from prototxt.builders import parts
from tests.tools import small_pairs
from tools.evaluation import evaluate, forward, predictions
from tools.training import chain, run, run_state
from tools.training.caffe_process import Engine
from tools.training.schedules import SelfPaced, self_paced

SMALL = ["pacing.epochs=6", "solver.batch_size=6", "solver.test_interval=50", "solver.snapshot=2", "solver.display=1"]
SHORT = SMALL + ["pacing.paces=2", "pacing.more=50", "pacing.epochs=2"]
NAME = "wu2023/synthetic-spndl"


@pytest.mark.parametrize("counts", [(7, 1, 10, 13), (5, 5), (1,), (981, 3, 8)])
@pytest.mark.parametrize("percentage", [50, 60, 70, 80, 90, 100])
def test_each_class_gives_its_share_and_its_easiest(counts, percentage):
    random = np.random.RandomState(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    random.shuffle(labels)
    losses = random.rand(len(labels)) + labels  # one class harder than another
    selected = self_paced.select(losses, labels, percentage)
    for label, count in enumerate(counts):
        inside, outside = losses[(labels == label) & selected], losses[(labels == label) & ~selected]
        assert len(inside) == math.ceil(Fraction(percentage, 100) * count)
        assert not outside.size or inside.max() < outside.min()


def test_ties_go_to_the_first():
    labels = np.array([0, 1, 0, 1, 0, 0, 1])
    selected = self_paced.select(np.array([1.0, 2, 1, 2, 1, 0, 2]), labels, 50)
    np.testing.assert_array_equal(np.flatnonzero(selected), [0, 1, 3, 5])


def test_all_infinite_losses_are_still_a_selection_and_nan_is_refused():
    assert self_paced.select(np.full(5, np.inf), np.zeros(5, int), 50).tolist() == [True] * 3 + [False] * 2
    with pytest.raises(ValueError, match="sample 1 has a loss that is NaN"):
        self_paced.select(np.array([0, np.nan]), np.zeros(2, int), 50)


def test_paces_are_the_papers():
    assert self_paced.percentages(50, 10, 6) == [50, 60, 70, 80, 90, 100]
    assert self_paced.percentages(50, 30, 4) == [50, 80, 100, 100]


def test_epochs_are_shared_out_with_the_remainder_in_the_last_pace():
    """250 = 5 x 41 + 45 epochs ([wu2023] 4.2), each of the pace's own samples: 10 and 5 of a class."""
    chosen = experiment.load("wu2023/ckplus-spndl", ["solver.batch_size=1"])
    sizes = [5 + 3, 6 + 3, 7 + 4, 8 + 4, 9 + 5, 10 + 5]
    lengths = np.diff([0] + SelfPaced(chosen).ends((10, 5)))
    assert lengths.tolist() == [41 * size for size in sizes[:-1]] + [45 * sizes[-1]]
    raf = experiment.load("wu2023/raf_db-spndl-without-neutral", ["solver.batch_size=1"])
    assert np.diff([0] + SelfPaced(raf).ends((10, 5))).tolist() == [25 * size for size in sizes]


def test_loss_is_the_cross_entropy_without_overflow():
    random = np.random.RandomState(1)
    scores, labels = random.randn(6, 4).astype(np.float32), random.randint(4, size=6)
    expected = [-math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
                for row, label in zip(scores.astype(float), labels)]
    np.testing.assert_allclose(self_paced.cross_entropy(scores, labels), expected, rtol=1e-12)
    far = self_paced.cross_entropy(np.float32([[5000, 0]]), np.array([1]))
    np.testing.assert_array_equal(far, [5000])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_pairs.prepared(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    return run.train(experiment.load(NAME, SMALL), data, str(tmp_path_factory.mktemp("runs") / "run"), None, Engine(1))


def test_a_run_has_six_paces_each_from_the_last_ones_weights(trained, data):
    class_counts = parts.prepared(data, files.read_json(os.path.join(data, "prepare.json"))).class_counts
    ends = SelfPaced(trained.experiment).ends(class_counts)
    assert trained.snapshots() == ends and len(ends) == 6 and trained.info["iterations"] == ends[-1]
    assert [span.end for span in chain.spans(trained)] == ends
    previous = 0
    for number, end in enumerate(ends, start=1):
        selection = self_paced.selection(trained, number)
        for label, count in enumerate(class_counts):
            chosen = selection["selected"][selection["labels"] == label]
            assert (len(chosen), chosen.sum()) == (count, -(-count * (40 + 10 * number) // 100))
        with open(self_paced.pace(trained, number).path("train_val.prototxt")) as stream:
            assert '"records": {}'.format(np.flatnonzero(selection["selected"]).tolist()) in stream.read()
        if previous:
            note = files.read_json(os.path.join(data, "prepare.json"))
            part = forward.read(data, note, "train")
            scores = forward.of_split(trained.experiment, part, trained.path("deploy.prototxt"),
                                      trained.weights_of(previous), ["fc"])["fc"]
            np.testing.assert_array_equal(selection["losses"],
                                          self_paced.cross_entropy(scores, np.array(part.labels)))
        previous = end
    assert not any(name.endswith("initial.caffemodel") for _, _, names in os.walk(trained.folder) for name in names)


def test_watching_counts_over_all_paces(trained):
    state = run_state.Watch(trained).state()
    assert state.finished and state.iteration == state.total == state.done == trained.info["iterations"]
    # Its paces are shorter than what lies between two tests.
    assert state.accuracy is None and state.loss is not None


def test_the_first_pace_ranks_by_the_initial_network(tmp_path, trained, data):
    """Random weights from the seed, BatchNorm with mean 0 and variance 1."""
    caffe.set_random_seed(trained.experiment.solver["random_seed"])
    net = caffe.Net(trained.path("deploy.prototxt"), caffe.TEST)
    for name, blobs in net.params.items():
        if name.startswith("bn"):
            for blob, value in zip(blobs, (0, 1, 1)):
                blob.data[...] = value
    readers = [lmdb_io.Reader(os.path.join(data, "train", name)) for name in ("images", "references")]
    selection = self_paced.selection(trained, 1)
    for record in range(3):
        for blob, reader in zip(("data", "reference"), readers):
            net.blobs[blob].data[0] = (lmdb_io.decode(reader[record])[0].astype(float) - 127.5) / 128
        net.forward()
        scores = net.blobs["fc"].data.astype(float)[0]
        expected = -math.log(math.exp(scores[selection["labels"][record]]) / np.exp(scores).sum())
        assert selection["losses"][record] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_each_pace_has_draws_of_its_own_and_a_fresh_solver(trained):
    for number in (1, 6):
        with open(self_paced.pace(trained, number).path("train_val.prototxt")) as stream:
            assert f'"seed": [1, {number}]' in stream.read()
        with open(self_paced.pace(trained, number).path("solver.prototxt")) as stream:
            assert 'type: "Adam"' in stream.read()


def test_it_is_evaluated_with_its_references(trained, data):
    metrics = evaluate.evaluate(trained, "test")
    assert metrics["unit"] == "image" and metrics["total"] == 12
    assert len(predictions.read(trained.path("decisions-test.csv"))) == 12


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


@pytest.fixture(scope="module")
def short(tmp_path_factory, data):
    out = str(tmp_path_factory.mktemp("runs") / "short")
    return run.train(experiment.load(NAME, SHORT), data, out, None, Engine(1))


@pytest.mark.parametrize("pace, what", [(1, "selection.json"), (1, "Iteration 1 ("), (2, "Iteration 2 (")])
def test_killed_and_given_again_it_ends_in_the_same_bytes(tmp_path, data, short, pace, what):
    """Before a pace trains, and within the training of one: the second has left a snapshot by then."""
    out = str(tmp_path / "run")
    command = [sys.executable, "-m", "tools.cli", "train", NAME, "--data", data, "--out", out, "--threads", "1"] + [
        word for change in SHORT for word in ("--set", change)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def reached():
        folder = os.path.join(out, "paces", f"{pace:02d}")
        log = os.path.join(folder, "caffe.log")
        return os.path.exists(os.path.join(folder, what)) or os.path.exists(log) and what in read(log).decode()
    while not reached():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not run.Run(out).snapshots() == short.snapshots()
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    for number in (1, 2):
        assert read(self_paced.pace(run.Run(out), number).path("selection.json")) == read(
            self_paced.pace(short, number).path("selection.json"))
    assert [read(run.Run(out).caffemodel(end)) for end in short.snapshots()] == [
        read(short.caffemodel(end)) for end in short.snapshots()]


def test_self_paced_experiments_have_the_nets_of_those_without():
    for name in experiment.names():
        chosen = experiment.load(name)
        if chosen.pacing:
            plain = {"spl": "baseline", "spndl": "ndf"}.get(name.rpartition("-")[2])
            if plain:
                other = experiment.load(name.rpartition("-")[0] + "-" + plain)
                paced = nets.train_val(chosen, build.expected(chosen))
                paced.name = other.name
                assert paced == nets.train_val(other, build.expected(other))


def test_data_without_references_are_refused_before_anything_is_written(tmp_path):
    alone = small_pairs.prepared(tmp_path)
    for split in ("train", "val", "test"):
        files.remove(os.path.join(alone, split, "references"))
    with pytest.raises(UserError, match="has no references, which wu2023/synthetic-ndf needs"):
        run.train(experiment.load("wu2023/synthetic-ndf"), alone, str(tmp_path / "run"), None, Engine(1))
    assert not os.path.exists(str(tmp_path / "run"))


def test_a_run_without_weights_says_how_it_starts(tmp_path, data, capsys):
    chosen = dataclasses.replace(
        experiment.load("wu2023/synthetic-baseline", ["solver.max_iter=1", "solver.batch_size=4"]),
        pretrained="ImageNet")
    run.train(chosen, data, str(tmp_path / "run"), None, Engine(1))
    said = "no --weights: the net starts from random weights; the paper's was pretrained (ImageNet), see"
    assert said in capsys.readouterr().out


def test_a_pace_is_a_training_of_its_own(tmp_path, short, data):
    """The second pace, done again from the first one's weights by a solver that is written here: Adam without history,
    and the first image of its samples next."""
    first, last = short.snapshots()
    pace = self_paced.pace(short, 2)
    (tmp_path / "solver.prototxt").write_text(
        'net: "{}" type: "Adam" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 momentum2: 0.999 weight_decay: 0 '
        'max_iter: 100 solver_mode: CPU random_seed: 1 snapshot_prefix: "{}"'.format(
            pace.path("train_val.prototxt"), tmp_path / "x"))
    forward.use(Engine(1))
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    before = caffe.Net(short.path("deploy.prototxt"), caffe.TEST, weights=short.weights_of(first))
    for name, blobs in before.params.items():
        for own, given in zip(solver.net.params[name], blobs):
            own.data[...] = given.data
    solver.step(1)
    # From fresh moments the first step of Adam is as long as the learning rate, whatever the gradient.
    moved = np.abs(solver.net.params["conv1"][0].data - before.params["conv1"][0].data)
    assert np.median(moved) == pytest.approx(0.001, rel=0.02)
    solver.step(last - first - 1)
    after = caffe.Net(short.path("deploy.prototxt"), caffe.TEST, weights=short.weights_of(last))
    for name, blobs in after.params.items():
        for own, given in zip(solver.net.params[name], blobs):
            np.testing.assert_array_equal(own.data, given.data, name)
    # A batch of 6 in each step.
    records = self_paced.selection(short, 2)["selected"].sum()
    model = caffe.proto.caffe_pb2.NetParameter()
    model.ParseFromString(read(short.weights_of(last)))
    position = next(list(layer.blobs[0].data) for layer in model.layer if layer.name == "train_data")
    assert tuple(position) == divmod(6 * (last - first), records)
