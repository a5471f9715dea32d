"""The state of runs, from folders as a training leaves them on its way."""
import fcntl
import io
import os
import re
import shutil
import time

import pytest

from common import experiment, files, locks
from common.errors import UserError
from tests.tools import hand_made
from tools.cli import live_state, main
from tools.training import groups, run, run_state
from tools.training.caffe_process import Segment
from tools.training.run import Run
from tools.training.run_state import Log, Step, Watch

BEGIN = "I{} 1 caffe.cpp:239] Starting Optimization\n"
LOSS = "I{} 1 solver.cpp:239] Iteration {} (2 iter/s, 1s/2 iters), loss = {}\n"
TEST = ("I{} 1 solver.cpp:347] Iteration {}, Testing net (#0)\n"
        "I{} 1 solver.cpp:414]     Test net output #0: accuracy = {}\n"
        "I{} 1 solver.cpp:414]     Test net output #1: softmax_loss = 1 (* 1 = 1 loss)\n")


def clock(second):
    return time.strftime("%m%d %H:%M:%S.000000", time.gmtime(1700000000 + second))


def begin(second):
    return BEGIN.format(clock(second))


def loss(second, iteration, value):
    return LOSS.format(clock(second), iteration, value)


def validated(second, iteration, accuracy):
    return TEST.format(clock(second), iteration, clock(second), accuracy, clock(second))


def write(path, *lines):
    os.makedirs(os.path.dirname(str(path)), exist_ok=True)
    with open(str(path), "a") as stream:
        stream.write("".join(lines))


def begun(folder, name, total, changes=()):
    """A run's folder with nothing but its notes."""
    one = Run(str(folder))
    files.claim(one.folder, "run")
    os.makedirs(one.path("snapshots"))
    write(one.path(".lock"))
    files.write_json(one.path("run.json"), hand_made.info(experiment.load(name, changes), iterations=total))
    return one


def snapshot(segment, iteration):
    os.makedirs(segment.path("snapshots"), exist_ok=True)
    write(segment.weights_of(iteration))


@pytest.fixture
def half(tmp_path):
    """At 200 of 1000, 0.5 iterations a second, validated at 0 and 100."""
    one = begun(tmp_path / "half", "xie2019a/fer2013-toy-softmax", 1000)
    write(one.path("caffe.log"), begin(0), validated(1, 0, .1), loss(2, 0, 2), validated(150, 100, .6),
          loss(202, 100, 1.5), validated(390, 200, .5), loss(402, 200, 1.25))
    snapshot(one, 100)
    return one


def test_a_run_on_its_way(half):
    with run.locked(half):
        state = Watch(half).state()
    assert (state.iteration, state.total, state.loss, state.done, state.work) == (200, 1000, 1.25, 200, 1000)
    assert (state.accuracy, state.best) == ((200, .5), (100, .6))
    assert state.rate == pytest.approx(.5) and state.working and not state.finished
    assert live_state.line("half", state) == (
        "half: running, iteration 200/1000 (20 %), 0:26:40 left, 0.5 it/s, loss 1.25, validation accuracy 50.00 % at "
        "200, best 60.00 % at 100")


def test_a_run_that_stopped(half):
    assert live_state.line("half", Watch(half).state()) == (
        "half: stopped, iteration 200/1000 (20 %), loss 1.25, validation accuracy 50.00 % at 200, best 60.00 % at 100, "
        "`./fer train` continues from 100")


def test_what_is_added_is_read_on_and_half_a_line_waits(half):
    watched = Watch(half)
    assert watched.state().iteration == 200
    line = loss(502, 250, 1.125)
    write(half.path("caffe.log"), line[:-20])
    assert watched.state().iteration == 200
    write(half.path("caffe.log"), line[-20:])
    assert (watched.state().iteration, watched.state().loss) == (250, 1.125)


def test_a_resumed_run_repeats_iterations_and_its_pause_is_no_work(half):
    write(half.path("caffe.log"), begin(90000), loss(90002, 100, 1.5), loss(90052, 200, 1.2))
    state = Watch(half).state()
    assert state.iteration == 200
    # Of the last half hour: 100 iterations in 50 seconds. A day before it was slower.
    assert state.rate == pytest.approx(2)


def test_a_log_that_began_anew(half):
    watched = Watch(half)
    watched.state()
    files.write_text(half.path("caffe.log"), begin(0) + loss(1, 0, 3))
    state = watched.state()
    assert (state.iteration, state.loss, state.accuracy, state.rate) == (0, 3, None, None)


def test_over_new_year(tmp_path):
    path = tmp_path / "caffe.log"
    path.write_text("I1231 23:59:50.5 1 solver.cpp:239] Iteration 0 (1 iter/s), loss = 2\n"
                    "I0101 00:00:10.5 1 solver.cpp:239] Iteration 40 (1 iter/s), loss = 1\n")
    moment = time.mktime((2026, 1, 1, 12, 0, 0, 0, 0, -1))
    os.utime(str(path), (moment, moment))
    log = Log(str(path))
    log.read()
    assert [(step.end - step.start, step.iterations) for step in log.steps] == [(20, 40)]


@pytest.mark.parametrize("steps, rate", [
    ([], None),
    ([Step(0, 10, 5)], .5),
    ([Step(0, 10, 5), Step(10, 30, 25)], 1),
    ([Step(0, 10, 5), Step(0, 10, 15)], 2),               # side by side
    ([Step(0, 10, 5), Step(5, 15, 10)], 1),
    ([Step(0, 10, 5), Step(100, 110, 15)], 1),            # the pause does not count
    ([Step(0, 10, 500), Step(9000, 9010, 15)], 1.5)])     # nor what is long past
def test_rate_by_hand(steps, rate):
    assert run_state._rate(steps) == rate


def test_adaptive_weights_on_their_way(tmp_path):
    """The second of 4 rounds of 100: its trials, side by side, are work; no iterations of the run's net."""
    one = begun(tmp_path / "alaw", "xie2019a/fer2013-toy-alaw", 400,
                ["weighting.rounds=4", "weighting.restart_iterations=100"])
    for name in ("gsf", "sift", "training"):
        write(one.path("rounds", "01", name, "caffe.log"), begin(0), loss(0, 0, 2), loss(50, 100, 1),
              *[validated(50, 100, .4)] * (name == "training"))
    first = Watch(one).state()
    assert (first.position, first.iteration, first.done, first.work) == (
        "round 1/4 (gsf 100, sift 100, training 100)", 100, 300, 1200)
    files.write_json(one.path("chain.json"), [["rounds/01/training", 0, 100]])
    files.write_json(one.path("weighting.json"), {"rounds": [{"round": 1}]})
    snapshot(one, 100)
    write(one.path("rounds", "02", "gsf", "caffe.log"), begin(60), loss(60, 0, 1.5), loss(80, 40, 1.25))
    write(one.path("rounds", "02", "sift", "caffe.log"), begin(60), loss(60, 0, 1.5), loss(80, 20, 1.125))
    state = Watch(one).state()
    assert (state.position, state.iteration, state.done, state.work) == (
        "round 2/4 (gsf 40, sift 20)", 100, 360, 1200)
    assert state.accuracy == state.best == (100, .4) and state.continues_from == 100
    assert state.loss == 1.125
    # 100 iterations of the round's own training, 60 of both trials, in 50 + 20 seconds.
    assert state.rate == pytest.approx(160 / 70)


def test_paces_on_their_way(tmp_path):
    one = begun(tmp_path / "paces", _paced(), 700)
    write(one.path("paces", "01", "caffe.log"), begin(0), loss(0, 0, 2), validated(50, 60, .3))
    files.write_json(one.path("chain.json"), [["paces/01", 0, 60]])
    snapshot(one, 60)
    write(one.path("paces", "02", "caffe.log"), begin(100), loss(100, 0, 1.5), validated(150, 20, .4), loss(150, 25, 1))
    state = Watch(one).state()
    assert state.position.startswith("pace 2/") and (state.iteration, state.done, state.work) == (85, 85, 700)
    assert (state.accuracy, state.loss, state.continues_from) == ((80, .4), 1, 60)


def _paced():
    return next(name for name in experiment.names() if name.startswith("wu2023/") and experiment.load(name).pacing)


def test_a_halved_rate_on_its_way(tmp_path):
    name = next(name for name in experiment.names() if experiment.load(name).halving)
    one = begun(tmp_path / "halving", name, 500, ["solver.max_iter=500", "solver.base_lr=0.01"])
    write(one.path("rates", "01", "caffe.log"), begin(0), loss(0, 0, 2), validated(50, 100, .3))
    files.write_json(one.path("chain.json"), [["rates/01", 0, 100]])
    snapshot(one, 100)
    write(one.path("rates", "02", "caffe.log"), begin(100), loss(100, 0, 1.5), begin(120), loss(120, 50, 1.25))
    snapshot(Segment(one.path("rates", "02")), 50)
    state = Watch(one).state()
    assert (state.position, state.iteration, state.continues_from) == ("learning rate 0.005", 150, 150)


def test_a_trained_run(trained):
    state = Watch(trained).state()
    assert state.finished and not state.working and (state.iteration, state.total) == (12, 12)
    assert state.accuracy[0] == 12 and state.best[1] == max(
        float(value) for value in re.findall(r"accuracy = (\S+)", open(trained.path("caffe.log")).read()))


def test_groups_count_what_has_not_begun(tmp_path, half, trained):
    group = tmp_path / "group"
    shutil.copytree(half.folder, str(group / "seed01"))
    shutil.copytree(trained.folder, str(group / "seed02"))
    files.write_json(str(group / "group.json"), {"kind": "seeds", "members": ["seed01", "seed02", "seed03"]})
    out = io.StringIO()
    with run.locked(Run(str(group / "seed01"))):
        live_state.watch(groups.open_(str(group)), 1, once=True, stream=out)
    lines = out.getvalue().splitlines()
    # 800 iterations of the first and 1000 of the third, at 0.5 a second.
    assert lines[0] == f"{group}: 1 of 3 trained, 1 running, about 1:00:00 left"
    assert [line.split(":")[0] + ":" + line.split(":")[1].split(",")[0] for line in lines[1:]] == [
        "  seed01: running", "  seed02: trained", "  seed03: not started"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_the_lines_stay_in_one_place(half, monkeypatch):
    def sleep(seconds):
        if half.snapshots()[-1] == 1000:
            raise KeyboardInterrupt
        snapshot(half, 1000)
    monkeypatch.setattr(live_state.time, "sleep", sleep)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setattr(live_state, "line", lambda name, state, line=live_state.line: line("half", state))
    out = Terminal()
    live_state.watch(half, 2, stream=out)
    before, rows, after = re.split(r"\x1b\[(\d+)A\x1b\[J", out.getvalue())
    assert int(rows) == before.count("\n") > 2
    assert max(map(len, (before + after).splitlines())) < 40
    assert "stopped" in before and "trained" in after


def test_a_terminal_that_does_not_know_its_size(half, monkeypatch):
    monkeypatch.setattr(live_state.shutil, "get_terminal_size", lambda: os.terminal_size((0, 0)))
    out = Terminal()
    live_state.watch(half, 2, once=True, stream=out)
    assert "stopped" in out.getvalue() and max(map(len, out.getvalue().splitlines())) < 80


def test_ctrl_c_ends_it_well(half, monkeypatch, capsys):
    def sleep(seconds):
        raise KeyboardInterrupt
    monkeypatch.setattr(live_state.time, "sleep", sleep)
    assert main.main(["watch", half.folder]) == 0
    assert capsys.readouterr().err == ""


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match="no run here"):
        live_state.watch(groups.open_(str(tmp_path)), 1)


def test_watching_keeps_no_training_out(half, monkeypatch):
    """The watcher's moment with the lock: the training tries again."""
    held = open(half.path(".lock"))
    fcntl.flock(held, fcntl.LOCK_SH)
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: held.close())
    with run.locked(half):
        assert run_state.is_working(half)
    assert not run_state.is_working(half)


def test_the_runs_of_a_plan(tmp_path, capsys):
    out = str(tmp_path)
    run_of = {name: os.path.join(out, "runs", "xie2019a", name) for name in ("a", "b")}
    files.write_json(os.path.join(out, "plan.json"), [
        {"command": ["fer", "train", "x", "--data", "d", "--out", run_of["a"], "--threads", "1"]},
        {"command": ["fer", "evaluate", run_of["a"]]},
        {"command": ["fer", "train", "y", "--data", "d", "--out", run_of["b"]]}])
    snapshot(begun(run_of["a"], "xie2019a/fer2013-toy-softmax", 4), 4)
    assert main.main(["watch", out, "--once"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        out + ": 1 of 2 trained, 0 running",
        "  runs/xie2019a/a: trained, iteration 4/4 (100 %)",
        "  runs/xie2019a/b: not started"]
