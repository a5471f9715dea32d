"""A published table, measured: what is read of a run, how it is set beside the paper, and the whole way."""
import csv
import dataclasses
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest

from common import files
from common.errors import UserError
from common.experiment import ROOT
from data_prep import prepare
from data_prep.datasets import synthetic
from published import values
from tools.reproduce import jobs, plan, requests, results, tables
from tools.reproduce.estimate import Estimate
from tools.reproduce.plan import Cell
from tools.reproduce.results import Measured
from tools.training import pretrained
from tools.training.run import Run
from tools.training.run_state import is_working

METRICS = {"correct": 5, "total": 8, "accuracy": 0.625, "average_accuracy": 0.5, "sensitivity": 0.75,
           "specificity": 0.25, "classes": ["angry", "disgust", "contempt"],
           "confusion": [[3, 1, 0], [2, 2, 0], [0, 0, 0]], "left_out": 2,
           "folds": [{"name": "fold01", "correct": 3, "total": 4}, {"name": "fold02", "correct": 2, "total": 4}]}


def figure(paper="xie2019b", **fields):
    return dataclasses.replace(values.read(paper)[0], **dict(
        dict(row="a row", column="a column", split="test", measure="accuracy", kind="count", experiment="x/y",
             value="62.5", correct=5, total=8, trained_on=""), **fields))


@pytest.fixture
def run(tmp_path):
    files.write_json(str(tmp_path / "metrics.json"), METRICS)
    files.write_json(str(tmp_path / "metrics-val.json"), dict(METRICS, correct=1))
    return str(tmp_path)


@pytest.mark.parametrize("fields, value, correct", (
    (dict(), 62.5, 5),
    (dict(split="val"), 12.5, 1),
    (dict(kind="fold_mean"), 62.5, None),
    (dict(measure="average_accuracy", kind="class_mean"), 50, None),
    (dict(measure="sensitivity", kind="class_mean"), 75, None),
    # The two of a class that was not trained are wrong.
    (dict(measure="accuracy_neutral_wrong"), 50, 5),
    (dict(measure="confusion", row="An.", column="DI"), 25, 1),
    (dict(measure="confusion", row="Di", column="Co"), 0, 0)))
def test_what_is_read_of_a_run(run, fields, value, correct):
    found = results.of_figure(figure(**fields), run)
    assert (found.value, found.correct) == (value, correct)


def test_the_best_snapshot_is_no_measured_figure(run, tmp_path):
    files.write_json(str(tmp_path / "metrics-every-snapshot.json"), {"split": "test", "snapshots": [
        {"iteration": 4, "correct": 8, "total": 8}]})
    assert results.of_figure(figure(), run).correct == 5


def test_what_is_not_there_is_not_measured(run, tmp_path):
    assert results.of_figure(figure(), str(tmp_path / "other")) is None
    assert results.of_figure(figure(measure="confusion", row="Fe", column="An"), run) is None
    # No unit of the class.
    assert results.of_figure(figure(measure="confusion", row="Co", column="An"), run) is None
    assert results.of_figure(figure(measure="svm"), run) is None


def test_the_untuned_machine_that_is_best_on_the_validation_part(tmp_path):
    saved = [{"setting": setting, "val": [val, 8], "test": [test, 8]} for setting, val, test in (
        ("published", 3, 7), ("published", 4, 2), ("tuned", 8, 8))]
    for name in ("svm.json", "svm/gsf.json"):
        files.write_json(str(tmp_path / name), {"results": saved})
    assert results.of_figure(figure(measure="svm"), str(tmp_path)) == Measured(25, 2, 8)
    assert results.of_figure(figure(measure="svm", experiment="", column="GSF"), str(tmp_path)) == Measured(25, 2, 8)


def test_response_ratio_is_the_mean_of_the_folds(tmp_path):
    for fold, ratio in (("fold01", 1.0), ("fold02", 1.5)):
        files.write_json(str(tmp_path / fold / "respond_ratio.json"), {"respond_ratio": {"angry": {"mouth": ratio}}})
    wanted = figure(measure="respond_ratio", kind="ratio", row="An.", column="Mouth, SP", value="1.14")
    files.write_json(str(tmp_path / "group.json"), {"kind": "folds", "members": ["fold01", "fold02"]})
    assert results.of_figure(wanted, str(tmp_path)) == Measured(1.25)


def table_entry(folder, wanted, data=None):
    return results.entry(Cell(wanted, folder), plan.Request((), data or {}, ""))


def test_only_a_whole_run_with_finite_weights_is_measured(tmp_path, trained):
    copy = Run(str(tmp_path / "run"))
    shutil.copytree(trained.folder, copy.folder)
    files.write_json(copy.path("metrics.json"), METRICS)
    wanted = figure(experiment="xie2019a/fer2013-toy-center-gabor")
    assert table_entry(copy.folder, wanted).measured == Measured(62.5, 5, 8)
    model = pretrained.read(copy.caffemodel())
    model.layer[[layer.name for layer in model.layer].index("fc2")].blobs[0].data[3] = float("nan")
    with open(copy.caffemodel(), "wb") as stream:
        stream.write(model.SerializeToString())
    entry = table_entry(copy.folder, wanted)
    assert (entry.measured, entry.why, entry.comparable, entry.difference) == (None, "NaN weights", False, "")
    files.remove(copy.caffemodel())
    assert (table_entry(copy.folder, wanted).measured, table_entry(copy.folder, wanted).why) == (None, "not measured")
    # Of a group no part may be missing.
    files.write_json(str(tmp_path / "group" / "group.json"), {"kind": "folds", "members": ["fold01", "fold02"]})
    files.write_json(str(tmp_path / "group" / "metrics.json"), METRICS)
    shutil.copytree(trained.folder, str(tmp_path / "group" / "fold01"))
    assert table_entry(str(tmp_path / "group"), wanted).why == "not measured"


@pytest.mark.parametrize("measure, name, note", (
    ("accuracy", "metrics.json", METRICS),
    ("svm", "svm.json", {"results": [{"setting": "published", "val": [4, 8], "test": [5, 8]}]}),
    ("respond_ratio", "respond_ratio.json", {"respond_ratio": {"angry": {"mouth": 1.0}}})))
def test_what_another_engine_evaluated_departs(tmp_path, trained, measure, name, note):
    """Files of earlier versions do not name the engine, which was Caffe."""
    copy = Run(str(tmp_path / "run"))
    shutil.copytree(trained.folder, copy.folder)
    wanted = figure(experiment="xie2019a/fer2013-toy-center-gabor", measure=measure, row="An.", column="Mouth, SP")
    for engine, expected in (({}, []), ({"engine": "caffe"}, []), (
            {"engine": "torch"}, ["evaluated by: torch (paper: caffe)"])):
        files.write_json(copy.path(name), {**note, **engine})
        entry = table_entry(copy.folder, wanted)
        assert entry.measured is not None
        assert [str(one) for one in entry.departures if one.what == "evaluated by"] == expected


def test_quoted_figures_and_those_without_data():
    assert table_entry(None, figure(system="other")) == results.Entry(figure(system="other"))
    assert table_entry(None, figure()).why == "no data"


# ---------------------------------------------------------------- the whole way

SOFTMAX, L2 = "runs/xie2019b/fer2013-softmax/", "runs/xie2019b/fer2013-l2/"
QUICK = ["net=toy", "solver.batch_size=4", "solver.max_iter=24", "solver.snapshot=8", "solver.display=4"]


def asked(data, out, *more):
    changes = [word for change in QUICK for word in ("--set", change)]
    return ["xie2019b-table4", "--data", "fer2013-xie2019a=" + data, "--out", str(out), *changes, *more]


def command(*arguments):
    return [sys.executable, "-m", "tools.cli", "reproduce", *arguments]


def fer(*arguments):
    return subprocess.run(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                          cwd=ROOT)


def left(out):
    """What a table rests on."""
    found = {}
    for name in (SOFTMAX + "snapshots/iter_24.caffemodel", L2 + "snapshots/iter_24.caffemodel",
                 SOFTMAX + "metrics.json", L2 + "metrics.json", "xie2019b-table4.md", "xie2019b-table4.csv"):
        with open(os.path.join(str(out), name), "rb") as stream:
            found[name] = hashlib.sha256(stream.read()).hexdigest()
    return found


@pytest.mark.slow
def test_killed_twice_ends_in_the_same_tables(tmp_path, data):
    whole = fer(*asked(data, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "killed"
    for reached in (SOFTMAX + "snapshots/iter_8.caffemodel", L2 + "snapshots/iter_24.caffemodel"):
        process = subprocess.Popen(command(*asked(data, out, "--cores", "1")), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True)
        either = [str(out / reached), str(out / reached.replace("softmax", "l2"))]
        while not any(map(os.path.exists, either)) and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "xie2019b-table4.md").exists()
    again = fer(*asked(data, out))
    assert again.returncode == 0, again.stderr
    assert left(out) == left(tmp_path / "whole")
    assert again.stdout == whole.stdout
    # Nothing is done a third time, newer weights or not.
    os.utime(str(out / SOFTMAX / "snapshots" / "iter_24.caffemodel"))
    before = os.stat(str(out / SOFTMAX / "metrics.json")).st_mtime_ns
    assert fer(*asked(data, out)).returncode == 0
    assert os.stat(str(out / SOFTMAX / "metrics.json")).st_mtime_ns == before


@pytest.mark.slow
def test_no_training_outlives_a_killed_call(tmp_path, data):
    process = subprocess.Popen(command(*asked(data, tmp_path, "--set", "solver.max_iter=100000")), cwd=ROOT,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = [Run(str(tmp_path / name)) for name in (SOFTMAX, L2)]
    while not any(run.snapshots() for run in runs) and process.poll() is None:
        time.sleep(0.1)
    assert process.poll() is None
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while any(map(is_working, runs)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(is_working, runs))


@pytest.mark.slow
def test_a_failed_job_is_named_and_the_others_go_on(tmp_path, data):
    out = tmp_path / "out"
    files.claim(str(out), plan.KIND)
    broken = out / "runs" / "xie2019b" / "fer2013-l2"
    broken.mkdir(parents=True)
    (broken / "notes.txt").write_text("no run")
    done = fer(*asked(data, out))
    assert done.returncode == 1
    log = str(out / "logs/xie2019b/fer2013-l2/train.log")
    assert (f"fer: failed: train xie2019b/fer2013-l2, see {log}: fer: {broken}: exists and is not a run"
            in done.stderr)
    assert done.stderr.count("fer: failed") == 1
    assert (out / SOFTMAX / "metrics.json").exists()
    assert "not measured" in done.stdout and "[a] not compared: " in done.stdout


def test_dry_run_says_what_it_takes_and_writes_nothing(tmp_path, data):
    done = fer(*asked(data, tmp_path / "out", "--dry-run"))
    assert done.returncode == 0, done.stderr
    assert "stands in for fer2013-xie2019a" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("missing  train xie2019b/fer2013-softmax: about ") and len(lines) == 5
    assert lines[-1].startswith("4 of 4 jobs are missing: about ") and " MB of snapshots" in lines[-1]
    assert not (tmp_path / "out").exists()
    assert all(" MB of memory" in line for line in lines), lines


def test_dry_run_estimates_by_the_published_counts_where_there_are_no_data(tmp_path):
    done = fer("wu2023-table1", "--only", "ckplus-wu2023", "--data", str(tmp_path), "--out", str(tmp_path / "out"),
               "--set", "net=resnet_small", "--set", "solver.batch_size=2", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith("no data  train wu2023/ckplus-") for line in lines[:3])
    assert all(": about " in line and line.endswith(" of memory, for each of 10 folds") for line in lines[:3])
    assert lines[-1].startswith("0 of 0 jobs are missing, and the data of 3 experiments: about ")
    assert " about 0 s of training" not in lines[-1]


def test_dry_run_says_what_will_fail(tmp_path, data):
    """Images of another size than the net's, and features that are not there: the data have Gabor features alone."""
    done = fer("xie2019a-table2", "--data", "fer2013-xie2019a=" + data, "--out", str(tmp_path / "out"), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert (f"missing  train xie2019a/fer2013-softmax: will fail: {data}: the images are 1x48x48, but the net "
            in done.stdout)
    assert "missing  evaluate xie2019a/fer2013-softmax on test: waits for a job that will fail" in done.stdout
    done = fer("xie2019a-table2", "--data", "fer2013-xie2019a=" + data, "--out", str(tmp_path / "out"), "--dry-run",
               "--set", "net=toy")
    assert "missing  train xie2019a/fer2013-gabor: about " in done.stdout
    assert f"missing  train xie2019a/fer2013-gsf: will fail: {data}: has no gsf features, " in done.stdout


@pytest.mark.parametrize("cores, minutes", ((1, 50), (2, 30), (8, 30)))
def test_estimate_of_many_cores_has_the_longest_chain(tmp_path, monkeypatch, cores, minutes):
    class Timed:
        def __init__(self, threads):
            pass

    monkeypatch.setattr(jobs.machine, "memory", lambda: (10, 10))
    monkeypatch.setattr(jobs, "Estimator", Timed)

    def job(name, takes, *needs):
        return plan.Job(name, [], list(needs), [str(tmp_path / name)], "", 1, lambda _: Estimate(60 * takes, 0))
    first = job("first", 20)
    made = plan.Plan({}, [first, job("second", 10, *first.makes), job("other", 20)], [], {}, {}, [], {})
    request = plan.Request((), {}, "")
    total = jobs.total(made, request, list(jobs.preview(made, request)), cores)
    assert total == jobs.Total(60 * minutes, 0, 0)


def test_two_calls_in_one_folder(tmp_path, data):
    request = requests.request(["xie2019b-table4"], ["fer2013-xie2019a=" + data], str(tmp_path), QUICK)
    with jobs._locked(str(tmp_path)):
        with pytest.raises(UserError, match="another `./fer reproduce` works"):
            jobs.run(plan.plan(request), request, 1)


SMALL = {"solver.max_iter": 4, "solver.snapshot": 4, "solver.test_interval": 4, "solver.display": 1}


@pytest.mark.slow
@pytest.mark.parametrize("table, published, net, protocol, features, batch", (
    ("xie2019a-table6", "fer2013-xie2019a", "toy", "plain", ["gsf", "sift"], 32),
    ("xie2019b-table4", "fer2013-xie2019a", "toy", "plain", ["gsf", "sift"], 32),
    ("liu2017-table5", "sfew-liu2017", "inception_narrow", "liu2017", [], 2),
    ("farzaneh2021-table1", "raf_db-farzaneh2021", "resnet_small", "farzaneh2021", [], 16),
    ("wu2023-table3", "raf_db-wu2023", "resnet_small", "wu2023", [], 64)))
def test_one_table_of_each_paper_on_drawn_faces(tmp_path, drawn, table, published, net, protocol, features, batch):
    data = drawn(protocol, features)
    changes = dict(SMALL, net=net, **{"solver.batch_size": batch})
    if protocol == "wu2023":
        changes.update({"pacing.epochs": 2, "pacing.paces": 2})
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    done = fer(table, "--data", f"{published}={data}", "--out", str(tmp_path), *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(table) and max(map(len, done.stdout.splitlines())) <= tables.WIDTH
    wanted = [one for one in values.read(table.split("-")[0]) if one.table == values.tables()[table][1]]
    with open(str(tmp_path / (table + ".csv")), newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["row"], row["column"], row["printed"]) for row in rows] == [
        (one.row, one.column, one.value) for one in wanted]
    for row, one in zip(rows, wanted):
        # Of the published table's data sets only one is there, and other data stand in for it.
        assert row["difference"] == "" and bool(row["measured"]) == (one.data == published), row
        assert row["comparable"] == ("no" if one.data == published else ""), row
        if one.data == published:
            said = row["departures"].split("; ")
            assert f"data: synthetic-{protocol} (paper: {published})" in said
            for departure in (f"net: {net} (", "solver.max_iter: 4 (", "weights: none ("):
                assert any(one.startswith(departure) for one in said), (departure, said)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Prepared folder of synthetic faces, of its first fold where it has some; twelve people instead of sixty."""
    made, write = {}, synthetic.write

    def folder(protocol, features):
        if protocol not in made:
            out = str(tmp_path_factory.mktemp("drawn") / protocol)
            prepare.prepare(prepare.Settings("synthetic", None, protocol, features=features, folds=(
                None if protocol == "plain" else [1])), out, processes=2)
            made[protocol] = out if protocol == "plain" else os.path.join(out, "fold01")
        return made[protocol]
    synthetic.write = functools.partial(write, subjects=12)
    yield folder
    synthetic.write = write


def test_without_a_terminal_the_first_line_says_where_the_trainings_are_shown(capsys):
    waiting = [types.SimpleNamespace(done=done, title=title) for title, done in (("a", True), ("b", False))]
    with subprocess.Popen(["true"]) as process:
        jobs._follow(process, waiting, "/out")
    assert capsys.readouterr().err == "1 of 2 jobs are done; `./fer watch /out` shows the trainings\n"
    with subprocess.Popen(["true"]) as process:
        jobs._follow(process, waiting[:1], "/out")
    assert capsys.readouterr().err == ""
