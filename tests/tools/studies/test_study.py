"""`./fer study`, from the file to the table."""
import csv
import json
import os
import shutil

import numpy as np
import pytest

from common import files
from data_prep import prepared_folder
from tests import small_data
from tools.cli import main
from tools.studies import definition
from tools.studies.results import Versus, mean, paired_p

STUDY = """
title: A small study
prepare: fer2013 x.csv
seeds: [1, 2]
baseline: softmax
set: [solver.max_iter=6, solver.snapshot=6, solver.test_interval=6, solver.batch_size=8]
rows:
  softmax: {experiment: xie2019a/fer2013-toy-softmax}
  center + GABOR: {experiment: xie2019a/fer2013-toy-center-gabor}
  one seed: {experiment: xie2019a/fer2013-toy-softmax, set: [solver.base_lr=0.05], seeds: [1]}
"""


@pytest.mark.parametrize("gained, lost, p", ((6, 0, 2 / 2 ** 6), (0, 6, 2 / 2 ** 6), (2, 1, 1), (0, 0, 1),
                                             (10, 2, 2 * (1 + 12 + 66) / 2 ** 12)))
def test_mcnemar_by_hand(gained, lost, p):
    assert Versus(1, gained, lost).p == pytest.approx(p, rel=1e-12)


def test_mean():
    assert mean([]) == "" and mean([50.0]) == "50.00" and mean([1.0, 3.0]) == "2.00 ± 1.41"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yml").write_text(STUDY)
    data = small_data.prepared(folder, counts=(56, 14, 21))
    words = ["study", str(folder / "study.yml"), "--data", data, "--out", str(folder / "out"), "--processes", "2"]
    assert main.main(words) == 0
    return folder, words


def right(folder, row, seed):
    """Unit -> whether its prediction is right, by the file of decisions alone."""
    run = folder / "out" / row / ("" if seed is None else f"seed{seed:02d}")
    with open(str(run / "decisions-test.csv"), newline="") as stream:
        return {line["unit"]: line["label"] == line["predicted"] for line in csv.DictReader(stream)}


def test_the_lines_of_the_csv_are_what_the_decisions_say(made):
    folder, _ = made
    with open(str(folder / "out" / "study.csv"), newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["row"], line["seed"]) for line in lines] == [
        ("softmax", "1"), ("softmax", "2"), ("center + GABOR", "1"), ("center + GABOR", "2"), ("one seed", "1")]
    for line in lines:
        own, base = right(folder, line["row"], int(line["seed"])), right(folder, "softmax", int(line["seed"]))
        assert len(own) == 21 and float(line["test"]) == pytest.approx(100 * sum(own.values()) / 21, abs=1e-4)
        if line["row"] == "softmax":
            assert line["gained"] == line["lost"] == line["p"] == ""
        else:
            assert int(line["gained"]) == sum(own[unit] and not base[unit] for unit in own)
            assert int(line["lost"]) == sum(base[unit] and not own[unit] for unit in own)


def test_the_page_has_the_means_and_the_commands(made):
    folder, words = made
    text = (folder / "out" / "study.md").read_text()
    values = [100 * np.mean(list(right(folder, "center + GABOR", seed).values())) for seed in (1, 2)]
    assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" in text
    bases = [100 * np.mean(list(right(folder, "softmax", seed).values())) for seed in (1, 2)]
    differences = np.subtract(values, bases)
    assert f"| {np.mean(differences):+.2f} ± {abs(differences[0] - differences[1]) / np.sqrt(2):.2f} " in text
    assert "./fer prepare fer2013 x.csv" in text and f"./fer study {words[1]} --data {words[3]}" in text
    assert "Trained on caffe, evaluated by caffe." in text
    assert "xie2019a/fer2013-toy-softmax`, `solver.max_iter=6" in text
    assert (folder / "out" / "study.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("differences", [(1, 2, 3), (-1, -2, -3), (.5, -.25, 1)])
def test_the_paired_t_test_of_three_seeds(differences):
    """With two degrees of freedom, the two-sided p is 1 - t / sqrt(t^2 + 2)."""
    mean = sum(differences) / 3
    t = abs(mean) / np.sqrt(sum((one - mean) ** 2 for one in differences) / 2 / 3)
    assert paired_p(differences) == pytest.approx(1 - t / np.sqrt(t ** 2 + 2))


@pytest.mark.parametrize("differences", [(), (1,), (1, 1, 1), (0, 0)])
def test_no_paired_test_of_one_seed_or_without_deviation(differences):
    assert paired_p(differences) is None


def test_no_row_can_have_the_name_of_a_file_of_the_study(made):
    folder, _ = made
    assert {name for name in os.listdir(str(folder / "out")) if os.path.isfile(str(folder / "out" / name))} == {
        files.MARK, definition.TIMES, definition.MARKDOWN, definition.CSV, definition.PICTURE}


@pytest.mark.parametrize("words", (["--show"], ["--rows", "softmax"], []))
def test_results_of_earlier_settings_are_not_mixed_with_those_of_now(made, tmp_path, capsys, words):
    """Not even where nothing of the changed row is to be trained."""
    folder, given = made
    changed = tmp_path / "study.yml"
    changed.write_text(STUDY.replace("base_lr=0.05", "base_lr=0.06").replace("small study", "study"))
    before = (folder / "out" / "study.csv").read_bytes(), sorted(os.listdir(str(folder / "out")))
    assert main.main(["study", str(changed), *given[2:], *words]) == 1
    caught = capsys.readouterr()
    assert caught.out == "" and caught.err == (
        f"fer: {folder / 'out' / 'one seed' / 'seed01'}: belongs to another run, whose experiment was "
        "{'solver': {'base_lr': 0.05}}, not {'solver': {'base_lr': 0.06}}; give another --out\n")
    assert before == ((folder / "out" / "study.csv").read_bytes(), sorted(os.listdir(str(folder / "out"))))


def test_a_training_without_a_snapshot_does_not_bind_the_study(made, tmp_path):
    """It begins anew."""
    folder, words = made
    study, out = tmp_path / "study.yml", tmp_path / "out"
    study.write_text(STUDY.replace("base_lr=0.05", "base_lr=0.04"))
    shutil.copytree(str(folder / "out"), str(out))
    again = ["study", str(study), *words[2:4], "--out", str(out), "--show"]
    assert main.main(again) == 1
    for name in ("snapshots", "metrics.json", "metrics-val.json", "decisions-test.csv"):
        files.remove(str(out / "one seed" / "seed01" / name))
    assert main.main(again) == 0


def test_results_of_other_data_are_not_mixed(made, tmp_path, capsys):
    folder, given = made
    other = small_data.prepared(tmp_path, counts=(28, 14, 21))
    capsys.readouterr()
    for words in (["--show"], ["--rows", "center + GABOR"]):
        assert main.main([*given[:2], "--data", other, *given[4:], *words]) == 1
        assert capsys.readouterr().err == (
            f"fer: {folder / 'out' / 'softmax' / 'seed01'}: was trained on other data than those of {other}; give "
            "another --out\n")


def test_data_without_a_split_that_is_evaluated_are_refused_before_the_training(made, tmp_path, capsys):
    folder, given = made
    data = str(tmp_path / "data")
    shutil.copytree(given[3], data)
    path, out = os.path.join(data, prepared_folder.NOTE), str(tmp_path / "out")
    note = files.read_json(path)
    for left_out, said in (("val", "has no validation split, which a study evaluates; `./fer prepare ...` makes one by "
                                   "--hold-out 0.1, of the training split"),
                           ("test", "has no test split, which a study without `test: false` evaluates")):
        with open(path, "w") as stream:
            json.dump({**note, "records": {split: count for split, count in note["records"].items()
                                           if split != left_out}}, stream)
        assert main.main([*given[:2], "--data", data, "--out", out]) == 1
        assert capsys.readouterr().err == f"fer: {data}: {said}\n" and not os.path.exists(out)


def test_data_with_folds(tmp_path, capsys):
    """Each seed is a group of folds, whose units are counted together."""
    folds = []
    for number, counts in enumerate(((14, 7, 10), (14, 7, 8)), start=1):
        (tmp_path / f"made{number}").mkdir()
        folds.append(f"fold{number:02d}")
        os.rename(small_data.prepared(tmp_path / f"made{number}", (), counts), str(tmp_path / folds[-1]))
    note = files.read_json(str(tmp_path / "fold01" / prepared_folder.NOTE))
    files.write_json(str(tmp_path / prepared_folder.NOTE), dict(note, folds=folds), alone=True)
    study, out = tmp_path / "study.yml", tmp_path / "out"
    study.write_text(STUDY.split("  center + GABOR")[0])
    for words in (["--seeds", "2"], ["--show"]):
        assert main.main(["study", str(study), "--data", str(tmp_path), "--out", str(out), "--threads", "1",
                          *words]) == 0
        assert "Trained on caffe" in capsys.readouterr().out.replace("trained on", "Trained on")
    with open(str(out / "study.csv"), newline="") as stream:
        [line] = csv.DictReader(stream)
    own = [one for fold in folds for one in right(tmp_path, f"softmax/seed02/{fold}", None).values()]
    assert line["seed"] == "2" and len(own) == 18
    assert float(line["test"]) == pytest.approx(100 * sum(own) / 18, abs=1e-4)


def test_nothing_is_done_twice(made, capsys):
    folder, words = made
    files = [os.path.join(place, name) for place, _, names in os.walk(str(folder / "out")) for name in names
             if name.endswith((".caffemodel", "metrics.json", "metrics-val.json", "decisions-test.csv"))]
    before = {path: os.stat(path).st_mtime_ns for path in files}
    assert len(before) > 15
    assert main.main(words) == 0
    assert {path: os.stat(path).st_mtime_ns for path in files} == before
    text = (folder / "out" / "study.md").read_bytes()
    capsys.readouterr()
    assert main.main([*words, "--show"]) == 0
    assert "center + GABOR" in capsys.readouterr().out
    assert (folder / "out" / "study.md").read_bytes() == text


def test_one_seed_now_and_the_other_later(made, tmp_path, capsys):
    folder, words = made
    out = tmp_path / "out"
    begun = [*words[:4], "--out", str(out), "--rows", "softmax", "center + GABOR", "--threads", "1"]
    assert main.main([*begun, "--seeds", "2"]) == 0
    assert not os.path.exists(str(out / "softmax" / "seed01"))
    assert not os.path.exists(str(out / "softmax" / "metrics.json"))
    with open(str(out / "study.csv"), newline="") as stream:
        lines = list(csv.DictReader(stream))
    with open(str(folder / "out" / "study.csv"), newline="") as stream:
        assert lines == [line for line in csv.DictReader(stream) if line["row"] != "one seed" and line["seed"] == "2"]
    metrics = out / "softmax" / "seed02" / "metrics.json"
    before = metrics.stat().st_mtime_ns
    assert main.main(begun) == 0
    assert metrics.stat().st_mtime_ns == before  # the test split is evaluated once
    assert main.main([*words[:4], "--out", str(out), "--show"]) == 0
    expected = (folder / "out" / "study.csv").read_text().splitlines()
    assert (out / "study.csv").read_text().splitlines() == [line for line in expected if "one seed" not in line]
    assert (out / "softmax" / "metrics.json").read_bytes() == (folder / "out" / "softmax" / "metrics.json").read_bytes()


def test_a_row_gets_one_more_seed(made, tmp_path):
    folder, words = made
    study, out = tmp_path / "study.yml", tmp_path / "out"
    shutil.copytree(str(folder / "out"), str(out))
    study.write_text(STUDY.replace("seeds: [1]}", "seeds: [1, 2]}"))
    kept = out / "one seed" / "seed01" / "metrics.json"
    before = kept.stat().st_mtime_ns
    assert main.main(["study", str(study), *words[2:4], "--out", str(out), "--threads", "1"]) == 0
    assert kept.stat().st_mtime_ns == before  # the test split is evaluated once
    with open(str(out / "study.csv"), newline="") as stream:
        assert [line["seed"] for line in csv.DictReader(stream) if line["row"] == "one seed"] == ["1", "2"]
    metrics = files.read_json(str(out / "one seed" / "metrics.json"))
    assert [one["name"] for one in metrics["seeds"]] == ["seed01", "seed02"]


def test_rows_that_began_with_other_weights_are_not_mixed(made, tmp_path, capsys):
    """The row `random` takes none, whatever is given."""
    folder, words = made
    study, out = tmp_path / "study.yml", tmp_path / "out"
    study.write_text(STUDY + "  random: {experiment: xie2019a/fer2013-toy-softmax, weights: none, seeds: [1]}\n")
    weights = str(folder / "out" / "softmax" / "seed02")
    begun = ["study", str(study), *words[2:4], "--out", str(out), "--threads", "1", "--seeds", "1"]
    assert main.main([*begun, "--weights", weights, "--rows", "random", "one seed"]) == 0
    capsys.readouterr()
    for given, said in (([], "random weights"), (["--weights", str(folder / "out" / "one seed" / "seed01")],
                                                 str(folder / "out" / "one seed" / "seed01/snapshots/"))):
        assert main.main([*begun, *given, "--rows", "softmax"]) == 1
        assert (f"{out}/one seed/seed01: began with {weights}/snapshots/iter_6.caffemodel, not with {said}"
                in capsys.readouterr().err)
    assert not os.path.exists(str(out / "softmax"))
    assert main.main([*begun, "--show"]) == 0  # shows what is there
    # The same weights by another name, also for one more seed.
    shutil.copyfile(weights + "/snapshots/iter_6.caffemodel", str(tmp_path / "same.caffemodel"))
    same = ["--weights", str(tmp_path / "same.caffemodel"), "--rows", "one seed"]
    rows = study.read_text()
    study.write_text(rows.replace("base_lr=0.05], seeds: [1]", "base_lr=0.05], seeds: [1, 2]"))
    assert main.main([*begun[:-1], "2", *same]) == 0
    assert files.read_json(str(out / "one seed/group.json"))["members"] == ["seed01", "seed02"]
    # A row that is said to take none now, after it began with some.
    study.write_text(study.read_text().replace("base_lr=0.05], ", "base_lr=0.05], weights: none, "))
    capsys.readouterr()
    assert main.main([*begun, "--rows", "random"]) == 1
    assert (f"one seed/seed01: began with {weights}/snapshots/iter_6.caffemodel, not with random weights"
            in capsys.readouterr().err)


def test_a_row_that_has_fewer_seeds_now_is_refused_before_any_training(made, tmp_path, capsys):
    folder, words = made
    study, out = tmp_path / "study.yml", str(folder / "out")
    study.write_text(STUDY.replace("toy-center-gabor}", "toy-center-gabor, seeds: [2]}").replace(
        "  center +", "  new: {experiment: xie2019a/fer2013-toy-softmax, set: [solver.base_lr=0.02]}\n  center +"))
    assert main.main(["study", str(study), *words[2:4], "--out", out, "--rows", "new", "center + GABOR"]) == 1
    assert capsys.readouterr().err == (f"fer: {out}/center + GABOR: holds seeds seed01, seed02, not seeds seed02; give "
                                       "another --out\n")
    assert not os.path.exists(os.path.join(out, "new"))


def test_a_choice_of_settings_does_not_see_the_test_split(made, tmp_path, capsys):
    _, words = made
    study = tmp_path / "choice.yml"
    study.write_text(STUDY + "test: false\n")
    out = tmp_path / "out"
    assert main.main(["study", str(study), *words[2:4], "--out", str(out), "--rows", "one seed", "--threads", "1"]) == 0
    found = {name for _, _, names in os.walk(str(out)) for name in names}
    assert "metrics-val.json" in found and not {"metrics.json", "decisions-test.csv"} & found
    shown = capsys.readouterr().out
    assert "one seed" in shown and "better with" in shown
    assert not os.path.exists(str(out / "softmax"))


@pytest.mark.parametrize("words, said", [
    (["--rows", "sofmax"], "--rows: there is no row 'sofmax'; did you mean softmax?"),
    (["--seeds", "1", "3"], "--seeds 3: "),
    (["--data", "gone"], "gone: no such folder; `./fer prepare fer2013 x.csv --out gone` makes it")])
def test_what_is_wrong_is_said_in_one_line(made, tmp_path, capsys, words, said):
    _, given = made
    assert main.main([*given[:4], "--out", str(tmp_path / "out"), *words]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("fer: " + said) and "\n" not in error
    assert not os.path.exists(str(tmp_path / "out"))


def test_a_folder_of_the_users_is_refused(made, tmp_path, capsys):
    _, given = made
    (tmp_path / "mine.txt").write_text("mine")
    assert main.main([*given[:4], "--out", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == ["mine.txt"]
