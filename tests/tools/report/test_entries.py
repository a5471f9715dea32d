"""Runs and other snapshots of them on one page: what is shown of each, and that nothing is mixed."""
import html
import os
import re
import shlex
import shutil

import pytest

from common import files
from common.errors import UserError
from tests.tools import hand_made
from tools.cli import main
from tools.evaluation import evaluate, predictions
from tools.evaluation.groups import evaluate_all
from tools.report import entries, faces, html_page, tables, training
from tools.report.entries import Entry
from tools.training import groups
from tools.training.run import Run


@pytest.fixture
def copied(tmp_path, trained):
    """Snapshots of 4, 8 and 12 iterations; the log says that 8 is the best of them, and 10 better still. Without what
    other tests have measured of the run."""
    measured = shutil.ignore_patterns("metrics*", "decisions*", "svm*", "respond*")
    one = Run(shutil.copytree(trained.folder, str(tmp_path / "run"), ignore=measured))
    hand_made.log(one.folder, [1.0], {0: .1, 4: .3, 8: .4, 10: .9, 12: .2})
    return one


def counts(one, snapshot, correct, split="test"):
    """Makes the metrics of a snapshot say that so many of 12 are right; the predictions say 0."""
    evaluate.evaluate(one, split, snapshot)
    path = evaluate.metrics_path(one, split, snapshot)
    files.write_json(path, {**files.read_json(path), "correct": correct, "accuracy": correct / 12})


def rows(page):
    """Of the first table: the name and the accuracy on the test split."""
    table = re.search(r'<table class="figures">(.*?)</table>', page, re.S)[1]
    texts = [[" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in re.findall("<td.*?</td>", row, re.S)]
             for row in re.findall("<tr.*?</tr>", table, re.S)[1:]]
    return [(cells[0], cells[3]) for cells in texts]


def test_a_run_and_its_snapshots_stand_side_by_side(copied, capsys):
    for snapshot, correct in ((None, 1), (4, 2), ("best", 3)):
        counts(copied, snapshot, correct)
    out = os.path.join(os.path.dirname(copied.folder), "page.html")
    assert main.main(["report", copied.folder, copied.folder + "@4", copied.folder + "@best/", "--out", out]) == 0
    with open(out, encoding="utf-8") as stream:
        page = stream.read()
    title, by = copied.experiment.title, "trained on caffe, evaluated by caffe"
    assert rows(page) == [
        (f"{title} {by}", "8.33% (1/12)"), (f"{title}, iteration 4 iteration 4 {by}", "16.67% (2/12)"),
        (f"{title}, best snapshot best on the validation split, iteration 8 {by}", "25.00% (3/12)")]
    # One training, drawn once.
    assert page.count('alt="loss over the iterations"') == 1
    printed = [html.unescape(line) for line in re.findall(r"<div>(\./fer [^<]*)</div>", page)]
    evaluations = [shlex.split(line)[2] for line in printed if line.startswith("./fer evaluate")]
    assert evaluations == [copied.folder + text for text in ("", "@4", "@best")]
    assert shlex.split(printed[-1])[1:] == ["report", *evaluations, "--out", out]
    capsys.readouterr()


def test_the_page_of_a_snapshot_does_not_replace_that_of_the_run(copied, capsys):
    assert main.main(["report", copied.folder + "@4"]) == 0
    assert capsys.readouterr().out == copied.path("report@4.html") + "\n"
    assert not os.path.exists(copied.path("report.html"))
    assert rows(html_page.render([copied], [4]))[0][1] == "not evaluated"


def test_what_is_measured_of_the_last_snapshot_is_left_out_for_another(copied):
    files.write_json(copied.path("respond_ratio.json"), {"respond_ratio": {"fear": {"eyes": 1.2}}})
    files.write_json(copied.path("metrics-every-snapshot.json"), {"split": "test", "snapshots": [
        {"iteration": at, "correct": 1, "total": 12} for at in (4, 8, 12)]})
    evaluate.evaluate(copied, "test")
    last, other = html_page.render([copied]), html_page.render([copied], [4])
    for text in ('alt="RespondRatio of fear"', "best snapshot on the test split", "Fig. 8", "Surest"):
        assert (text in last, text in other) == (True, False), text


def test_faces_and_curves_are_those_of_the_snapshot(copied):
    """The predictions of iteration 4 are written by hand: all of class 2."""
    evaluate.evaluate(copied, "test")
    evaluate.evaluate(copied, "test", 4)
    path = copied.path("decisions-test@4.csv")
    predictions.write(path, [predictions.Prediction(one.unit, one.label, 2, (0, 0, 1, 0, 0, 0, 0), one.rows)
                             for one in predictions.read(path)])
    entry, = entries.entries([copied], [4])
    assert [(one.label, one.predicted) for _, one in faces.surest(entry, "test", True, 9)] == [(2, 2), (2, 2)]
    # Constant scores: the line from corner to corner.
    assert tables.average_roc([entry])[entry.title].area == pytest.approx(.5)
    assert tables.average_roc([Entry(copied, "last")])["last"].area != pytest.approx(.5)


def test_another_best_snapshot_by_now_is_refused(copied):
    evaluate.evaluate(copied, "test", "best")
    hand_made.log(copied.folder, [1.0], {4: .3, 8: .1, 12: .2})
    with pytest.raises(UserError) as error:
        html_page.render([copied], ["best"])
    assert str(error.value) == (
        f"{copied.path('metrics@best.json')}: is of iteration 8, but the best snapshot is now that of iteration 4; "
        f"evaluate {copied.folder}@best anew")


def test_a_snapshot_that_is_not_there_is_refused(copied):
    with pytest.raises(UserError, match="run: no snapshot of iteration 5; it has 4, 8, 12"):
        html_page.render([copied], [5])


def test_a_group_has_the_best_snapshot_of_each_run(tmp_path, trained):
    """8 of the first fold, 4 of the second."""
    for name, log in (("fold01", {4: .1, 8: .3, 12: .2}), ("fold02", {4: .3, 8: .2, 12: .1})):
        hand_made.log(shutil.copytree(trained.folder, str(tmp_path / name)), [1.0], log)
    group = groups.open_(hand_made.group(tmp_path, "folds"))
    for snapshot in (None, "best"):
        evaluate_all(group, "test", snapshot)
    last, best = (files.read_json(str(tmp_path / name)) for name in ("metrics.json", "metrics@best.json"))
    page = html_page.render([group, group], [None, "best"])
    assert [test for _, test in rows(page)] == ["{:.2f}% ({}/24)".format(
        100 * one["correct"] / 24, one["correct"]) for one in (last, best)]
    assert "best on the validation split, iterations 8, 4" in page
    # Another one is the best of the first fold by now.
    hand_made.log(str(tmp_path / "fold01"), [1.0], {4: .3, 8: .2})
    with pytest.raises(UserError, match=r"metrics@best.json: is of iteration 8, 4, but .* iteration 4, 4; evaluate"):
        html_page.render([group], ["best"])


def test_another_snapshot_is_a_departure_from_the_published_figure(tmp_path):
    one = Run(hand_made.run(tmp_path / "run", "xie2019a/fer2013-center-norm-gsf", iterations=(10, 20, 30)))
    told = [[departure.here for departure in tables.departing(Entry(one, "t", snapshot))
             if departure.what == "snapshot"] for snapshot in (None, 20)]
    assert told == [[], ["iteration 20"]]


def test_titles_of_equal_snapshots_have_the_folder(tmp_path, copied):
    other = Run(shutil.copytree(copied.folder, str(tmp_path / "other")))
    title = copied.experiment.title
    assert [entry.title for entry in entries.entries([copied, other, copied, copied], ["best", "best", 4])] == [
        f"{title}, best snapshot (run)", f"{title}, best snapshot (other)", f"{title}, iteration 4", title]


def test_where_validation_was_best(copied):
    assert training.validated(Entry(copied, "t")) == [training.Validated("", (10, .9), (8, .4), (12, .2))]
    page = html_page.render([copied])
    block = page[page.index("Validation accuracy in training"):]
    assert re.findall(r'<td class="number">(.*?)</td>', block)[:3] == [
        "90.00% (iteration 10)", "40.00% (iteration 8)", "20.00% (iteration 12)"]
    hand_made.log(copied.folder, [1.0], {3: .5, 5: .5})
    assert training.validated(Entry(copied, "t")) == [training.Validated("", (3, .5), None, (5, .5))]
    assert "none was tested" in html_page.render([copied])
    hand_made.log(copied.folder, [1.0], {})
    assert training.validated(Entry(copied, "t")) == []
    assert "Validation accuracy in training" not in html_page.render([copied])


def test_best_snapshots_name_what_trained_and_evaluated_them(copied):
    files.write_json(copied.path("run.json"), {**copied.info, "engine": "torch", "trained_before_on": [
        {"engine": "caffe", "gpu": None, "precision": "float32", "up_to": 4, "versions": {}}]})
    for split, engine in (("", "torch"), ("-val", "caffe")):
        files.write_json(copied.path(f"metrics-every-snapshot{split}.json"), {
            "split": "s", "engine": engine, "snapshots": [
                {"iteration": at, "correct": 1, "total": 12} for at in (4, 8, 12)]})
    named = [row.computed for row in tables.best_snapshots(Entry(copied, "t"))]
    assert named == 2 * ["trained on caffe up to iteration 4, then torch, evaluated by caffe, torch"]
    page = html_page.render([copied])
    assert page.count(named[0]) == 2
    files.write_json(copied.path("metrics.json"), {**evaluate.evaluate(copied, "test"), "engine": "torch"})
    assert "trained on caffe up to iteration 4, then torch, evaluated by torch<" in html_page.render([copied])
