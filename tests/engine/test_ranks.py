"""Trainings in several processes on the processor, against the same trainings in one."""
import os
import pathlib
import re
import signal
import socket
import time

import numpy as np
import pytest

from bench import engine as bench_engine
from common.errors import UserError
from engine import launcher, messages, ranks
from tests import small_data
from tests.tools import small_pairs

from . import compare, programs

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lab")
# Name -> experiment, data, batch size, changes of the settings, iterations, tolerance. Where it is more than 1e-5, a
# change of the start weights by 1e-7 of each of them, in one process, has made a difference of 2e-5 and of 2e-4.
CASES = {"softmax": ("xie2019a/fer2013-toy-softmax", "faces", 5, (), 20, 1e-5),
         "center, GSF, SIFT": ("xie2019a/fer2013-toy-center-norm-gsf", "faces", 7, ("losses.sift={}",), 20, 1e-5),
         "sparse weights": ("xie2019b/fer2013-toy-v-l2-cp", "faces", 7, (), 20, 1e-5),
         "tuplets": ("liu2017/synthetic-2b-nm", "subjects", 2, (
             "head.fc1=32", "head.fc2=16", "head.fc4=16", "tuplets.positives=3", "tuplets.negatives=2"), 20, 1e-4),
         "attention": ("farzaneh2021/synthetic-dacl", "pairs", 5, (), 20, 1e-5),
         "pairs": ("wu2023/synthetic-ndf", "pairs", 4, (), 1, 1e-3)}
SMALL = """
base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" weight_decay: 0.01 iter_size: 2 clip_gradients: 3 max_iter: 20 display: 2
test_iter: 2 test_interval: 8 snapshot: 10 snapshot_prefix: "snap" solver_mode: CPU net: "net.prototxt" random_seed: %d
"""
# Five rows a batch are uneven parts.
NET = """
layer { name: "data" type: "HDF5Data" top: "data" top: "label"
        hdf5_data_param { source: "list.txt" batch_size: 5 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false weight_filler { type: "msra" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }
layer { name: "elu" type: "ELU" bottom: "norm" top: "norm" }
layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm" dropout_param { dropout_ratio: 0.4 } }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
PYTHON = NET.replace('bottom: "label" top: "loss" }', 'bottom: "label" top: "l" loss_weight: 0 }') + """
layer { name: "lab" type: "Python" bottom: "l" top: "loss" loss_weight: 1 include { phase: TRAIN }
        python_param { module: "lab_ranks" layer: "InRank1" param_str: "WHAT" } }"""


def weights(path):
    net = messages.read_binary(str(path), "NetParameter")
    return {(layer.name, number): np.array(blob.data) for layer in net.layer for number, blob in enumerate(layer.blobs)}


def assert_alike(ours, theirs, tolerance=1e-5):
    """Weights that differ by no more than this part of the largest value of their blob, or of 0.01 if that is less.
    Returns the largest difference."""
    assert ours.keys() == theirs.keys() and len(ours) > 2
    differences = {key: np.abs(ours[key] - values).max() / max(1e-2, np.abs(values).max())
                   for key, values in theirs.items()}
    largest = max(differences, key=lambda key: differences[key])
    assert differences[largest] <= tolerance, largest
    return differences[largest]


def trained(program, folder, *words, net=NET, seed=1):
    """The log of a small training."""
    folder.mkdir(exist_ok=True)
    programs.write(folder, net, SMALL % seed)
    status, out, log = programs.run(program, folder, "train", "-solver", "solver.prototxt", *words)
    assert (status, out) == (0, ""), log
    return log


def snapshot(folder, iteration):
    return [(folder / f"snap_iter_{iteration}.{kind}").read_bytes() for kind in ("caffemodel", "solverstate")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder and the log of the small training in one process."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, trained("engine", folder)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The same of two."""
    folder = tmp_path_factory.mktemp("together")
    return folder, trained("2 ranks", folder)


@pytest.mark.parametrize("size", [2, 3])
def test_a_small_training(tmp_path, alone, together, size):
    """Batch normalization, dropout, uneven parts, iter_size, clipping, a test net. One process writes log and files."""
    folder, log = together if size == 2 else (tmp_path, trained("3 ranks", tmp_path))
    assert sorted(os.listdir(str(folder))) == sorted(os.listdir(str(alone[0])))
    for iteration in 10, 20:
        assert_alike(weights(folder / f"snap_iter_{iteration}.caffemodel"),
                     weights(alone[0] / f"snap_iter_{iteration}.caffemodel"))
    programs.assert_alike(programs.lines(log, "Starting"), programs.lines(alone[1], "Starting"))
    assert f"engine] {size} processes (ranks) train together; each takes a part of each batch\n" in log
    assert log.count("The start weights are made by Caffe") == 1
    assert log.count("Gradient clipping") >= 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("faces", "subjects", "pairs"):
        (folder / name).mkdir()
    return {"faces": small_data.prepared(folder / "faces", ("gsf", "sift")),
            "subjects": small_data.with_subjects(folder / "subjects"), "pairs": small_pairs.prepared(folder / "pairs")}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_same_weights_for_any_number_of_ranks(tmp_path, data, case):
    """ReLU and MAX pooling jump, and rounding with them, so the larger nets have ELU and AVE instead."""
    name, source, batch, changes, iterations, tolerance = CASES[case]
    found = {}
    for program in ["engine", *programs.SEVERAL]:
        folder = tmp_path / program.replace(" ", "-")
        solver = bench_engine.write(name, batch, iterations, data[source], str(folder), changes)
        param = messages.read_text(solver, "SolverParameter")
        param.snapshot_after_train = True
        pathlib.Path(solver).write_text(str(param))
        if source != "faces":
            net = messages.read_text(param.net, "NetParameter")
            for layer in net.layer:
                compare.smoothen(layer)
            pathlib.Path(param.net).write_text(str(net))
        status, _, log = programs.run(program, programs.ROOT, "train", "-solver", solver)
        assert status == 0, log
        found[program] = weights(folder / f"snapshot_iter_{iterations}.caffemodel")
    for program in programs.SEVERAL:
        print(case, program, assert_alike(found[program], found["engine"], tolerance))


def test_the_same_bytes_again_and_after_a_stop(tmp_path, together):
    expected = snapshot(together[0], 20)
    trained("2 ranks", tmp_path)
    assert snapshot(tmp_path, 20) == expected
    for name in "caffemodel", "solverstate":
        (tmp_path / f"snap_iter_20.{name}").unlink()
    trained("2 ranks", tmp_path, "-snapshot", "snap_iter_10.solverstate")
    assert snapshot(tmp_path, 20) == expected


def test_on_other_numbers_of_ranks_it_goes_on_where_it_was(tmp_path, alone):
    trained("2 ranks", tmp_path)
    trained("engine", tmp_path, "-snapshot", "snap_iter_10.solverstate")
    assert_alike(weights(tmp_path / "snap_iter_20.caffemodel"), weights(alone[0] / "snap_iter_20.caffemodel"))


def test_rank_0_draws_the_seed(tmp_path):
    log = trained("2 ranks", tmp_path / "several", seed=-1)
    [seed] = re.findall("random_seed is not set; that of this training is ([0-9]+)\n", log)
    trained("engine", tmp_path / "one", seed=int(seed))
    assert_alike(*(weights(tmp_path / folder / "snap_iter_20.caffemodel") for folder in ("several", "one")))


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def started(folder, monkeypatch, size, *words):
    """Processes that another launcher starts."""
    made, number = [], port()
    for rank in range(size):
        for name, value in dict(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1",
                                MASTER_PORT=number, GLOO_SOCKET_IFNAME="lo").items():
            monkeypatch.setenv(name, str(value))
        made.append(programs.start("engine", folder, *words))
    return made


def test_under_another_launcher(tmp_path, monkeypatch, together):
    programs.write(tmp_path, NET, SMALL % 1)
    first, second = started(tmp_path, monkeypatch, 2, "train", "-solver", "solver.prototxt")
    assert [one.communicate(timeout=60)[1].count("Iteration") > 10 for one in (second, first)] == [False, True]
    assert (first.returncode, second.returncode) == (0, 0)
    assert snapshot(tmp_path, 20) == snapshot(together[0], 20)


def test_an_error_under_another_launcher(tmp_path, monkeypatch):
    programs.write(tmp_path, PYTHON.replace("WHAT", "raise"), SMALL % 1)
    monkeypatch.setenv("PYTHONPATH", LAB)
    first, second = started(tmp_path, monkeypatch, 2, "train", "-solver", "solver.prototxt")
    logs = [one.communicate(timeout=60)[1] for one in (first, second)]
    assert (first.returncode, second.returncode) == (1, 1)
    fatal = [re.findall(r"(?m)^F.* engine\] (.*)\n\Z", log) for log in logs]
    assert fatal[1] == ["rank 1: layer lab (Python): lab_ranks.InRank1.forward: ValueError: wrong here"]
    assert fatal[0][0].startswith("rank 0 of 2 has lost the others; one of them, or the network, failed (")


def ranks_of(launcher):
    """The processes of the ranks that a launcher has started."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stream:
                parent = int(stream.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{name}/environ", "rb") as stream:
                variables = dict(one.partition(b"=")[::2] for one in stream.read().split(b"\0"))
        except OSError:
            continue
        if parent == launcher.pid and b"RANK" in variables:
            found[int(variables[b"RANK"])] = int(name)
    return found


def is_alive(number):
    try:
        with open(f"/proc/{number}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_ended(processes, seconds=15):
    until = time.monotonic() + seconds
    while any(map(is_alive, processes)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(is_alive, processes))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_others_and_the_training_goes_on_to_the_same_bytes(tmp_path, together, rank):
    endless = (SMALL % 1).replace("max_iter: 20", "max_iter: 1000000").replace("snapshot: 10", "snapshot: 5")
    watched = programs.Watched("2 ranks", tmp_path, net=NET, solver=endless)
    watched.wait_for("Iteration 12 ")
    processes = ranks_of(watched.process)
    assert set(processes) == {0, 1}
    os.kill(processes[rank], signal.SIGKILL)
    assert watched.process.wait(30) == 1
    assert_ended(processes.values())
    watched.wait_for(rf"\nF.* engine\] rank {rank} of the training was ended by SIGKILL, and so the others, too; it "
                     r"can go on from its last snapshot\n\Z")
    for name in os.listdir(str(tmp_path)):
        if name.startswith("snap_iter") and not re.match(r"snap_iter_10\.", name):
            (tmp_path / name).unlink()
    assert snapshot(tmp_path, 10) == snapshot(together[0], 10)
    trained("2 ranks", tmp_path, "-snapshot", "snap_iter_10.solverstate")
    assert snapshot(tmp_path, 20) == snapshot(together[0], 20)


def test_ranks_end_with_their_launcher(tmp_path):
    watched = programs.Watched("2 ranks", tmp_path)
    watched.wait_for("Iteration 3 ")
    processes = ranks_of(watched.process)
    watched.process.kill()
    watched.process.wait()
    assert len(processes) == 2
    assert_ended(processes.values())


def snapshots(folder):
    return [name for name in os.listdir(str(folder)) if name.endswith(".solverstate")]


def test_a_signal_to_the_launcher(tmp_path):
    watched = programs.Watched("2 ranks", tmp_path)
    watched.wait_for("Iteration 3 ")
    watched.process.send_signal(signal.SIGHUP)
    watched.wait_for("Snapshotting solver state")
    watched.goes_on()
    assert len(snapshots(tmp_path)) == 1
    watched.process.send_signal(signal.SIGINT)
    assert watched.process.wait(60) == 0
    watched.wait_for(r"solver.cpp:311\] Optimization stopped early.\n(.*\n)*.*caffe.cpp:250\] Optimization Done.\n")
    assert len(snapshots(tmp_path)) == 2


def test_a_signal_before_the_training(tmp_path):
    """As without ranks, it ends without a word."""
    programs.write(tmp_path, NET, SMALL % 1)
    process = programs.start("2 ranks", tmp_path, "train", "-solver", "solver.prototxt")
    until = time.monotonic() + 20
    while len(ranks_of(process)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    log = process.communicate(timeout=30)[1]
    assert process.returncode in (-signal.SIGHUP, 0)
    assert process.returncode == 0 or "\nF" not in log


def test_a_signal_to_any_rank(tmp_path, monkeypatch):
    """It stops all of them at the same iteration."""
    programs.write(tmp_path, solver=programs.ENDLESS)
    first, second = started(tmp_path, monkeypatch, 2, "train", "-solver", "solver.prototxt")
    for line in first.stderr:
        if "Iteration 3 " in line:
            break
    second.send_signal(signal.SIGINT)
    assert "Optimization stopped early" in first.communicate(timeout=60)[1]
    assert second.communicate(timeout=60)[0] == "" and (first.returncode, second.returncode) == (0, 0)
    assert len(snapshots(tmp_path)) == 1


def failure(folder, net, monkeypatch, *words, program="2 ranks", solver=SMALL % 1):
    """The one line of an error of two ranks, and what is before it."""
    monkeypatch.setenv("PYTHONPATH", LAB)
    programs.write(folder, net, solver)
    began = time.monotonic()
    status, out, log = programs.run(program, folder, "train", "-solver", "solver.prototxt", *words)
    assert (status, out) == (1, "") and time.monotonic() - began < 60
    before, _, last = log.rstrip("\n").rpartition("\n")
    assert last.startswith("F") and " engine] " in last and "\nF" not in before, log
    return last.partition(" engine] ")[2], before


def test_last_words_on_a_full_disk(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv(launcher.VARIABLE, str(tmp_path))
    os.symlink("/dev/full", str(tmp_path / "words.0"))
    launcher.last_words("snap_iter_5.caffemodel: cannot be written")
    assert capfd.readouterr().err.endswith(" engine] snap_iter_5.caffemodel: cannot be written\n")


def test_errors(tmp_path, monkeypatch):
    """That of all ranks is shown once, that of one with its rank."""
    assert failure(tmp_path, NET, monkeypatch, "-snapshot", "no")[0] == "no: cannot be read: No such file or directory"
    assert failure(tmp_path, NET.replace('"ELU"', '"RLU"'), monkeypatch)[0].startswith("layer elu: ")
    assert re.match("iteration [12]: the loss is (nan|inf)", failure(
        tmp_path, NET, monkeypatch, solver=(SMALL % 1).replace("0.05", "1e30"))[0])
    for what in "raise", "hang":
        assert failure(tmp_path, PYTHON.replace("WHAT", what), monkeypatch)[0] == (
            "rank 1: layer lab (Python): lab_ranks.InRank1.forward: ValueError: wrong here")
    assert failure(tmp_path, PYTHON.replace("WHAT", "exit"), monkeypatch)[0] == "rank 1 ended with status 7"


def test_ranks_that_differ_are_noticed(tmp_path, monkeypatch):
    said = failure(tmp_path, PYTHON, monkeypatch)[0]
    assert re.match(r"iteration 1: the loss: from \S+ to \S+ on the 2 ranks, expected the same on all; does a layer in "
                    "Python draw other numbers", said)


def test_a_mistake_in_the_program_has_a_traceback(tmp_path, monkeypatch):
    """In rank 1 a module of the engine lacks what is called."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('RANK') == '1':\n    from engine import policies\n    del policies.rate\n")
    monkeypatch.setattr("tests.engine.test_ranks.LAB", str(tmp_path))
    said, before = failure(tmp_path, NET, monkeypatch)
    assert said == "rank 1 ended with status 1: AttributeError: module 'engine.policies' has no attribute 'rate'"
    assert before.count("Traceback") == 1


def test_numpys_random_numbers_are_the_same_on_all_ranks(tmp_path, monkeypatch):
    """Of a layer that draws without a seed; else the losses would differ."""
    net = NET + """
layer { name: "noise" type: "Python" top: "noise" include { phase: TRAIN }
        python_param { module: "lab_ranks" layer: "Drawn" } }
layer { name: "more" type: "EuclideanLoss" bottom: "ip" bottom: "noise" top: "more" loss_weight: 0.1
        include { phase: TRAIN } }"""
    monkeypatch.setenv("PYTHONPATH", LAB)
    assert "Iteration 18 " in trained("2 ranks", tmp_path, net=net)


@pytest.mark.parametrize("variables, said", [
    (dict(WORLD_SIZE="two", RANK="0"), "the variable WORLD_SIZE is 'two', expected a whole number"),
    (dict(WORLD_SIZE="2", RANK="2"), "RANK is 2, expected 0 to 1, as WORLD_SIZE is 2"),
    (dict(WORLD_SIZE="2", RANK="1", LOCAL_RANK=""), "the variable LOCAL_RANK is '', expected a whole number")])
def test_wrong_variables(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        ranks.place()
    assert str(error.value) == said


def test_the_place_of_a_process(monkeypatch):
    assert ranks.place() is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert ranks.place() is None
    monkeypatch.setenv("RANK", "3")
    assert ranks.place() == (3, 4, 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks.place() == (3, 4, 1)
    with pytest.raises(UserError) as error:
        ranks.Group(ranks.place(), "cpu")
    assert str(error.value) == ("WORLD_SIZE is 4, but the variable MASTER_ADDR is not set, expected the address of "
                                "rank 0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "x")
    with pytest.raises(UserError, match="the variable MASTER_PORT is 'x', expected a whole number"):
        ranks.Group(ranks.place(), "cpu")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ranks.place() is None
