"""The page: complete, self-contained, the same twice."""
import dataclasses
import html.parser
import re
import shutil

import numpy as np
import pytest

from common import experiment, files
from common.errors import UserError
from common.machine import DEFAULT
from data_prep.pictures import jpeg
from tests import small_data
from tools.analysis import respond_ratio, svm
from tools.cli import main
from tools.evaluation import evaluate, predictions
from tools.evaluation.groups import evaluate_all
from tools.report import entries, figures, html_page, pictures, sections, tables
from tools.report.entries import Entry
from tools.report.papers import xie2019a, xie2019a_faces
from tools.training import groups, run
from tools.training.caffe_process import Engine
from tools.training.run import Run


@pytest.fixture(scope="module")
def page(trained):
    for split in ("val", "test"):
        evaluate.evaluate(trained, split)
    return html_page.render([trained])


@pytest.fixture(scope="module")
def softmax(tmp_path_factory, data):
    """Two seeds of a short training."""
    chosen = experiment.load("xie2019a/fer2013-toy-softmax", ["solver.batch_size=8", "solver.max_iter=4"])
    group = groups.train(chosen, data, str(tmp_path_factory.mktemp("runs") / "seeds"), None, [1, 2], 1, DEFAULT, 1)
    evaluate_all(group, "test")
    return group


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    chosen = experiment.load("xie2019a/fer2013-toy-alaw", [
        "solver.batch_size=8", "weighting.restart_iterations=2", "weighting.rounds=2", "weighting.kappa=1e-3"])
    trained = run.train(chosen, small_data.prepared(folder, ("gsf", "sift")), str(folder / "run"), None, Engine(1))
    evaluate.evaluate(trained, "test")
    return trained


def test_it_needs_nothing_from_outside(page):
    targets = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert targets and all(target.startswith("data:") for target in targets)
    assert "<script" not in page and "@import" not in page and "url(" not in page


def test_it_shows_what_was_measured(page, trained):
    metrics = evaluate.evaluate(trained, "test")
    assert "({}/{})".format(metrics["correct"], metrics["total"]) in page
    for text in ("softmax + center + GABOR", "Surest right predictions", "weight 0.001", "OpenBLAS", "max_iter: 12",
                 'alt="confusion matrix"', 'alt="loss over the iterations"', 'alt="accuracy over the iterations"',
                 "val accuracy"):
        assert text in page
    samples = re.findall(r'<div class="faces (?:right|wrong)">.*?</div>', page, re.S)
    assert sum(block.count("<figure>") for block in samples) == 12


def test_what_a_run_departs_in_stands_under_the_published_figure(tmp_path, trained, page):
    assert "not compared" not in page  # the paper prints nothing of it
    one = copied(trained, tmp_path / "run")
    info = one.info
    info["experiment"]["name"] = "xie2019a/fer2013-gabor"
    files.write_json(one.path("run.json"), info)
    shown = html_page.render([one])
    assert re.search(r">72.08 \(Table II\)\s*<span class=\"unit\">\[1\]</span>", shown)
    cell = re.search(r"<p class=\"note\">\[1\] not compared: (.*?)</p>", shown)[1]
    for text in ("weights: none (paper: face_model.caffemodel)", "net: toy (paper: face_resnet)",
                 "solver.max_iter: 12 (paper: 30000)", "data: fer2013-plain (paper: fer2013-xie2019a)",
                 "images: 12 (paper: 3589)"):
        assert text in cell, text


def test_the_best_snapshot_has_a_row_of_its_own(tmp_path, trained, page):
    """On the test split iteration 4 is best, with 9 of 12; on the validation split 8, which has 6 of 12 in the test."""
    assert "best snapshot" not in page
    one = copied(trained, tmp_path / "run")

    def keep(split, rights):
        files.write_json(one.path(f"metrics-every-snapshot{split}.json"), {"split": "s", "snapshots": [
            {"iteration": at, "correct": right, "total": 12} for at, right in zip((4, 8, 12), rights)]})
    keep("", (9, 6, 5))
    shown = html_page.render([one])
    assert re.search(r"best snapshot on the test split, chosen by it<br>.*?iteration 4<.*?>75.00 \(9/12\)", shown, re.S)
    assert "best snapshot on the validation split" not in shown
    keep("-val", (1, 8, 7))
    shown = html_page.render([one])
    assert re.search(r"best snapshot on the validation split<br>.*?iteration 8<.*?>66.67 \(8/12\)<.*?>50.00 \(6/12\)<",
                     shown, re.S)
    assert re.search(r"on the test split, chosen by it<br>.*?>8.33 \(1/12\)<.*?>75.00 \(9/12\)<", shown, re.S)
    # The run's own row is still that of the last snapshot.
    metrics = files.read_json(one.path("metrics.json"))
    assert shown.index("({}/12)".format(metrics["correct"])) < shown.index("best snapshot")
    entry = Entry(one, "a run")
    assert tables.best_snapshots(entry)[1].title == "best snapshot on the test split, chosen by it"
    dacl = Entry(FarzanehRun(one.folder), "a run")
    assert tables.best_snapshots(dacl)[1].title == "best snapshot on the test split, as the authors' code does"


class FarzanehRun(Run):
    experiment = experiment.load("farzaneh2021/synthetic-dacl")


def test_roc_curve_and_what_is_read_from_it(page, trained):
    metrics = evaluate.evaluate(trained, "test")
    assert 'alt="average ROC curves"' in page
    for measure in ("auc", "sensitivity", "specificity"):
        assert f'<td class="number">{metrics[measure]:.4f}</td>' in page


def test_respond_ratios_of_a_run_that_has_them(tmp_path, trained, page):
    assert "RespondRatio" not in page
    one = copied(trained, tmp_path / "run")
    rows = {"fear": {"eyes": 1.234, "mouth": 0.5}, "happy": {"eyes": 0.75, "mouth": 1.5}}
    files.write_json(one.path(respond_ratio.FILE), {"respond_ratio": rows})
    shown = html_page.render([one])
    assert 'alt="RespondRatio of fear"' in shown
    assert re.search(r'<td>fear</td><td class="number">1.23</td><td class="number">0.50</td>', shown)
    assert re.search(r'<td>happy</td><td class="number">0.75</td><td class="number">1.50</td>', shown)


def test_it_is_well_formed(page):
    class Checker(html.parser.HTMLParser):
        open_tags = []

        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "img", "br"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag
    checker = Checker()
    checker.feed(page)
    assert not checker.open_tags


def test_run_without_evaluation(tmp_path, data, small):
    bare = html_page.render([run.train(small, data, str(tmp_path / "bare"), None, Engine(1))])
    assert bare.count("not evaluated") == 2 and "confusion matrix" not in bare and "Fig. 10" not in bare


def test_data_that_were_prepared_anew_are_refused(tmp_path, trained):
    one = copied(trained, tmp_path / "run")
    files.write_json(one.path("run.json"), dict(one.info, manifest="other"))
    with pytest.raises(UserError, match="was prepared anew since .*/run was trained"):
        html_page.render([one])


def test_same_runs_give_the_same_page(page, trained):
    assert html_page.render([trained]) == page


def copied(one, folder):
    shutil.copytree(one.folder, str(folder))
    return Run(str(folder))


def test_faces_are_those_that_the_feature_loss_alone_gets_right(tmp_path, trained, softmax):
    """Of the test images 36 to 47, of the classes 0 to 6 and 0 to 4: ours wins 38 and 40, and the SVM gets 40."""
    baseline, ours = copied(groups.runs(softmax)[0], tmp_path / "a"), copied(trained, tmp_path / "b")
    labels = [number % 7 for number in range(12)]

    def write(one, wrong):
        decided = [predictions.Prediction(str(row), label, (label + (row in wrong)) % 7, (1 / 7,) * 7, (row,))
                   for row, label in zip(range(36, 48), labels)]
        predictions.write(one.path("decisions-test.csv"), decided)
    page = entries.entries([baseline, ours])

    def shown():
        return [face.text.split("\n") for face in xie2019a.faces_gained(page).rows[0].faces]
    write(baseline, {38, 39, 40})
    write(ours, {36, 37, 39})
    assert shown() == [["fear", "softmax: happy"], ["sad", "softmax: surprise"]]
    assert [row.title for row in xie2019a.heat_maps(page).rows] == ["softmax", "softmax + center + GABOR"]

    predicted = [label if row == 40 else 6 for row, label in zip(range(36, 48), labels)]
    test = svm.Split(np.zeros((12, 1)), np.array(labels), np.ones(12, bool), np.arange(36, 48))
    data = trained.info["data"]
    try:
        svm._save(svm.data_prefix(data, "gabor"), data, [svm.Result(
            "gabor", "published", "linear", (1, 12), (1, 12), (1, 12), predicted)], test, None)
        not_by_svm = shown()
        text = html_page.render([baseline, ours])
    finally:
        files.remove(svm.data_prefix(data, ""))
    assert not_by_svm == [["fear", "softmax: happy", "GABOR, SVM: neutral"]]
    assert ("2 test predictions are right with softmax + center + GABOR and wrong with softmax, 2 are the other way "
            "round. The untuned SVM on GABOR gets 1 of the former wrong too.") in text
    assert "untuned SVM (linear)" in text


def test_a_fifth_of_each_heat_map_is_in_colour(trained, page):
    faces, maps, *_ = xie2019a.sections([Entry(trained, "t")])
    assert faces.title == "Faces" and len(faces.rows[0].faces) <= xie2019a_faces.FACES
    row, = maps.rows
    assert len(row.faces) == len(faces.rows[0].faces)
    for face in row.faces:
        colored = np.ptp(face.image.astype(int), axis=2) > 40
        assert colored.mean() == pytest.approx(0.2, abs=0.05)
    for face in row.faces:
        assert jpeg(face.image) in page


def test_group_of_seeds(softmax, page, trained):
    accuracies = [files.read_json(one.path("metrics.json"))["accuracy"] for one in groups.runs(softmax)]
    found = html_page.render([softmax, trained])
    assert f"mean of 2 seeds<br>deviation {100 * np.std(accuracies, ddof=1):.2f}%" in found
    assert 'alt="test accuracy of repeated runs"' in found and 'alt="test accuracy of repeated runs"' not in page
    assert "softmax, all seeds" in found and found.count("Surest right predictions") == 2


def test_group_of_folds(tmp_path, adapted):
    """Twice the same fold: the matrix of all together is twice that of one."""
    files.write_json(str(tmp_path / "all" / "group.json"), {"kind": "folds", "members": ["fold01", "fold02"]})
    for name in ("fold01", "fold02"):
        copied(adapted, tmp_path / "all" / name)
    group = groups.open_(str(tmp_path / "all"))
    evaluate_all(group, "test")
    single = files.read_json(adapted.path("metrics.json"))
    entry = Entry(group, "t")
    section = sections.section(entry)
    twice = dict(single, confusion=(2 * np.array(single["confusion"])).tolist())
    assert section.confusion == pictures.svg(figures.confusion_matrix(twice))
    assert len(xie2019a.loss_weights([entry]).draw) == 2
    page = html_page.render([group])
    table = page.split("Folds, test split")[1].split("</table>")[0]
    for name in ("fold01", "fold02"):
        assert re.search(r"<td>{}</td>.*\({}/12\)</td></tr>".format(name, single["correct"]), table)
    assert "Fig. 12" in page and "Surest right predictions of fold01" in page
    assert "({}/24)".format(2 * single["correct"]) in page


def test_runs_that_differ_in_kappa_make_a_table(tmp_path, adapted, page):
    less = copied(adapted, tmp_path / "less")
    info = less.info
    info["experiment"]["weighting"]["kappa"] = 1e-5
    info["experiment"]["name"] = "xie2019a/fer2013-alaw"
    files.write_json(less.path("run.json"), info)
    shown = html_page.render([less, adapted])
    assert '<td class="number name">72.67 (Table VII, VIII, IX)' in shown
    table = shown.split("Table VIII)")[1].split("</table>")[0]
    assert re.findall(r"<td>([\de.-]+)</td><td>not evaluated</td>", table) == ["0.001", "1e-05"]
    assert table.count("70.35, 72.67 [1]") == 1 and "[1] not compared: weights: none (paper: " in table
    assert "Table VIII" not in page and "Table VIII" not in html_page.render([adapted, adapted])


def test_single_adaptive_run_shows_its_objectives(adapted):
    figure = xie2019a.sections([Entry(adapted, "t")])[-1]
    weights, objectives = (draw().axes[0] for draw in figure.draw)
    rounds = files.read_json(adapted.path("weighting.json"))["rounds"]
    alone = files.read_json(adapted.path("metrics.json"))["alone"]
    for axes, quantity in ((weights, "weights"), (objectives, "objective")):
        np.testing.assert_allclose([line.get_ydata() for line in axes.lines[:2]],
                                   [[values[quantity][feature] for values in rounds] for feature in ("gsf", "sift")])
    assert [line.get_label() for line in weights.lines[:2]] == [
        "{}, test {:.2f}%".format(feature.upper(), 100 * alone[feature]["correct"] / alone[feature]["total"])
        for feature in ("gsf", "sift")]


def test_runs_of_the_same_title_carry_their_folders_names(trained, softmax):
    first, second = groups.runs(softmax)
    assert [entry.title for entry in entries.entries([first, trained, second])] == [
        "softmax (seed01)", "softmax + center + GABOR", "softmax (seed02)"]


def test_the_title_names_losses_that_were_added_and_removed(tmp_path, trained):
    for name, changes, title in (
            ("fer2013-toy-softmax", ["losses.center={}", "losses.center.weight=0.5"], "softmax, losses.center={}"),
            ("fer2013-toy-center-gabor", ["losses.gabor=none"], "softmax + center + GABOR, losses.gabor=none"),
            ("fer2013-toy-center-gabor", ["losses.gabor.weight=0.5"], "softmax + center + GABOR"),
            ("fer2013-toy-alaw", ["weighting=none"], "ALAW, alternative loss with adaptive weights, weighting=none")):
        one = copied(trained, tmp_path / title)
        ran = experiment.load("xie2019a/" + name, changes)
        files.write_json(one.path("run.json"), {**one.info, "experiment": dataclasses.asdict(ran)})
        assert [entry.title for entry in entries.entries([one])] == [title]


def test_out_takes_the_place_of_a_report_only(trained, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "notes.html").write_text("<html>notes</html>")
    for name, said in (("folder", "is a folder"), ("notes.html", "was not made by caffe-fer")):
        assert main.main(["report", trained.folder, "--out", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"fer: {tmp_path / name}: ") and said in error and error.count("\n") == 1
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "notes.html").read_text() == "<html>notes</html>"
    for _ in range(2):
        assert main.main(["report", trained.folder, "--out", str(tmp_path / "page.html")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "notes.html", "page.html"]
