"""The engine's solver against Caffe's: weights, log lines, tests, requests."""
import os
import re
import subprocess

import numpy as np
import pytest

from common.errors import UserError
from engine import messages, snapshot, solver, solver_param
from tools.training import caffe_log

from . import training

# With a small delta or a large rate, AdaGrad and RMSProp swing around a gradient of 0, and rounding grows each time.
TYPES = {"SGD": "momentum: 0.9 base_lr: 0.1", "Nesterov": "momentum: 0.9 base_lr: 0.1",
         "AdaGrad": "base_lr: 0.03 delta: 1e-3",
         "RMSProp": "rms_decay: 0.9 base_lr: 0.01 delta: 1e-3", "AdaDelta": "momentum: 0.95 delta: 1e-6 base_lr: 1",
         "Adam": "momentum: 0.9 momentum2: 0.99 base_lr: 0.02"}
POLICIES = ['"fixed"', '"step" stepsize: 6 gamma: 0.5', '"exp" gamma: 0.95', '"inv" gamma: 0.1 power: 0.75',
            '"multistep" stepvalue: 5 stepvalue: 9 gamma: 0.3', '"poly" power: 2 max_iter: 30',
            '"sigmoid" stepsize: 5 gamma: 0.3']
MORE = ["", "weight_decay: 0.05", 'weight_decay: 0.05 regularization_type: "L1"', "iter_size: 3",
        "clip_gradients: 0.4", "iter_size: 2 clip_gradients: 0.4 weight_decay: 0.05"]
SGD = "base_lr: 0.1 momentum: 0.9 max_iter: {}"


@pytest.mark.parametrize("kind, more, policy", [
    *[(kind, more, POLICIES[0]) for kind in TYPES for more in MORE],
    *[(kind, MORE[-1], policy) for kind in TYPES for policy in POLICIES[1:]]])
def test_weights_after_20_iterations_are_those_of_caffe(tmp_path, kind, more, policy):
    path = training.write(tmp_path, f'type: "{kind}" lr_policy: {policy} {TYPES[kind]} {more}')
    caffes = training.in_caffe(path)
    ours = training.in_engine(path, caffes)
    before = training.weights(caffes)
    caffes.step(20)
    ours.step(20)
    assert training.difference(before, training.weights(caffes)) > 0.01
    assert training.difference(training.weights(ours), training.weights(caffes)) <= 1e-5


@pytest.mark.parametrize("number, kind", enumerate(["SGD", "NESTEROV", "ADAGRAD", "RMSPROP", "ADADELTA", "ADAM"]))
def test_the_old_field_of_the_type(tmp_path, number, kind):
    settings = f'{list(TYPES.values())[number]} lr_policy: "fixed"'
    new = training.write(tmp_path, f'{settings} type: "{list(TYPES)[number]}"', name="new")
    old = training.write(tmp_path, f"{settings} solver_type: {kind}")
    caffes = training.in_caffe(new)
    ours = training.in_engine(old, caffes)
    caffes.step(3)
    ours.step(3)
    assert training.difference(training.weights(ours), training.weights(caffes)) <= 1e-5


def log_of_caffe(path, *options):
    """(place, text) of the loop's lines that the program `caffe` prints."""
    done = subprocess.run(["caffe", "train", "-solver", path, *options], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8", check=True,
                          env=dict(os.environ, GLOG_minloglevel="0", GLOG_logtostderr="1"))
    lines = re.findall(r"^I\d{4} \S+ +\d+ ((?:sgd_)?solver\.cpp:\d+)\] (.*)$", done.stdout, re.MULTILINE)
    return lines, done.stdout


def log_of_engine(path, resume=""):
    log, param = training.Log(), solver_param.read(path)
    if resume:  # as the program `caffe`, which then reads no weights
        param.ClearField("weights")
    ours = solver.Solver(param, log)
    if resume:
        ours.restore(resume)
    ours.solve()
    return [(place, text.splitlines()[0]) for place, text in zip(log.places, log.lines)]


def comparable(line):
    """The place, the text with its numbers cut out, and the numbers; without what depends on the time."""
    place, text = line
    text = re.sub(r"\(\S+ iter/s, \S+s/", "(", text)
    number = r"(?<=[ =(])-?\d+(?:\.\d+)?(?:e[+-]\d+)?(?=[ ,)]|$)"
    return (place, re.sub(number, "N", text)), [float(found) for found in re.findall(number, text)]


FULL = ("test_iter: 2 test_iter: 3 test_interval: 4 test_compute_loss: true base_lr: 0.1 display: 2 "
        'lr_policy: "multistep" stepvalue: 2 stepvalue: 5 gamma: 0.5 average_loss: 3 clip_gradients: 0.5 '
        "momentum: 0.9 snapshot: 4 weight_decay: 0.001 iter_size: 2 max_iter: ")


@pytest.mark.parametrize("settings, resume", [
    (FULL + "12", "_iter_8.solverstate"),
    (FULL + "12 test_initialization: false snapshot_format: HDF5", "_iter_8.solverstate.h5"),
    (FULL + '11 type: "Adam"', "_iter_8.solverstate"),
    (SGD.format(12) + " display: 5 snapshot: 6 snapshot_after_train: true", "_iter_6.solverstate"),
    (SGD.format(12) + " display: 5 snapshot: 5 snapshot_after_train: true", "_iter_12.solverstate")])
def test_the_log_is_that_of_caffe_line_by_line(tmp_path, settings, resume):
    net = training.NET + """layer { name: "softmax" type: "Softmax" bottom: "third" top: "a_softmax"
                                    include { phase: TRAIN } }"""
    start = f"{tmp_path}/start.caffemodel"
    training.in_caffe(training.write(tmp_path, settings, net)).net.save(start)
    path = training.write(tmp_path, f'{settings} weights: "{start}"', net)
    for state in ("", f"{tmp_path}/solver{resume}"):
        theirs, text = log_of_caffe(path, *(["-snapshot", state] if state else []))
        ours = log_of_engine(path, state)
        assert len(theirs) > 6
        for one, other in zip(theirs, ours):
            (shape, numbers), (our_shape, our_numbers) = comparable(one), comparable(other)
            assert our_shape == shape
            np.testing.assert_allclose(our_numbers, numbers, rtol=2e-5, atol=1e-6, err_msg=str((one, other)))
        assert len(ours) == len(theirs)
        (tmp_path / "caffe.log").write_text(text)
        (tmp_path / "engine.log").write_text("".join(f"I0101 00:00:00.000000     1 {place}] {line}\n"
                                                     for place, line in ours))
        curves = [caffe_log.curves(f"{tmp_path}/{name}.log") for name in ("caffe", "engine")]
        assert curves[0].keys() == curves[1].keys() and ("loss" in curves[0] or state)
        for key, points in curves[0].items():
            np.testing.assert_allclose(curves[1][key], points, rtol=2e-5, atol=1e-6)


def test_the_speed_in_a_line_counts_the_iterations_since_the_line_before(tmp_path, monkeypatch):
    clock = iter(range(0, 100, 4))
    monkeypatch.setattr(solver.time, "monotonic", lambda: next(clock))
    log = training.Log()
    path = training.write(tmp_path, SGD.format(12) + " display: 3")
    ours = training.in_engine(path, log=log)
    ours.step(7)
    ours.snapshot()
    ours = training.in_engine(path, log=log)
    ours.restore(f"{tmp_path}/solver_iter_7.solverstate")
    ours.step(4)
    assert [line.split(", loss")[0] for line in log.lines if "iter/s" in line] == [
        "Iteration 0 (0 iter/s, 4s/3 iters)", "Iteration 3 (0.75 iter/s, 4s/3 iters)",
        "Iteration 6 (0.75 iter/s, 4s/3 iters)", "Iteration 9 (0.5 iter/s, 4s/3 iters)"]


def test_the_mean_of_losses_begins_anew_with_each_call(tmp_path):
    """As in Caffe, so also in a resumed training."""
    log = training.Log()
    path = training.write(tmp_path, SGD.format(12) + " display: 1 average_loss: 3")
    ours = training.in_engine(path, training.in_caffe(path), log=log)
    ours.step(2)
    ours.step(1)
    shown = [float(re.search(r"loss = (\S+)", line).group(1)) for line in log.lines if "loss = " in line]
    means, weighted = shown[::2], [2 * loss for loss in shown[1::2]]
    assert means == pytest.approx([weighted[0], (weighted[0] + weighted[1]) / 2, weighted[2]], rel=1e-5)


def test_a_test_leaves_the_parameters_as_they_are(tmp_path):
    """Also those that are an output themselves; and it keeps nothing for gradients, nor does the last training pass."""
    net = training.NET + """force_backward: true
        layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 } } }"""
    path = training.write(tmp_path, SGD.format(1) + " test_iter: 3 test_interval: 1 display: 1", net)
    log = training.Log()
    ours = training.in_engine(path, training.in_caffe(path), log)
    ours.net.layer("p").blobs[0].data.fill_(2)
    before = training.weights(ours)
    ours.test()
    assert training.difference(training.weights(ours), before) == 0
    assert [line for line in log.lines if ": p = " in line] == [
        "    Test net output #2: p = 2", "    Test net output #3: p = 2"]
    ours.solve()
    assert not ours.net.loss.requires_grad and not ours.test_nets[0].loss.requires_grad


def test_a_request_to_stop_ends_the_training_after_the_iteration(tmp_path):
    log = training.Log()
    ours = training.in_engine(training.write(tmp_path, SGD.format(1000) + " snapshot_after_train: true"), log=log)
    ours.step(3)
    ours.request(solver.STOP)
    ours.solve()
    assert ours.iteration == 4
    assert log.lines[-3:] == [f"Snapshotting to binary proto file {tmp_path}/solver_iter_4.caffemodel",
                              f"Snapshotting solver state to binary proto file {tmp_path}/solver_iter_4.solverstate",
                              "Optimization stopped early."]
    ours.param.max_iter = 6
    ours.solve()
    assert ours.iteration == 6 and log.lines[-1] == "Optimization Done."


def test_a_request_for_a_snapshot(tmp_path):
    ours = training.in_engine(training.write(tmp_path, SGD.format(3)))
    ours.request(solver.SNAPSHOT)
    ours.step(3)
    assert sorted(name for name in os.listdir(tmp_path) if "_iter_" in name) == [
        "solver_iter_1.caffemodel", "solver_iter_1.solverstate"]


def test_requests_within_a_test(tmp_path):
    log = training.Log()
    ours = training.in_engine(training.write(tmp_path, SGD.format(12) + " test_iter: 3 test_interval: 2"), log=log)
    ours.step(1)
    ours.request(solver.SNAPSHOT)
    ours.request(solver.STOP)
    ours.iteration = 2
    ours.step(5)
    assert ours.iteration == 2
    assert log.lines[-4:] == ["Iteration 2, Testing net (#0)",
                              f"Snapshotting to binary proto file {tmp_path}/solver_iter_2.caffemodel",
                              f"Snapshotting solver state to binary proto file {tmp_path}/solver_iter_2.solverstate",
                              "Test interrupted."]


@pytest.mark.parametrize("rate", ["1e38", "nan"])
def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, rate):
    net = """layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 2 } } }
             layer { name: "v" type: "Parameter" top: "v" parameter_param { shape { dim: 2 } } }
             layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "v" top: "loss" }"""
    ours = training.in_engine(training.write(tmp_path, f"base_lr: {rate} snapshot: 1", net))
    ours.net.layer("w").blobs[0].data.fill_(1)
    with pytest.raises(UserError, match="^iteration 1: the loss is (nan|inf); the training stops, and nothing was "
                                        "written from this iteration on"):
        ours.step(5)
    assert ours.iteration == 1
    assert not [name for name in os.listdir(tmp_path) if "_iter_2" in name]


def test_nets_of_all_kinds_and_their_states(tmp_path):
    """The order and the states of the nets are Caffe's: solver.cpp, InitTrainNet and InitTestNets."""
    layer = ('layer {{ name: "{0}" type: "Parameter" top: "{0}" parameter_param {{ shape {{ dim: 1 }} }} '
             'include {{ {1} }} }}')
    text = " ".join([layer.format("train", "phase: TRAIN"), layer.format("test", "phase: TEST"),
                     layer.format("high", "min_level: 2"), layer.format("staged", 'stage: "s"')])
    (tmp_path / "file.prototxt").write_text(text)
    path = tmp_path / "solver.prototxt"
    path.write_text(f"""
        random_seed: 1 lr_policy: "fixed" test_interval: 1 test_iter: 1 test_iter: 1 test_iter: 1
        net: "{tmp_path}/file.prototxt" train_state {{ stage: "s" }} test_net: "{tmp_path}/file.prototxt"
        test_net_param {{ state {{ level: 1 stage: "s" }} {text} }}
        test_state {{ level: 3 }} test_state {{ level: 2 }} test_state {{ stage: "s" }}""")
    log = training.Log()
    ours = training.in_engine(str(path), log=log)
    assert [[one.name for one in net.layers] for net in (ours.net, *ours.test_nets)] == [
        ["train", "staged"], ["test", "high", "staged"], ["test", "high"], ["test", "staged"]]
    assert log.lines[1:5] == [
        f"Creating training net from net file: {tmp_path}/file.prototxt",
        "Creating test net (#0) specified by test_net_param",
        f"Creating test net (#1) specified by test_net file: {tmp_path}/file.prototxt",
        f"Creating test net (#2) specified by net file: {tmp_path}/file.prototxt"]
    assert len({net.context.seed for net in (ours.net, *ours.test_nets)}) == 4  # what they draw differs
    assert ours.test_nets[2].layer("staged").blobs[0] is ours.net.layer("staged").blobs[0]


def test_the_prefix_of_snapshots_comes_from_the_solver_or_the_folder(tmp_path):
    path = tmp_path / "my.solver.prototxt"
    path.write_text("")
    assert solver_param.read(str(path)).snapshot_prefix == f"{tmp_path}/my.solver"
    path.write_text(f'snapshot_prefix: "{tmp_path}"')
    assert solver_param.read(str(path)).snapshot_prefix == f"{tmp_path}/my.solver"


def test_start_weights_are_made_with_the_seed(tmp_path):
    path = training.write(tmp_path, SGD.format(3) + f' random_seed: -1 weights: "{tmp_path}/second.caffemodel"')
    source = training.in_engine(training.write(tmp_path, SGD.format(3), name="source")).net
    proto = messages.NetParameter()
    proto.layer.add(name="second").blobs.add(data=[7] * 16).shape.dim.extend([4, 4])
    (tmp_path / "second.caffemodel").write_bytes(proto.SerializeToString())
    snapshot.write_weights(source, f"{tmp_path}/start.caffemodel")
    asked = []

    def start(param):
        asked.append(param.random_seed)
        return messages.read_binary(f"{tmp_path}/start.caffemodel", "NetParameter")
    ours = solver.Solver(solver_param.read(path), training.Log(), start=start)
    assert asked == [ours.net.context.seed] and asked[0] >= 0
    assert (ours.net.layer("first").blobs[0] == source.layer("first").blobs[0]).all()
    assert (ours.net.layer("second").blobs[0] == 7).all()
    own = solver.Solver(solver_param.read(path), training.Log(), start=lambda param: None)
    assert (own.net.layer("first").blobs[0] != source.layer("first").blobs[0]).any()


def test_without_a_seed_each_training_is_another(tmp_path):
    path = training.write(tmp_path, SGD.format(3) + " random_seed: -1")
    log = training.Log()
    first, second = (training.in_engine(path, log=log).net for _ in range(2))
    assert (first.layer("first").blobs[0] != second.layer("first").blobs[0]).any()
    assert log.lines[1] == f"random_seed is not set; that of this training is {first.context.seed}"


@pytest.mark.parametrize("settings, message", [
    ('type: "Adagrad"', "there is no type of solver 'Adagrad'; did you mean AdaGrad?"),
    ('type: "AdaGrad" momentum: 0.9', "momentum 0.9, but AdaGrad has none, expected 0"),
    ('type: "RMSProp" momentum: 0.9', "momentum 0.9, but RMSProp has none"),
    ('type: "RMSProp" rms_decay: 1', "rms_decay 1, expected at least 0 and less than 1"),
    ('type: "Adam" solver_type: ADAM', "found both solver_type and type"),
    ('regularization_type: "L3"', "regularization_type: there is no regularization 'L3'"),
    ("snapshot_diff: true", "snapshot_diff is not supported by the engine"),
    ("average_loss: 0", "average_loss 0, expected 1 or more"),
    ("iter_size: 0", "iter_size 0, expected 1 or more"),
    ("test_iter: 0 test_interval: 1", "test_iter 0, expected 1 or more"),
    ("test_iter: 1", "test_interval is 0, expected 1 or more"),
    ("test_iter: 1 test_interval: 1 test_state { } test_state { }", "2 test_state, expected one for each of the 1"),
    ('train_net: "NET" test_net: "NET" test_net: "NET" test_iter: 1 test_interval: 1',
     "1 test_iter, expected one for each of the 2"),
    ('train_net: "NET" net: "NET"', "found train_net and net, expected one of train_net_param, train_net, net_param"),
    ('lr_policy: "plateau"', "there is no learning rate policy 'plateau'"),
    ('snapshot: 1 snapshot_prefix: "FOLDER/no/such"', "FOLDER/no is not a folder that can be written to"),
    ("plateau_winsize: 3", 'no field named "plateau_winsize"'),
    ('weights: "FOLDER/none.caffemodel"', "FOLDER/none.caffemodel: cannot be read: No such file")])
def test_refused(tmp_path, settings, message):
    settings = settings.replace("NET", f"{tmp_path}/solver_net.prototxt").replace("FOLDER", str(tmp_path))
    with pytest.raises(UserError) as error:
        training.in_engine(training.write(tmp_path, settings))
    assert message.replace("FOLDER", str(tmp_path)) in str(error.value) and "\n" not in str(error.value)


def test_a_solver_without_a_net_is_refused(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text('lr_policy: "fixed"')
    with pytest.raises(UserError, match="found no net to train, expected one of train_net_param"):
        training.in_engine(str(path))


def test_no_snapshot_in_hdf5_of_a_layer_with_a_slash(tmp_path):
    path = training.write(tmp_path, SGD.format(12) + " snapshot: 1 snapshot_format: HDF5",
                          training.NET.replace('name: "first"', 'name: "a/first"'))
    with pytest.raises(UserError, match="layer a/first: has a / in its name"):
        training.in_engine(path)
