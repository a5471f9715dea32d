"""The engine's commands beside those of `caffe`, as processes: the same lines in the log, the same files."""
import os
import re
import shutil
import signal

import caffe
import numpy as np
import pytest
import torch

from common.errors import UserError
from engine import commands, flags, messages
from engine.net import Net
from tools.training import caffe_log

from . import programs

both = pytest.mark.parametrize("program", programs.PROGRAMS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder and the log of a training, by program."""
    made = {}
    for program in programs.PROGRAMS:
        folder = tmp_path_factory.mktemp(program)
        programs.write(folder)
        status, out, log = programs.run(program, folder, "train", "--solver=solver.prototxt")
        assert (status, out) == (0, ""), log
        made[program] = folder, log
    return made


def weights(path):
    net = caffe.proto.caffe_pb2.NetParameter()
    net.ParseFromString(path.read_bytes())
    return {(layer.name, number): np.array(blob.data) for layer in net.layer for number, blob in enumerate(layer.blobs)}


def assert_same_weights(ours, theirs, tolerance=1e-5):
    found, expected = weights(ours), weights(theirs)
    assert set(found) == set(expected) and len(found) == 4
    for key, values in expected.items():
        assert np.abs(found[key] - values).max() <= tolerance * np.abs(values).max(), key


def test_a_training_prints_and_writes_what_caffe_does(trained):
    (ours, our_log), (theirs, their_log) = trained["engine"], trained["caffe"]
    programs.assert_alike(programs.lines(our_log, "Starting Optimization"),
                          programs.lines(their_log, "Starting Optimization"))
    assert programs.lines(our_log, place="caffe.cpp") == programs.lines(their_log, place="caffe.cpp")
    assert sorted(os.listdir(str(ours))) == sorted(os.listdir(str(theirs)))
    for number in 6, 10:
        assert_same_weights(ours / f"snap_iter_{number}.caffemodel", theirs / f"snap_iter_{number}.caffemodel")


def test_the_log_says_who_made_the_start_weights(trained):
    assert "engine] The start weights are made by Caffe, with the random seed 3\n" in trained["engine"][1]


def test_the_parser_of_caffes_log_reads_both(trained, tmp_path):
    curves = {}
    for program, (_, log) in trained.items():
        (tmp_path / program).write_text(log)
        curves[program] = caffe_log.curves(str(tmp_path / program))
    assert set(curves["engine"]) == {"loss", "train loss", "val loss", "val accuracy"} == set(curves["caffe"])
    for name, expected in curves["caffe"].items():
        np.testing.assert_allclose(curves["engine"][name], expected, rtol=2e-4)
        assert len(expected) > 2


@pytest.mark.parametrize("flag, file", [
    ("-snapshot", "snap_iter_6.solverstate"), ("-weights", "snap_iter_6.caffemodel")])
def test_goes_on_from_caffes_files(trained, tmp_path, flag, file):
    """All data are one batch, because Caffe's files do not say where in the data a training was."""
    made = {}
    for program in programs.PROGRAMS:
        folder = tmp_path / program
        folder.mkdir()
        programs.write(folder, net=programs.NET.replace("batch_size: 8", "batch_size: 40"))
        for name in "snap_iter_6.solverstate", "snap_iter_6.caffemodel":
            shutil.copy(str(trained["caffe"][0] / name), str(folder))
        status, _, log = programs.run(program, folder, "train", flag, file, "-solver", "solver.prototxt")
        assert status == 0, log
        made[program] = folder, log
    programs.assert_alike(programs.lines(made["engine"][1], "Starting Optimization"),
                          programs.lines(made["caffe"][1], "Starting Optimization"))
    assert_same_weights(made["engine"][0] / "snap_iter_10.caffemodel", made["caffe"][0] / "snap_iter_10.caffemodel")
    assert ("start weights" in made["engine"][1]) == (flag == "-weights")


def test_level_and_stages(tmp_path):
    """Those of the command line: the stages are added to the solver's, the level replaces it."""
    more = """
layer { name: "%s" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "%s" include { phase: TRAIN %s } }"""
    rules = dict(a='min_level: 2 stage: "x" stage: "y"', b="min_level: 3", c='stage: "own"', d='not_stage: "y"')
    net = programs.NET + "".join(more % (name, name, rule) for name, rule in rules.items())
    solver = programs.SOLVER + 'train_state { level: 9 stage: "own" }'
    logs = []
    for program in programs.PROGRAMS:
        folder = tmp_path / program
        folder.mkdir()
        programs.write(folder, net, solver)
        status, _, log = programs.run(program, folder, "train", "-solver=solver.prototxt", "-level=2", "-stage=x,y")
        assert status == 0, log
        logs.append(programs.lines(log, "Starting Optimization", "s"))  # both solver.cpp and sgd_solver.cpp
    programs.assert_alike(*logs)
    assert {text.split()[4] for _, text, _ in logs[0] if text.startswith("    Train net output")} == {"a", "c", "loss"}


def test_weights_of_the_command_line_go_before_those_of_the_solver(trained, tmp_path):
    folder, _ = trained["caffe"]
    programs.write(tmp_path, solver=programs.SOLVER.replace("max_iter: 10", "max_iter: 0").replace("snapshot: 6", "") +
                   f'weights: "{folder}/snap_iter_6.caffemodel"')
    for more, last in (([], 6), (["-weights", str(folder / "snap_iter_10.caffemodel")], 10)):
        assert programs.run("engine", tmp_path, "train", "-solver", "solver.prototxt", *more)[0] == 0
        assert_same_weights(tmp_path / "snap_iter_0.caffemodel", folder / f"snap_iter_{last}.caffemodel", 0)
        text = (tmp_path / "solver.prototxt").read_text()
        (tmp_path / "solver.prototxt").write_text(text.replace("snap_iter_6.caffemodel", "no such file"))


def test_measures_what_caffe_does(trained):
    folder, _ = trained["caffe"]
    words = ["-model", "net.prototxt", "-weights=snap_iter_10.caffemodel", "test", "--iterations", "3", "-stage=prob"]
    status, out, log = programs.run("engine", folder, *words)
    assert (status, out) == (0, "")
    expected = programs.lines(programs.run("caffe", folder, *words)[2], place="caffe.cpp")
    programs.assert_alike(programs.lines(log, place="caffe.cpp"), expected)
    assert len(expected) == 2 + 3 * (1 + 1 + 32) + 1 + 1 + 1 + 32


@pytest.mark.parametrize("phase", [[], ["-phase", "TEST"]])
def test_prints_times_as_caffe_does(trained, phase):
    folder, _ = trained["caffe"]
    ours, theirs = ([line[:2] for line in programs.lines(programs.run(
        program, folder, "time", "-model", "net.prototxt", "-iterations", "2", *phase)[2], place="caffe.cpp")
        if "split" not in line[1]] for program in ("engine", "caffe"))
    assert ours == theirs and len(ours) > 20


BRANCHES = """
name: "branches"
layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 3 dim: 4 }
        data_filler { type: "constant" value: 0.7 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "a" top: "a" }
layer { name: "c" type: "InnerProduct" bottom: "a" top: "c"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" bottom: "c" top: "sum" }
layer { name: "first" type: "Reduction" bottom: "sum" top: "first" loss_weight: 0.3
        reduction_param { operation: SUMSQ } }
layer { name: "second" type: "Reduction" bottom: "c" top: "second" loss_weight: 2
        reduction_param { operation: SUMSQ } }
layer { name: "third" type: "Power" bottom: "first" top: "third" loss_weight: 0.5 power_param { power: 2 } }
"""


def test_what_is_timed_is_the_whole_backward_pass():
    from google.protobuf import text_format
    definition = text_format.Parse(BRANCHES, messages.NetParameter())
    gradients = []
    for timed in False, True:
        net = Net(definition, messages.TRAIN, seed=1)
        if timed:
            times = [[0.0] * len(net.layers) for _ in range(2)]
            commands._timed_pass(net, *times)
            assert min(times[0]) > 0 and min(times[1][1:]) > 0 and times[1][0] == 0
        else:
            net.forward()
            net.backward()
        gradients.append([one.blob.grad for one in net.parameters])
    assert len(gradients[0]) == 6
    for found, expected in zip(*gradients):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7) and expected.abs().max() > 0


@pytest.fixture
def two_cards(monkeypatch):
    """None is there in truth."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "12.8")


def test_the_number_of_the_card(tmp_path, two_cards):
    commands.require_card("1", "x")
    with pytest.raises(UserError, match=r"^x: PyTorch \S+ sees 2 graphics cards of NVIDIA$"):
        commands.require_card("2", "x")
    programs.write(tmp_path, solver=programs.ENDLESS.replace("CPU", "GPU device_id: 5"))
    with pytest.raises(UserError, match="solver_mode is GPU, .*: PyTorch .* sees 2 graphics cards"):
        commands.train(flags.parse(["train", "-solver", str(tmp_path / "solver.prototxt")])[1])


@pytest.mark.parametrize("gpu", ["0,1", "all", "1,0"])
def test_several_cards_get_a_process_each(tmp_path, monkeypatch, two_cards, gpu):
    """Their command lines are the same."""
    programs.write(tmp_path, solver=programs.ENDLESS)
    asked, started = flags.parse(["train", "-solver", str(tmp_path / "solver.prototxt"), "-gpu", gpu, "-stage", "a b",
                                  "-level=-2", "-weights", "x=y"]), []
    monkeypatch.setattr(commands.launcher, "run", lambda words, size: started.append((flags.parse(words), size)))
    commands.train(asked[1])
    assert started == [(asked, 2)]


@pytest.mark.parametrize("variables, gpu, said", [
    ({}, "0,7", r"-gpu 0,7: PyTorch \S+ sees 2 graphics cards of NVIDIA"),
    (dict(RANK="5", WORLD_SIZE="8", LOCAL_RANK="2"), "all", "-gpu all: no card is left for process 3 of this "
     "machine, expected one for each"),
    (dict(RANK="1", WORLD_SIZE="2", LOCAL_RANK="1"), "0", "-gpu 0: no card is left for process 2 .*")])
def test_too_few_cards(tmp_path, monkeypatch, two_cards, variables, gpu, said):
    programs.write(tmp_path, solver=programs.ENDLESS)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        commands.train(flags.parse(["train", "-solver", str(tmp_path / "solver.prototxt"), "-gpu", gpu])[1])
    assert re.fullmatch(said, str(error.value))


@pytest.mark.parametrize("place, number", [((0, 4, 0), "1"), ((3, 4, 1), "0")])
def test_each_process_has_its_card(tmp_path, monkeypatch, two_cards, place, number):
    programs.write(tmp_path, solver=programs.ENDLESS)
    for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), place):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(commands.log, "only_errors", lambda: None)
    monkeypatch.setattr(commands, "_device", lambda options, place: (_ for _ in ()).throw(KeyError(options.gpu)))
    with pytest.raises(KeyError) as error:
        commands.train(flags.parse(["train", "-solver", str(tmp_path / "solver.prototxt"), "-gpu", "1,0"])[1])
    assert error.value.args == (number,)


def test_measures_in_one_process_only(trained, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    folder, _ = trained["engine"]
    for words in ["time"], ["test", "-weights", str(folder / "snap_iter_10.caffemodel")]:
        with pytest.raises(UserError, match="compute in one process, but RANK and WORLD_SIZE are set"):
            command, options = flags.parse([*words, "-model", str(folder / "net.prototxt")])
            getattr(commands, command)(options)


def snapshots(folder):
    return sorted({name.rpartition(".")[2] for name in os.listdir(str(folder)) if name.startswith("snap_iter")})


@both
@pytest.mark.parametrize("number, flags", [
    (signal.SIGINT, []), (signal.SIGHUP, ["--sighup_effect=stop"])])
def test_stops_with_a_snapshot(tmp_path, program, number, flags):
    watched = programs.Watched(program, tmp_path, *flags)
    watched.wait_for("Iteration 3 ")
    watched.process.send_signal(number)
    assert watched.process.wait(60) == 0
    watched.wait_for(r"solver.cpp:311\] Optimization stopped early.\n(.*\n)*.*caffe.cpp:250\] Optimization Done.\n")
    assert snapshots(tmp_path) == ["caffemodel", "solverstate"]


@both
@pytest.mark.parametrize("number, flags, files", [
    (signal.SIGHUP, [], ["caffemodel", "solverstate"]), (signal.SIGHUP, ["-sighup_effect", "none"], []),
    (signal.SIGINT, ["-sigint_effect", "snapshot"], ["caffemodel", "solverstate"]),
    (signal.SIGINT, ["-sigint_effect", "none"], [])])
def test_goes_on_after_a_signal(tmp_path, program, number, flags, files):
    watched = programs.Watched(program, tmp_path, *flags)
    watched.wait_for("Iteration 3 ")
    watched.process.send_signal(number)
    if files:
        watched.wait_for("Snapshotting solver state")
    watched.goes_on()
    watched.process.kill()
    watched.process.wait()
    assert snapshots(tmp_path) == files


def test_a_signal_before_the_first_iteration_counts(tmp_path):
    """While the start weights are made, which takes a second."""
    watched = programs.Watched("engine", tmp_path)
    watched.wait_for("Creating training net")
    watched.process.send_signal(signal.SIGINT)
    assert watched.process.wait(60) == 0
    watched.wait_for("Optimization stopped early")
    assert snapshots(tmp_path) == ["caffemodel", "solverstate"]


def test_an_ignored_signal_stays_ignored(tmp_path, monkeypatch):
    """As under nohup."""
    ignore = "import os, signal as s, sys; s.signal(s.SIGHUP, s.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
    program = programs.PROGRAMS["engine"]
    monkeypatch.setitem(programs.PROGRAMS, "engine", [program[0], "-c", ignore, *program])
    watched = programs.Watched("engine", tmp_path)
    watched.wait_for("Iteration 3 ")
    watched.process.send_signal(signal.SIGHUP)
    watched.goes_on()
    watched.process.kill()
    watched.process.wait()
    assert snapshots(tmp_path) == []
