"""Each of the papers' figures, drawn of result files that are made by hand: its numbers are those of the files."""
import csv
import os
import warnings

import cv2
import numpy as np
import pytest

from common import files
from tests.tools import hand_made, small_pairs
from tools.analysis.activations import Grid
from tools.evaluation.predictions import Prediction, write
from tools.report.papers import farzaneh2021, wu2023_paces, xie2019a, xie2019a_faces
from tools.reproduce import figures, plan, targets

# Of three classes: 9 of 12, and 4 of 12.
MANY, FEW = [[3, 1, 0], [0, 4, 0], [2, 0, 2]], [[1, 3, 0], [0, 1, 3], [2, 0, 2]]


def drawn(name, out, *folders):
    """What is said of a figure of runs that stand for its experiments, and its numbers, without their last column,
    which is always the same."""
    wanted = [cell for cell, _ in targets.cells(name) if cell.experiment]
    cells = [plan.Cell(figure, folder and str(folder)) for figure, folder in zip(wanted, folders)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, = figures.write(plan.Plan({}, [], [], {}, {}, [], {}, (), {name: cells}), str(out))
    assert [os.path.basename(path) for path in one.paths] == [name + "." + kind for kind in figures.KINDS]
    picture = cv2.imread(one.paths[0])
    assert min(picture.shape[:2]) > 100 and picture.std() > 5
    with open(one.paths[2], newline="") as stream:
        table = list(csv.reader(stream))
    departs = any(note.startswith("Departures ") for note in one.notes)
    assert [row[-1] for row in table] == ["comparable"] + ["no" if departs else "yes"] * (len(table) - 1)
    return one, [row[:-1] for row in table]


def test_repetitions(tmp_path):
    """6, 9 and 3 of 12 are 50, 75 and 25 %: mean 50, variance 625. Three seeds are not the paper's ten."""
    for name in ("seed01", "seed02", "seed03"):
        hand_made.run(tmp_path / "seeds" / name, "xie2019a/fer2013-toy-norm")
    group = hand_made.group(tmp_path / "seeds", "seeds", metrics={"seeds": [
        {"name": f"seed0{seed}", "correct": correct, "total": 12}
        for seed, correct in enumerate((6, 9, 3), start=1)]})
    one, table = drawn("xie2019a-fig11", tmp_path / "out", group)
    assert table[0] == ["run", "seed", "correct", "total", "accuracy, %"]
    assert [row[1:] for row in table[1:]] == [["seed01", "6", "12", "50"], ["seed02", "9", "12", "75"],
                                              ["seed03", "3", "12", "25"], ["mean", "", "", "50"],
                                              ["variance", "", "", "625"]]
    assert "Departures from the paper: trainings: 3 with other seeds (paper: 10 with other seeds)" in one.notes


def test_ten_seeds_are_no_departure(tmp_path):
    for seed in xie2019a.TEN_SEEDS:
        hand_made.run(tmp_path / "seeds" / f"seed{seed:02d}", "xie2019a/fer2013-toy-norm")
    group = hand_made.group(tmp_path / "seeds", "seeds", metrics={"seeds": [
        {"name": f"seed{seed:02d}", "correct": 1, "total": 2} for seed in xie2019a.TEN_SEEDS]})
    one, table = drawn("xie2019a-fig11", tmp_path / "out", group)
    assert not [note for note in one.notes if "Departures" in note] and len(table) == 13


def test_loss_weights_of_the_folds(tmp_path):
    for fold, step in (("fold01", 0.25), ("fold02", -0.5)):
        rounds = [{"round": number, "weights": {"gsf": 1 + step * number, "sift": 1 - step * number},
                   "objective": {"gsf": 0.5, "sift": 0.75}} for number in (1, 2)]
        hand_made.run(tmp_path / "alaw" / fold, "xie2019a/oulu_casia-alaw", iterations=(1000, 2000),
                      weighting={"rounds": rounds}, metrics={"alone": {"gsf": {"correct": 3, "total": 4},
                                                                       "sift": {"correct": 1, "total": 4}}})
    _, table = drawn("xie2019a-fig12", tmp_path / "out", hand_made.group(tmp_path / "alaw", "folds", metrics={}))
    assert table == [
        ["fold", "round", "feature", "loss weight", "objective", "alone correct", "alone total"],
        ["fold01", "1", "gsf", "1.25", "0.5", "3", "4"], ["fold01", "1", "sift", "0.75", "0.75", "1", "4"],
        ["fold01", "2", "gsf", "1.5", "0.5", "3", "4"], ["fold01", "2", "sift", "0.5", "0.75", "1", "4"],
        ["fold02", "1", "gsf", "0.5", "0.5", "3", "4"], ["fold02", "1", "sift", "1.5", "0.75", "1", "4"],
        ["fold02", "2", "gsf", "0", "0.5", "3", "4"], ["fold02", "2", "sift", "2", "0.75", "1", "4"]]


@pytest.mark.parametrize("name, one, two", (
    ("xie2019a-fig13", "fer2013-alaw", "oulu_casia-alaw"), ("farzaneh2021-fig4", "raf_db-softmax", "raf_db-center"),
    ("wu2023-fig4", "ckplus-spndl", "oulu_casia-spndl")))
def test_confusion_matrices(tmp_path, name, one, two):
    paper = name.partition("-")[0]
    folders = [hand_made.run(tmp_path / run, f"{paper}/{run}", metrics=hand_made.metrics(matrix, data))
               for run, matrix, data in ((one, MANY, "synthetic faces"), (two, FEW, "other faces"))]
    _, table = drawn(name, tmp_path / "out", *folders)
    assert len(table) == 1 + 2 * 9
    assert [int(row[4]) for row in table[1:]] == sum(MANY + FEW, [])
    assert [float(row[5]) for row in table[7:10]] == [50, 0, 50]
    assert [row[2:4] for row in table[1:5]] == [["angry", "angry"], ["angry", "disgust"], ["angry", "fear"],
                                                ["disgust", "angry"]]
    assert table[1][1].startswith("synthetic faces for ") and table[10][1].startswith("other faces for ")


def test_respond_ratios(tmp_path):
    """Of two folds the mean."""
    ratios = {"mmi-one_map-norm": (1.0, 2.0), "mmi-one_map-l2": (0.25, 0.75)}
    folders = []
    for name, values in ratios.items():
        for fold, value in zip(("fold01", "fold02"), values):
            folder = hand_made.run(tmp_path / name / fold, "xie2019b/" + name)
            files.write_json(folder + "/respond_ratio.json", {"respond_ratio": {
                "fear": {"nose root": value, "mouth": 2 * value}, "happy": {"nose root": 9, "mouth": 9}}})
        folders.append(hand_made.group(tmp_path / name, "folds"))
    one, table = drawn("xie2019b-fig7", tmp_path / "out", *folders)
    assert [row[1:] for row in table] == [["part", "RespondRatio"], ["nose root", "1.5"], ["mouth", "3"],
                                          ["nose root", "0.5"], ["mouth", "1"]]
    assert "Departures from the paper: folds: 2 of 10 (paper: 10)" in one.notes


def test_roc_curves(tmp_path):
    """Two classes, three units: the first one's curve goes through (0, 0.5), as one of two comes first, and its area
    is 0.5. So is the other's, whose scores are those from 1."""
    folder = hand_made.run(tmp_path / "softmax", "xie2019b/fer2013-softmax", metrics={})
    write(folder + "/decisions-test.csv", [
        Prediction(str(row), label, int(score < 0.5), (score, 1 - score), (row,))
        for row, (label, score) in enumerate(((0, 0.9), (1, 0.6), (0, 0.3)))])
    _, table = drawn("xie2019b-fig8", tmp_path / "out", folder)
    assert {row[1] for row in table[1:]} == {"0.5"}
    # At 0: 0.5 of the first and 0 of the second; the second jumps to 1 at 0.5.
    assert [[float(value) for value in row[2:]] for row in table[1:]] == [
        [0, 0], [0, 0.25], [0.5, 0.25], [0.5, 0.75], [1, 0.75], [1, 1]]


def test_accuracy_of_snapshots(tmp_path):
    counts = {"": (3, 6), "-val": (9, 12)}
    folder = hand_made.run(tmp_path / "norm", "xie2019b/fer2013-norm-2", iterations=(1000, 2000))
    for part, rights in counts.items():
        files.write_json(f"{folder}/metrics-every-snapshot{part}.json", {"snapshots": [
            {"iteration": iteration, "correct": right, "total": 12} for iteration, right in zip((1000, 2000), rights)]})
    _, table = drawn("xie2019b-fig9", tmp_path / "out", folder)
    assert [row[1:] for row in table[1:]] == [
        ["validation", "1000", "9", "12", "75"], ["validation", "2000", "12", "12", "100"],
        ["test", "1000", "3", "12", "25"], ["test", "2000", "6", "12", "50"]]


def test_what_evaluated_departs_too(tmp_path):
    """The net was trained on Caffe, and its results are those of the engine on PyTorch."""
    def told(name, number):
        one, _ = drawn(f"xie2019b-fig{number}", tmp_path / f"out-{name}", tmp_path / name)
        return "evaluated by: torch (paper: caffe)" in "\n".join(one.notes)
    for engine in ("caffe", "torch"):
        hand_made.run(tmp_path / engine, "xie2019b/fer2013-norm-2")
        for part in ("", "-val"):
            files.write_json(f"{tmp_path / engine}/metrics-every-snapshot{part}.json", {"engine": engine, "snapshots": [
                {"iteration": hand_made.ITERATIONS, "correct": 3, "total": 12}]})
        assert told(engine, 9) == (engine == "torch")
        folder = hand_made.run(tmp_path / f"ratio-{engine}", "xie2019b/mmi-one_map-norm")
        files.write_json(folder + "/respond_ratio.json", {"engine": engine, "respond_ratio": {"fear": {"mouth": 2}}})
        assert told(f"ratio-{engine}", 7) == (engine == "torch")
        folder = hand_made.run(tmp_path / f"roc-{engine}", "xie2019b/fer2013-softmax", metrics={"engine": engine})
        write(folder + "/decisions-test.csv", [Prediction(str(row), row % 2, 0, (0.5, 0.5), (row,))
                                               for row in range(4)])
        assert told(f"roc-{engine}", 8) == (engine == "torch")


def test_loss_and_accuracy_of_passes(tmp_path):
    """Two passes of two iterations: means 3.5 and 1.5."""
    folders = []
    for name in ("sfew-1b-n1", "sfew-2b-nm"):
        folders.append(hand_made.run(tmp_path / name, "liu2017/" + name, changes=["solver.test_interval=2"],
                                     metrics_val={}))
        hand_made.log(folders[-1], (4, 3, 2, 1), {0: 0.125, 2: 0.25, 4: 0.5})
    one, table = drawn("liu2017-fig5", tmp_path / "out", folders[0], None, None, folders[1])
    assert table[0] == ["run", "epoch", "softmax loss of training"]
    assert [row[1:] for row in table[1:]] == 2 * [["1", "3.5"], ["2", "1.5"]]
    assert "without liu2017/sfew-2b-n1: no data" in one.notes
    _, table = drawn("liu2017-fig6", tmp_path / "out", folders[0], None, None, folders[1])
    assert [row[1:] for row in table[1:]] == 2 * [["0", "12.5"], ["1", "25"], ["2", "50"]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return small_pairs.prepared(tmp_path_factory.mktemp("pairs"))


def decide(folder, right):
    """right: row -> how sure; all others are wrong, and less sure. Test images follow 17 and 16 others."""
    write(folder + "/decisions-test.csv", [
        Prediction(f"unit {row}", number % 3, number % 3 if row in right else (number + 1) % 3,
                 tuple(right.get(row, 0.4) for _ in range(3)), (row,)) for number, row in enumerate(range(33, 45))])


def test_samples(tmp_path, pairs):
    """Row 33 is of class 0, 34 of 1, 36 of 0 again."""
    folder = hand_made.run(tmp_path / "dacl", "farzaneh2021/raf_db-dacl", pairs,
                           metrics=hand_made.metrics(MANY, "drawn faces"))
    decide(folder, {33: 0.5, 36: 0.75, 34: 0.625})
    one, table = drawn("farzaneh2021-fig3", tmp_path / "out", folder)
    assert [row[1:] for row in table[1:4]] == [["unit 36", "class0", "class0", "0.75"],
                                               ["unit 34", "class1", "class1", "0.625"],
                                               ["unit 33", "class0", "class0", "0.5"]]
    assert len(table) == 1 + 3 + farzaneh2021.SAMPLES
    assert all(predicted != true for _, _, predicted, true, _ in table[4:])
    assert "data: synthetic-wu2023 (paper: raf_db-farzaneh2021)" in "\n".join(one.notes)
    with open(one.paths[3], encoding="utf-8") as stream:
        note = stream.read()
    assert "\n- Departures from the paper: weights: none (paper: MS-Celeb-1M); data: synthetic-wu2023" in note
    assert "\n- DACL: `../dacl`\n" in note


def test_attention(tmp_path, pairs, monkeypatch):
    folder = hand_made.run(tmp_path / "dacl", "farzaneh2021/raf_db-dacl", pairs, metrics={})
    decide(folder, {33: 0.5, 36: 0.75, 34: 0.625})
    monkeypatch.setattr(farzaneh2021, "attention_weights", lambda run, split, records: np.outer(
        np.array(records) + 1, [0.125, 0.0625]))
    _, table = drawn("farzaneh2021-fig5", tmp_path / "out", folder)
    # Of class 0 the surest one is the fourth test image, the other the first; of class 1 it is the second.
    assert table[1:] == [["class0 1", "unit 36", "0", "0.5"], ["class0 1", "unit 36", "1", "0.25"],
                         ["class0 2", "unit 33", "0", "0.125"], ["class0 2", "unit 33", "1", "0.0625"],
                         ["class1 1", "unit 34", "0", "0.25"], ["class1 1", "unit 34", "1", "0.125"]]


def paced(folder, name, data, losses, ends=(2, 4)):
    """A self-paced run of two paces, of an epoch each; all training images but the first two take part in pace 1."""
    run = hand_made.run(folder, name, data, ["pacing.paces=2", "pacing.epochs=2"], ends, metrics=hand_made.metrics(
        MANY, "synthetic faces"))
    chain = []
    for number, end in enumerate(ends, start=1):
        inner = f"{run}/paces/{number:02d}"
        hand_made.log(inner, losses[number - 1], {})
        files.write_json(inner + "/selection.json", {
            "losses": [0.25 * at for at in range(17)], "labels": [at % 3 for at in range(17)],
            "selected": [number == 2 or at > 1 for at in range(17)]})
        chain.append((f"paces/{number:02d}", end - 2, end))
    files.write_json(run + "/chain.json", chain)
    return run


def test_accuracy_per_pace(tmp_path, pairs):
    run = paced(tmp_path / "spndl", "wu2023/oulu_casia-spndl", pairs, ((4, 3), (2, 1)))
    files.write_json(run + "/metrics-every-snapshot.json", {"snapshots": [
        {"iteration": 2, "correct": 3, "total": 12}, {"iteration": 4, "correct": 9, "total": 12}]})
    level = hand_made.run(tmp_path / "ndf", "wu2023/oulu_casia-ndf", pairs, metrics={})
    decide(level, {row: 0.5 for row in range(33, 39)})
    _, table = drawn("wu2023-fig5", tmp_path / "out", None, run, None, level)
    assert [row[1:] for row in table[1:]] == [["1", "25"], ["2", "75"], ["", "50"]]


def test_loss_with_paces(tmp_path, pairs):
    """Four iterations of two epochs, and 17 of 17 images a step: an epoch each."""
    run = paced(tmp_path / "spndl", "wu2023/raf_db-spndl-without-neutral", pairs, ((4, 3), (2, 1)))
    without = hand_made.run(tmp_path / "without", "wu2023/raf_db-without-neutral", pairs, ["solver.batch_size=17"],
                            metrics={})
    hand_made.log(without, (8, 7), {})
    _, table = drawn("wu2023-fig6", tmp_path / "out", run, without)
    assert [row[1:] for row in table[1:]] == [["0", "4"], ["0.5", "3"], ["1", "2"], ["1.5", "1"],
                                              ["0", "8"], ["1", "7"]]


def test_distribution(tmp_path, pairs):
    """What was placed before is kept in the run's folder."""
    run = paced(tmp_path / "spndl", "wu2023/oulu_casia-spndl", pairs, ((4, 3), (2, 1)))
    np.savez(run + "/" + wu2023_paces.PLACES.format(2), key=np.array([0, 0, 1]),
             places=np.array([[1.5, 2.5], [3.5, 4.5], [0, 1]]), labels=np.array([0, 1, 1]),
             selected=np.array([True, False, True]))
    _, table = drawn("wu2023-fig7", tmp_path / "out", run)
    assert table[1:] == [["2", "class0", "1.5", "2.5", "0"], ["2", "class1", "3.5", "4.5", "1"],
                         ["2", "class1", "0", "1", "0"]]


def test_excluded(tmp_path, pairs):
    run = paced(tmp_path / "spndl", "wu2023/raf_db-spndl-without-neutral", pairs, ((4, 3), (2, 1)))
    _, table = drawn("wu2023-fig8", tmp_path / "out", run)
    assert sorted(table[1:]) == [["1", "0", "class0", "0"], ["1", "1", "class1", "0.25"]]


@pytest.fixture
def rivals(tmp_path, pairs, monkeypatch):
    """A run without a feature loss, which has the test images 33 and 34 right, and one with it, which has 34 and 35:
    of class 2 it gains 35. What its net and the filters make of a face is given."""
    folders = []
    for name, right in (("fer2013-toy-norm", (33, 34)), ("fer2013-toy-center-norm-gabor", (34, 35))):
        folders.append(hand_made.run(tmp_path / name, "xie2019a/" + name, pairs, metrics={}))
        decide(folders[-1], {row: 0.5 for row in right})
    small = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    monkeypatch.setattr(xie2019a_faces, "gabor_responses", lambda image, data: small[0] + 0.5)
    monkeypatch.setattr(xie2019a_faces, "face_maps", lambda run, images: xie2019a_faces.FaceMaps(
        np.repeat(small, len(images), 0), np.repeat(10 * small, len(images), 0), Grid(14, 28), xie2019a_faces.Z))
    return folders


def test_feature_maps(tmp_path, rivals):
    _, table = drawn("xie2019a-fig8", tmp_path / "out", *rivals)
    assert [row[0] for row in table[1::2]] == [
        "Gabor filters", "softmax + normalisation, first convolution", "softmax + normalisation, FC1's input",
        "softmax + center + normalisation + GABOR, first convolution",
        "softmax + center + normalisation + GABOR, FC1's input"]
    assert [row[2:] for row in table[1:]] == [["0", "0.5 1.5"], ["1", "2.5 3.5"]] + 2 * [
        ["0", "0 1"], ["1", "2 3"], ["0", "0 10"], ["1", "20 30"]]


def test_faces_gained(tmp_path, rivals):
    one, table = drawn("xie2019a-fig9", tmp_path / "out", *rivals)
    assert [row[:5] for row in table[1:]] == [["unit 35", "35", "class2", "class2", "class0"]]
    assert one.notes[0].startswith("1 test predictions are right with softmax + center + normalisation + GABOR and "
                                   "wrong with softmax + normalisation, 1 are the other way round.")


def test_heat_maps(tmp_path, rivals):
    """Cells at 14 and 42 of 56 pixels: half way the values are the mean, beyond the outer ones they stay."""
    _, table = drawn("xie2019a-fig10", tmp_path / "out", *rivals)
    assert len(table) == 1 + 2 * small_pairs.SIDE and {row[1] for row in table[1:]} == {"unit 35"}
    top = list(map(float, table[1][3].split()))
    assert top[:15] == [0] * 15 and top[28] == 5 and top[42:] == [10] * 14
    bottom = list(map(float, table[56][3].split()))
    assert (bottom[0], bottom[-1]) == (20, 30)


def test_the_same_runs_give_the_same_bytes(tmp_path):
    folder = hand_made.run(tmp_path / "alaw", "xie2019a/fer2013-alaw", metrics=hand_made.metrics(MANY, "drawn faces"))
    one, two = (drawn("xie2019a-fig13", tmp_path / out, folder)[0].paths for out in ("a", "b"))
    for first, second in zip(one, two):
        with open(first, "rb") as stream, open(second, "rb") as other:
            assert stream.read() == other.read()


def test_what_is_not_trained_or_evaluated_is_named(tmp_path):
    begun = hand_made.run(tmp_path / "begun", "xie2019a/fer2013-alaw", metrics=hand_made.metrics(MANY, "drawn faces"))
    os.unlink(begun + "/snapshots/iter_4.caffemodel")
    bare = hand_made.run(tmp_path / "bare", "xie2019a/oulu_casia-alaw")
    wanted = [cell for cell, _ in targets.cells("xie2019a-fig13")]
    made = plan.Plan({}, [], [], {}, {}, [], {}, (), {"xie2019a-fig13": [
        plan.Cell(*one) for one in zip(wanted, (begun, bare, None, None))]})
    one, = figures.write(made, str(tmp_path / "out"))
    assert one.paths == [] and one.notes == [
        "without xie2019a/fer2013-alaw: not measured", "without xie2019a/oulu_casia-alaw: not measured",
        "without xie2019a/ckplus-alaw: no data", "without xie2019a/mmi-alaw: no data",
        "not drawn: its runs are not there yet"]
    assert not os.path.exists(str(tmp_path / "out"))
