"""Algorithm 1 of [xie2019a]: its arithmetic by hand, its masks, and its rounds against trainings done by pycaffe."""
import dataclasses
import os
import signal
import subprocess
import sys
import time

import caffe
import numpy as np
import pytest

from common import experiment, files
from common.errors import UserError
from data_prep import lmdb_io
from prototxt import build
from prototxt.builders import parts, xie2019a
from tests import small_data
from tools.evaluation import evaluate, forward
from tools.training import caffe_log, caffe_process, chain, pretrained, run, run_state, schedules
from tools.training.caffe_process import Engine
from tools.training.schedules import adaptive_weights
from tools.training.schedules.adaptive_weights import amplify, objectives, sparseness

CHANGES = ["solver.batch_size=8", "solver.snapshot=2", "solver.test_interval=2", "solver.display=1",
           "weighting.restart_iterations=4", "weighting.rounds=3", "losses.gsf.weight=1e-2", "losses.sift.weight=1e-2"]


def load(strategy, *changes):
    return experiment.load("xie2019a/fer2013-toy-" + strategy, CHANGES + list(changes))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("data"), ("gsf", "sift"))


@pytest.fixture(scope="module", params=["alaw", "blaw"])
def adapted(request, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("runs") / request.param
    return run.train(load(request.param), data, str(folder), None, Engine(1), processes=2)


def pair(gsf, sift):
    return {"gsf": gsf, "sift": sift}


@pytest.mark.parametrize("before, objective, after", [
    (pair(1, 1), pair(0.5, 0.4), pair(2.4 / 2.2, 2 / 2.2)),
    (pair(1, 1), pair(0.4, 0.5), pair(2 / 2.2, 2.4 / 2.2)),
    (pair(2.4 / 2.2, 2 / 2.2), pair(0.5, 0.4), pair(2 * 1.44 / 2.44, 2 / 2.44)),
    (pair(1.5, 0.5), pair(0.3, 0.4), pair(2 * 1.5 / 2.1, 2 * 0.6 / 2.1)),
    (pair(1.5, 0.5), pair(0.4, 0.4), pair(1.5, 0.5)),
    (pair(1.5, 0.5), pair(0.4 + 9e-9, 0.4), pair(1.5, 0.5)),  # within eps
    (pair(1, 1), pair(0.4 + 2e-8, 0.4), pair(2.4 / 2.2, 2 / 2.2))])
def test_eq_10_by_hand(before, objective, after):
    changed = amplify(before, objective, gamma=1.2, eps=1e-8)
    assert changed == pytest.approx(after, rel=1e-12)
    assert sum(changed.values()) == pytest.approx(2)


def test_eq_11_by_hand():
    # 3-4-5: |x|_1 / |x|_2 = 7/5, divided by sqrt(2); one component: 1/sqrt(2); all alike: 1; zero: 0.
    assert sparseness(np.array([[3, -4]], np.float32)) == pytest.approx(1.4 / np.sqrt(2))
    assert sparseness(np.array([[0, 7.0]])) == pytest.approx(1 / np.sqrt(2))
    assert sparseness(np.array([[2.0, 2, -2, 2]])) == pytest.approx(1)
    assert sparseness(np.zeros((2, 3))) == 0
    assert sparseness(np.array([[0, 0], [3, 4]])) == pytest.approx(0.7 / np.sqrt(2))
    assert objectives(pair({"accuracy": 0.7, "sparseness": 0.5}, {"accuracy": 0.6, "sparseness": 0.25}), 0.1) == \
        pytest.approx(pair(0.65, 0.575))


def random_weights(net, seed=0):
    random = np.random.RandomState(seed)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.uniform(-0.1, 0.1, blob.data.shape)


@pytest.mark.parametrize("only, columns", [("gsf", slice(0, 384)), ("sift", slice(384, 678))])
def test_mask_leaves_one_block_and_its_weights(tmp_path, only, columns):
    alaw = load("alaw").one_training()
    shapes = parts.Data("unused", 7, {"train": 10, "val": 10}, (1, 48, 48))
    nets = {}
    for name, proto in (("whole", xie2019a.deploy(alaw, shapes)), ("masked", xie2019a.deploy(alaw, shapes, only))):
        (tmp_path / name).write_text(build.text(proto))
        nets[name] = caffe.Net(str(tmp_path / name), caffe.TEST)
        random_weights(nets[name])
        nets[name].blobs["data"].data[...] = np.random.RandomState(3).rand(1, 1, 48, 48)
        nets[name].forward()
    x = nets["whole"].blobs["normalized"].data[0].astype(float)
    weights, bias = (blob.data.astype(float) for blob in nets["whole"].params["fc2"])
    logits = weights[:, columns] @ x[columns] + bias
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(nets["masked"].blobs["prob"].data[0], expected, atol=1e-6)
    assert np.abs(expected - nets["whole"].blobs["prob"].data[0]).max() > 1e-3
    block, prob = xie2019a.readings(alaw)[only]
    np.testing.assert_array_equal(nets["masked"].blobs[block].data[0], x[columns].astype(np.float32))
    assert prob == "prob"


def params(path, *names):
    return {layer.name: [np.array(blob.data, np.float32) for blob in layer.blobs]
            for layer in pretrained.read(path).layer if layer.blobs and (not names or layer.name in names)}


def is_alaw(adapted):
    return adapted.experiment.head["structure"] == "single"


def retrained(adapted, data, folder, number, factors):
    """A round done again with pycaffe's own solver, by the definition of fixed weights."""
    one = adapted.experiment.one_training(**factors)
    one = dataclasses.replace(one, solver=dict(one.solver, max_iter=4, snapshot=0))
    for name, text in build.definitions(one, parts.prepared(data, files.read_json(os.path.join(data, "prepare.json"))),
                                        str(folder), str(folder / "x")).items():
        (folder / name).write_text(text)
    forward.use(Engine(1))
    solver = caffe.SGDSolver(str(folder / "solver.prototxt"))
    if number > 1:
        solver.net.copy_from(adapted.weights_of(4 * (number - 1)))
    solver.step(4)
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in solver.net.params.items()}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_round_is_a_fresh_training_from_the_last_weights(tmp_path, data, adapted, number):
    entry = adaptive_weights.history(adapted)[number - 1]
    assert entry["round"] == number
    found, expected = params(adapted.weights_of(4 * number)), retrained(adapted, data, tmp_path, number,
                                                                        entry["weights"])
    assert set(found) == set(expected)
    for name in found:
        for one, other in zip(found[name], expected[name]):
            np.testing.assert_array_equal(one, other.ravel(), name)


def test_every_image_is_seen_equally_often(adapted):
    """12 batches of 8 are 4 passes over 24 images, though a round of 4 batches is no whole number of passes."""
    for iteration in (4, 8, 12):
        blobs = params(adapted.weights_of(iteration), "train_data", "gsf_loss", "sift_loss")
        assert tuple(blobs["train_data"][0]) == divmod(8 * iteration, 24)
        assert tuple(blobs["gsf_loss"][0]) == tuple(blobs["sift_loss"][0]) == divmod(8 * iteration, 24)


def measured_again(deploy, caffemodel, block, prob, data):
    """Accuracy and sparseness on the validation split, one image at a time."""
    net, images = caffe.Net(deploy, caffe.TEST, weights=caffemodel), lmdb_io.Reader(os.path.join(data, "val", "images"))
    right, norms = 0, []
    for index in range(len(images)):
        image, label = lmdb_io.decode(images[index])
        net.blobs["data"].data[0] = (image.astype(float) - 127.5) / 128
        net.forward()
        right += net.blobs[prob].data[0].argmax() == label
        x = net.blobs[block].data[0].astype(float)
        norms.append(sum(abs(value) for value in x / np.sqrt(sum(x * x))) / np.sqrt(len(x)))
    return right / len(images), np.mean(norms)


def test_objectives_are_of_the_validation_part(data, adapted):
    entry, readings = adaptive_weights.history(adapted)[-1], xie2019a.readings(adapted.experiment)
    for feature, (deploy, caffemodel, _) in schedules.of(adapted.experiment).readings(adapted).items():
        block, prob = readings[feature]
        accuracy, norm = measured_again(deploy, caffemodel, block, prob, data)
        assert entry["accuracy"][feature] == pytest.approx(accuracy)
        assert entry["sparseness"][feature] == pytest.approx(norm, rel=1e-5)
        assert entry["objective"][feature] == pytest.approx(accuracy - 1e-5 * norm, abs=1e-9)


def test_alaws_trials_begin_with_the_rounds_own_weights(tmp_path, data, adapted):
    if not is_alaw(adapted):
        assert not os.path.exists(adapted.path("trials"))
        return
    for feature in ("gsf", "sift"):
        alone = {one: float(one == feature) for one in ("gsf", "sift")}
        (tmp_path / feature).mkdir()
        expected = retrained(adapted, data, tmp_path / feature, 3, alone)
        found = params(adapted.path("trials", feature + ".caffemodel"), "conv1", "fc1", "fc2")
        for name in ("conv1", "fc1", "fc2"):
            np.testing.assert_array_equal(found[name][0], expected[name][0].ravel())


def test_weights_follow_from_the_objectives(adapted):
    current = pair(1.0, 1.0)
    for number, entry in enumerate(adaptive_weights.history(adapted)):
        if is_alaw(adapted):
            current = amplify(current, entry["objective"], gamma=1.2, eps=1e-8)
        assert entry["weights"] == current, number
        if not is_alaw(adapted):
            current = amplify(current, entry["objective"], gamma=1.2, eps=1e-8)


def test_what_stays_of_a_run(adapted):
    assert adapted.snapshots() == [4, 8, 12]
    assert [(span.start, span.end) for span in chain.spans(adapted)] == [(0, 4), (4, 8), (8, 12)]
    left = [os.path.join(folder, name) for folder, _, names in os.walk(adapted.path("rounds")) for name in names]
    assert not [path for path in left if path.endswith((".caffemodel", ".solverstate"))]
    assert all(os.path.exists(span.segment.path("caffe.log")) for span in chain.spans(adapted))
    assert not os.path.exists(adapted.path("solver.prototxt"))
    curve = caffe_log.curves(chain.spans(adapted)[1].segment.path("caffe.log"))
    assert [iteration for iteration, _ in curve["val accuracy"]] == [2, 4]


def test_watching_counts_over_all_rounds(adapted):
    state = run_state.Watch(adapted).state()
    assert (state.finished, state.working, state.iteration, state.total) == (True, False, 12, 12)
    assert state.done == state.work == (36 if is_alaw(adapted) else 12)
    assert state.accuracy[0] == 12 and state.best[1] >= state.accuracy[1]


def test_evaluation_counts_each_loss_alone(data, adapted):
    metrics = evaluate.evaluate(adapted, "test")
    assert set(metrics["alone"]) == {"gsf", "sift"}
    for feature, (deploy, caffemodel, prob) in schedules.of(adapted.experiment).readings(adapted).items():
        net = caffe.Net(deploy, caffe.TEST, weights=caffemodel)
        images, right = lmdb_io.Reader(os.path.join(data, "test", "images")), 0
        for index in range(12):
            image, label = lmdb_io.decode(images[index])
            net.blobs["data"].data[0] = (image.astype(float) - 127.5) / 128
            net.forward()
            right += net.blobs[prob].data[0].argmax() == label
        assert metrics["alone"][feature] == {"correct": right, "total": 12}


def contents(folder):
    """What must be the same: weights, what the weights are from, and the trials."""
    names = ["weighting.json", "snapshots/iter_12.caffemodel", "snapshots/iter_4.caffemodel",
             "trials/gsf.caffemodel", "trials/sift.prototxt"]
    return {name: read(os.path.join(folder, name)) for name in names if os.path.exists(os.path.join(folder, name))}


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def test_one_after_the_other_gives_the_same_bytes(tmp_path, data, adapted):
    if is_alaw(adapted):
        alone = run.train(adapted.experiment, data, str(tmp_path / "alaw"), None, Engine(1), processes=1)
        assert contents(alone.folder) == contents(adapted.folder)


@pytest.mark.parametrize("strategy, moments", [
    ("alaw", ["rounds/01/gsf/snapshots/iter_2.caffemodel", "rounds/02/sift/measured.json",
              "rounds/02/training/caffe.log", "rounds/03/training/snapshots/iter_2.caffemodel"]),
    ("blaw", ["rounds/01/training/caffe.log", "rounds/02/training/measured.json", "weighting.json"])])
def test_killed_and_given_again_it_ends_in_the_same_bytes(tmp_path, data, strategy, moments):
    out = str(tmp_path / strategy)
    command = [sys.executable, "-m", "tools.cli", "train", "xie2019a/fer2013-toy-" + strategy, "--data", data,
               "--out", out, "--threads", "1", "--processes", "2"] + [
                   word for change in CHANGES for word in ("--set", change)]
    for moment in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not os.path.exists(os.path.join(out, moment)):
            assert process.poll() is None, moment
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    undisturbed = run.train(load(strategy), data, str(tmp_path / "undisturbed" / strategy), None, Engine(1), 2)
    expected = contents(undisturbed.folder)
    assert len(expected) == (5 if strategy == "alaw" else 3)
    assert contents(out) == expected


def test_other_settings_begin_anew_where_no_round_is_finished(tmp_path, data):
    out, first = str(tmp_path / "run"), load("alaw", "solver.base_lr=1e12")
    with pytest.raises(UserError, match="rounds/01/.*: the loss is .*; last good snapshot: "):
        run.train(first, data, out, None, Engine(1))
    assert os.path.exists(os.path.join(out, "rounds", "01"))
    trained = run.train(load("alaw"), data, out, None, Engine(1), processes=2)
    assert trained.snapshots() == [4, 8, 12]
    with pytest.raises(UserError, match="belongs to another run"):
        run.train(load("alaw", "weighting.kappa=1e-4"), data, out, None, Engine(1))


def test_a_learning_rate_that_changes_is_refused():
    with pytest.raises(UserError, match="adaptive weights need lr_policy fixed"):
        load("alaw", "solver.lr_policy=step", "solver.gamma=0.1", "solver.stepsize=2")


def with_known_decisions(deploy, features):
    """A net that finds class 0 in all faces by the block of GSF, and class 6 by that of SIFT: FC1's outputs are its
    biases, all 1, and FC2 adds those of a block up for its class, of SIFT's twice."""
    net = caffe.Net(deploy, caffe.TEST)
    for layer, blobs in net.params.items():
        for blob in blobs:
            blob.data[...] = 0
        if layer.startswith("fc1"):
            blobs[1].data[...] = 1
    if len(features) == 1:
        weights = net.params["fc2"][0].data
        assert weights.shape == (7, 384 + 294)
        weights[0, :384], weights[6, 384:] = 1, 2
    else:
        net.params["fc2_gsf"][1].data[0], net.params["fc2_sift"][1].data[6] = 1, 2
    return net


@pytest.mark.parametrize("strategy", ["alaw", "blaw"])
def test_each_loss_is_judged_by_its_own_block_and_branch(tmp_path, monkeypatch, data, strategy):
    """Of the validation split's 12 images, whose labels go round from 0 to 6, two are of class 0 and one is of class 6.

    Both blocks together, and the mean of both branches' probabilities, find class 6, so SIFT's figure for both.
    """
    files.claim(str(tmp_path), "run")
    chosen, note = load(strategy), files.read_json(os.path.join(data, "prepare.json"))
    prepared = parts.prepared(data, note)
    training = schedules.Training(caffe_process.Segment(str(tmp_path)), prepared, note, None, Engine(1))
    this = adaptive_weights.Round(schedules.of(chosen), training, training.read("val"), None, 1)

    def trained(self, name, factors, engine, tested=True):
        segment = self.segment(name)
        files.write_text(segment.path("deploy.prototxt"), build.text(xie2019a.deploy(chosen.one_training(), prepared)))
        os.makedirs(segment.path("snapshots"))
        with_known_decisions(segment.path("deploy.prototxt"), xie2019a.branches(chosen)).save(segment.weights_of(4))
        return segment
    monkeypatch.setattr(adaptive_weights.Round, "train", trained)
    if strategy == "alaw":
        found = this.trials()
    else:
        found = this.measure(trained(this, "training", {}, None), ("gsf", "sift"), Engine(1))
    assert {feature: one["accuracy"] for feature, one in found.items()} == {"gsf": 2 / 12, "sift": 1 / 12}


def test_trials_are_judged_on_the_whole_net_with_one_block(data, adapted):
    """From the unmasked net's x and FC2's weights: GSF's block is the first 8 x 8 x 6 values, SIFT's the next
    7 x 7 x 6."""
    if not is_alaw(adapted):
        return
    columns = {"gsf": slice(0, 384), "sift": slice(384, 678)}
    entry, images = adaptive_weights.history(adapted)[-1], lmdb_io.Reader(os.path.join(data, "val", "images"))
    for feature, block in columns.items():
        net = caffe.Net(adapted.path("deploy.prototxt"), caffe.TEST,
                        weights=adapted.path("trials", feature + ".caffemodel"))
        weights, bias = (blob.data.astype(float) for blob in net.params["fc2"])
        right, norms = 0, []
        for index in range(len(images)):
            image, label = lmdb_io.decode(images[index])
            net.blobs["data"].data[0] = (image.astype(float) - 127.5) / 128
            net.forward()
            x = net.blobs["normalized"].data[0].astype(float)[block]
            right += (weights[:, block] @ x + bias).argmax() == label
            norms.append(np.abs(x).sum() / np.sqrt((x ** 2).sum()) / np.sqrt(len(x)))
        assert entry["accuracy"][feature] == pytest.approx(right / len(images))
        assert entry["sparseness"][feature] == pytest.approx(np.mean(norms), rel=1e-5)
