"""SIGINT and SIGTERM while a net is trained: what was trained is kept, and it ends in the same bytes."""
import hashlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from common import experiment, files, machine, signals
from data_prep import prepared_folder
from tests import small_data
from tests.tools import small_pairs
from tools.training import caffe_log, groups

SOLVER = ["solver.batch_size=8", "solver.snapshot=20", "solver.test_interval=20", "solver.display=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("data"))


def words(changes):
    """Of `--set`; what follows the first other option is given as it is."""
    at = next((at for at, change in enumerate(changes) if change.startswith("--")), len(changes))
    return [word for change in changes[:at] for word in ("--set", change)] + changes[at:]


def start(name, data, out, changes, interrupt=signal.SIG_DFL):
    return subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "train", name, "--data", data, "--out", out, "--threads", "1",
         "--processes", "2"] + words(changes), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        universal_newlines=True, cwd=experiment.ROOT,
        # Ignored where the tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt))


def stop(process, log, reached, number):
    """Sends the signal when a log has a text; returns the status and what was said."""
    while not (os.path.exists(log) and reached in open(log, errors="replace").read()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def snapshots(folder):
    """Name -> digest of all that a training keeps, wherever it lies."""
    return {os.path.relpath(os.path.join(inner, name), folder): hashlib.sha256(
                open(os.path.join(inner, name), "rb").read()).hexdigest()
            for inner, _, names in os.walk(folder) for name in names if name.endswith((".caffemodel", ".solverstate"))}


def goes_on(name, data, out, changes):
    """Both to the end: the stopped training, and another one that nothing disturbs."""
    for folder in (out, os.path.join(os.path.dirname(out), "undisturbed", os.path.basename(out))):
        groups.train(experiment.load(name, changes), data, folder, None, (), 1, machine.DEFAULT, 2)
    return snapshots(out), snapshots(folder)


def without_states(found):
    """A solver state names the folder of its weights."""
    return {name: digest for name, digest in found.items() if name.endswith("caffemodel")}


def test_a_snapshot_is_written_and_the_same_bytes_come_out(tmp_path, data):
    name, out = "xie2019a/synthetic-toy-softmax", str(tmp_path / "run")
    changes = SOLVER + ["solver.max_iter=60"]
    code, said = stop(start(name, data, out, changes), os.path.join(out, "caffe.log"), "Iteration 25 (", signal.SIGINT)
    kept = int(re.search(r"run: stopped, the last snapshot is of iteration (\d+) of 60\nfer: stopped; .*\n$",
                         said).group(1))
    assert code == 130 and 25 < kept < 60
    assert {"snapshots/iter_20.caffemodel", f"snapshots/iter_{kept}.caffemodel"} <= set(snapshots(out))
    assert not os.path.exists(os.path.join(out, "scratch"))
    found, expected = goes_on(name, data, out, changes)
    assert set(found) == {f"snapshots/iter_{at}.{kind}" for at in (20, 40, 60)
                          for kind in ("caffemodel", "solverstate")}
    assert without_states(found) == without_states(expected)
    one, other = (caffe_log.curves(os.path.join(folder, "caffe.log")) for folder in (
        out, os.path.join(str(tmp_path), "undisturbed", "run")))
    assert one["train softmax_loss"] == other["train softmax_loss"] and one["val accuracy"] == other["val accuracy"]


def test_on_pytorch_it_is_stopped_where_ctrl_c_is_ignored(tmp_path, data):
    """As by a command in the background. The engine leaves signals alone that it finds ignored."""
    out = str(tmp_path / "run")
    changes = SOLVER + ["solver.max_iter=4000", "--engine", "torch"]
    code, said = stop(start("xie2019a/synthetic-toy-softmax", data, out, changes, signal.SIG_IGN),
                      os.path.join(out, "caffe.log"), "Iteration 3 (", signal.SIGTERM)
    assert code == 143
    assert re.search(r"run: stopped, the last snapshot is of iteration [1-9]\d* of 4000\nfer: stopped; ", said)


def test_on_pytorch_both_trials_of_adaptive_weights_are_stopped(tmp_path):
    data, out = small_data.prepared(tmp_path, ("gsf", "sift")), str(tmp_path / "run")
    changes = SOLVER + ["weighting.restart_iterations=4000", "weighting.rounds=2", "--engine", "torch"]
    code, said = stop(start("xie2019a/fer2013-toy-alaw", data, out, changes),
                      os.path.join(out, "rounds", "01", "gsf", "caffe.log"), "Iteration 4 (", signal.SIGINT)
    stopped = r"run round 1/2 (gsf|sift): stopped, the last snapshot is of iteration \d+ of 4000"
    assert code == 130 and len(re.findall(stopped, said)) == 2
    assert any(re.match(r"rounds/01/gsf/snapshots/iter_\d+.caffemodel", one) for one in snapshots(out)), said


def test_with_dropout_it_goes_on_from_the_last_snapshot(tmp_path, data):
    """A snapshot that a signal makes would not hold the state of Caffe's random numbers."""
    name, out = "xie2019b/synthetic-toy-dropout", str(tmp_path / "run")
    changes = SOLVER + ["solver.max_iter=40"]
    code, said = stop(start(name, data, out, changes), os.path.join(out, "caffe.log"), "Iteration 23 (",
                      signal.SIGTERM)
    assert code == 143 and "run: stopped, the last snapshot is of iteration 20 of 40" in said
    found, expected = goes_on(name, data, out, changes)
    assert len(found) == 4 and without_states(found) == without_states(expected)


def test_adaptive_weights_with_both_trials_at_work(tmp_path):
    data, name, out = small_data.prepared(tmp_path, ("gsf", "sift")), "xie2019a/fer2013-toy-alaw", str(tmp_path / "run")
    changes = SOLVER + ["weighting.restart_iterations=40", "weighting.rounds=2"]
    code, said = stop(start(name, data, out, changes), os.path.join(out, "rounds", "01", "gsf", "caffe.log"),
                      "Iteration 4 (", signal.SIGINT)
    stopped = r"run round 1/2 (gsf|sift): stopped, the last snapshot is of iteration \d+ of 40"
    assert code == 130 and len(re.findall(stopped, said)) == 2
    assert any(re.match(r"rounds/01/gsf/snapshots/iter_(?!20|40)\d+.caffemodel", one) for one in snapshots(out)), said
    found, expected = goes_on(name, data, out, changes)
    assert {"snapshots/iter_40.caffemodel", "snapshots/iter_80.caffemodel"} < set(found)
    assert without_states(found) == without_states(expected)


def test_self_paced_learning_within_its_second_pace(tmp_path):
    data, name, out = small_pairs.prepared(tmp_path), "wu2023/synthetic-spndl", str(tmp_path / "run")
    changes = SOLVER + ["pacing.paces=2", "pacing.more=50", "pacing.epochs=4", "solver.batch_size=2",
                        "solver.test_interval=5"]
    code, said = stop(start(name, data, out, changes), os.path.join(out, "paces", "02", "caffe.log"),
                      "Iteration 3 (", signal.SIGTERM)
    assert code == 143 and re.search(r"run pace 2/2: stopped, the last snapshot is of iteration \d+ of 17", said)
    found, expected = goes_on(name, data, out, changes)
    assert without_states(found) == without_states(expected) and len(found) == 2


def test_folds_side_by_side(tmp_path):
    name, out, root = "xie2019a/synthetic-toy-softmax", str(tmp_path / "run"), tmp_path / "folded"
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        os.renames(small_data.prepared(tmp_path / str(number), (), (14, 7, 7), seed=number),
                   str(root / f"fold{number:02d}"))
    files.write_json(str(root / prepared_folder.NOTE), dict(
        files.read_json(str(root / "fold01" / prepared_folder.NOTE)), folds=["fold01", "fold02"]))
    changes = SOLVER + ["solver.max_iter=40"]
    code, said = stop(start(name, str(root), out, changes), os.path.join(out, "fold02", "caffe.log"), "Iteration 5 (",
                      signal.SIGTERM)
    stopped = r"(?m)^fold0[12]: stopped, the last snapshot is of iteration \d+ of 40$"
    assert code == 143 and len(re.findall(stopped, said)) == 2
    found, expected = goes_on(name, str(root), out, changes)
    assert len(found) == 8 and without_states(found) == without_states(expected)


def test_a_signal_that_is_passed_on_counts_once_and_a_second_one_again(monkeypatch):
    came, now = [], [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    before = signal.getsignal(signal.SIGTERM)
    with signals.handled(came.append):
        for at in (100, 100.1, 100.4, 101, 103):
            now[0] = at
            os.kill(os.getpid(), signal.SIGTERM)
    assert came == [signal.SIGTERM] * 3 and signal.getsignal(signal.SIGTERM) == before
    monkeypatch.setattr(signals, "_last", -signals.REPEATED)


def test_children_that_do_not_end_are_killed_by_the_second_signal():
    program = """
import os, signal, sys, time
from common import children, signals
def work(job):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b"ready\\n")  # in one piece, where both children write
    time.sleep(600)
try:
    with signals.handled(signals.interrupt):
        list(children.in_order(2, lambda: None, (), work, [1, 2]))
except signals.Interrupted as error:
    sys.exit(128 + error.number)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=experiment.ROOT)
    assert [process.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert process.stdout.read() == b""  # the children's end of it is closed too
