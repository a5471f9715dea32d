"""Figures as targets: the jobs that they take, and what is drawn of finished runs."""
import csv
import os
import shutil

import cv2
import numpy as np
import pytest

from data_prep import files
from data_prep.errors import UserError
from prototxt import experiment
from tests.tools.test_plan import planned, prepared, titles
from tools import drawings, evaluate, figure_targets, plan
from tools.run import Run

# The list: every figure of the papers with results.
FIGURES = {"xie2019a": range(8, 14), "xie2019b": range(7, 10), "liu2017": (5, 6), "farzaneh2021": range(3, 6),
           "wu2023": range(4, 9)}


def test_every_figure_with_results_is_a_target():
    assert set(figure_targets.TARGETS) == {
        "{}-fig{}".format(paper, number) for paper, numbers in FIGURES.items() for number in numbers}
    for name, target in figure_targets.TARGETS.items():
        assert callable(getattr(drawings, target.draw)), name
        for use in target.uses:
            assert not use.experiment or experiment.load(use.experiment).paper == name.partition("-")[0]


def test_an_unknown_name_has_close_matches(tmp_path):
    with pytest.raises(UserError, match="no table or figure 'xie2019a-fig14'; near to it: .*xie2019a-fig13"):
        planned(tmp_path, "xie2019a-fig14")


def test_ten_seeds_of_each_are_jobs_of_their_own(tmp_path):
    prepared(tmp_path / "data", "fer2013")
    made = planned(tmp_path, "xie2019a-fig11", changes=["solver.max_iter=20", "solver.snapshot=20"])
    trained = [job for job in made.jobs if job.title.startswith("train")]
    runs = str(tmp_path / "out" / "runs" / "xie2019a")
    assert [os.path.relpath(job.command[job.command.index("--out") + 1], runs) for job in trained] == [
        "{}-seeds/seed{:02d}".format(name, seed)
        for name in ("fer2013-toy-norm", "fer2013-toy-center-norm-gabor") for seed in range(1, 11)]
    assert [job.command[-1] for job in trained] == 2 * ["solver.random_seed={}".format(seed) for seed in range(1, 11)]
    assert [(group.kind, len(group.members)) for group in made.groups] == [("seeds", 10)] * 2
    evaluated = [job for job in made.jobs if job.command[1] == "evaluate"]
    assert [len(job.needs) for job in evaluated] == [10, 10]
    assert evaluated[0].makes == [runs + "/fer2013-toy-norm-seeds/metrics.json"]
    plan.write(made, str(tmp_path / "out"))
    assert len(files.read_json(runs + "/fer2013-toy-norm-seeds/group.json")["members"]) == 10


def test_tables_and_figures_share_their_jobs(tmp_path):
    prepared(tmp_path / "data", "fer2013-xie2019a")
    table = planned(tmp_path, "xie2019b-table4")
    both = planned(tmp_path, "xie2019b-table4", "xie2019b-fig8")
    assert titles(both) == titles(table) and [len(cells) for cells in both.drawn.values()] == [2]
    with_snapshots = planned(tmp_path, "xie2019b-fig9")
    snapshots = [job for job in with_snapshots.jobs if "--every-snapshot" in job.command]
    assert len(snapshots) == 4 and all(
        job.makes == [os.path.join(job.command[-1], "metrics-every-snapshot.json")] for job in snapshots)


def test_only_and_missing_data(tmp_path):
    prepared(tmp_path / "data", "ckplus-xie2019a", folds=("fold01", "fold02"))
    made = planned(tmp_path, "xie2019a-fig13", changes=())
    assert [bool(cell.folder) for cell in made.drawn["xie2019a-fig13"]] == [False, False, True, False]
    assert set(made.missing) == {"fer2013-xie2019a", "oulu_casia-xie2019a", "mmi-xie2019a"}
    assert "--features gsf sift" in made.missing["mmi-xie2019a"]
    assert len(planned(tmp_path, "xie2019a-fig13", changes=(), only=["ckplus-xie2019a"]).drawn["xie2019a-fig13"]) == 1
    with pytest.raises(UserError, match="xie2019a-fig11 shows nothing of ckplus-xie2019a; it shows fer2013"):
        planned(tmp_path, "xie2019a-fig11", only=["ckplus-xie2019a"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, trained):
    """Two runs of one training, evaluated, as those of two experiments; and a group of three seeds."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("one", "two", "seeds/seed01", "seeds/seed02", "seeds/seed03"):
        os.makedirs(os.path.dirname(str(folder / name)), exist_ok=True)
        run = Run(shutil.copytree(trained.folder, str(folder / name)))
        evaluate.evaluate(run, "test")
    for number, correct in enumerate((6, 9, 3), start=1):
        path = str(folder / "seeds" / "seed{:02d}".format(number) / "metrics.json")
        files.write_json(path, dict(files.read_json(path), correct=correct, accuracy=correct / 12))
    files.write_json(str(folder / "seeds" / "group.json"), {"kind": "seeds", "members": ["seed01", "seed02", "seed03"]})
    counts = [files.read_json(str(folder / "seeds" / name / "metrics.json")) for name in ("seed01", "seed02", "seed03")]
    files.write_json(str(folder / "seeds" / "metrics.json"), dict(counts[0], seeds=[
        {"name": name, "correct": one["correct"], "total": 12}
        for name, one in zip(("seed01", "seed02", "seed03"), counts)]))
    return folder


def drawn(name, out, *folders):
    """The figure of runs that stand for its experiments, its picture, and its numbers."""
    cells = [plan.Cell(figure, folder and str(folder)) for (figure, _), folder in zip(
        [cell for cell in figure_targets.cells(name) if cell[0].experiment], folders)]
    made = plan.Plan({}, [], [], {}, {}, [], {}, (), {name: cells})
    one, = drawings.write(made, str(out))
    if not one.paths:
        return one, None, None
    assert [os.path.basename(path) for path in one.paths] == [name + kind for kind in (".png", ".svg", ".csv")]
    picture = cv2.imread(one.paths[0])
    assert min(picture.shape[:2]) > 100 and picture.std() > 5
    with open(one.paths[2], newline="") as stream:
        return one, picture, list(csv.reader(stream))


def test_repetitions_by_hand(tmp_path, finished):
    """6, 9 and 3 of 12: 50, 75 and 25 %, mean 50, variance 625."""
    _, _, table = drawn("xie2019a-fig11", tmp_path, finished / "seeds", None)
    assert table[0] == ["run", "seed", "correct", "total", "accuracy, %"]
    assert [row[1:] for row in table[1:]] == [["seed01", "6", "12", "50"], ["seed02", "9", "12", "75"],
                                              ["seed03", "3", "12", "25"], ["mean", "", "", "50"],
                                              ["variance", "", "", "625"]]


def test_the_same_runs_give_the_same_bytes(tmp_path, finished):
    for out in ("a", "b"):
        drawn("xie2019a-fig13", tmp_path / out, finished / "one")
    for kind in ("png", "svg", "csv"):
        both = [(tmp_path / out / ("xie2019a-fig13." + kind)).read_bytes() for out in ("a", "b")]
        assert both[0] == both[1]


def test_confusion_matrices_have_the_counts_of_the_metrics(tmp_path, finished):
    one, _, table = drawn("xie2019a-fig13", tmp_path, finished / "one", None, finished / "two")
    metrics = files.read_json(str(finished / "one" / "metrics.json"))
    counts = np.array(metrics["confusion"])
    assert [int(row[4]) for row in table[1:]] == 2 * counts.ravel().tolist()
    row = 2
    assert float(table[1 + 7 * row + 1][5]) == pytest.approx(100 * counts[row, 1] / counts[row].sum(), rel=1e-4)
    assert "without xie2019a/oulu_casia-alaw: no data" in one.notes


def test_accuracies_of_all_snapshots(tmp_path, finished):
    run = Run(str(finished / "one"))
    for split in ("val", "test"):
        found = list(evaluate.every_snapshot(run, split))
    _, _, table = drawn("xie2019b-fig9", tmp_path, finished / "one", finished / "two")
    assert [row[1:5] for row in table[1:] if row[1] == "test"] == [
        ["test", str(one["iteration"]), str(one["correct"]), "12"] for one in found]
    assert [row[1] for row in table[1:]] == ["validation"] * 3 + ["test"] * 3


def test_what_is_not_trained_or_evaluated_is_named(tmp_path, finished):
    begun = Run(shutil.copytree(str(finished / "one"), str(tmp_path / "begun")))
    os.unlink(begun.weights_of(12))
    one, _, _ = drawn("xie2019a-fig13", tmp_path / "out", tmp_path / "begun")
    assert one.paths == [] and one.notes == ["without xie2019a/fer2013-alaw: not measured",
                                             "not drawn: its runs are not there yet"]
    assert not os.path.exists(str(tmp_path / "out"))


def test_samples_are_shown_with_prediction_and_truth(tmp_path, finished):
    _, _, table = drawn("farzaneh2021-fig3", tmp_path, finished / "one")
    decided = {row["unit"]: row for row in csv.DictReader(open(str(finished / "one" / "decisions-test.csv")))}
    classes = files.read_json(str(finished / "one" / "metrics.json"))["classes"]
    assert len(table) > 5
    for _, unit, predicted, true, _ in table[1:]:
        assert (predicted, true) == tuple(classes[int(decided[unit][key])] for key in ("predicted", "label"))
