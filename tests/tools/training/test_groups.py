"""Folds and seeds: one run each, side by side, and their sums."""
import hashlib
import os
import shutil

import numpy as np
import pytest

from common import experiment, files
from common.errors import UserError
from common.machine import DEFAULT, Device
from data_prep import prepared_folder
from tests import small_data
from tests.tools import hand_made
from tests.tools.conftest import SMALL
from tools.cli import main
from tools.evaluation import evaluate, predictions
from tools.evaluation.groups import evaluate_all
from tools.training import groups, pretrained, run
from tools.training.caffe_process import Engine

NAME = "xie2019a/synthetic-toy-softmax"
CHANGES = [change for change in SMALL if "gabor" not in change] + ["solver.max_iter=4"]


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """A folder with two folds, as a cross-validated data set has them, each with its own parts."""
    root = tmp_path_factory.mktemp("folded")
    for number, counts in enumerate(((14, 7, 10), (14, 7, 8)), start=1):
        (root / f"made{number}").mkdir()
        os.rename(small_data.prepared(root / f"made{number}", (), counts, seed=number),
                  str(root / f"fold{number:02d}"))
    note = files.read_json(str(root / "fold01" / prepared_folder.NOTE))
    files.write_json(str(root / prepared_folder.NOTE), dict(note, folds=["fold01", "fold02"]))
    return str(root)


def train(data, folder, seeds=(), processes=2, weights=None):
    return groups.train(experiment.load(NAME, CHANGES), data, str(folder), weights, seeds, None, DEFAULT, processes)


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory, folded):
    return train(folded, tmp_path_factory.mktemp("runs") / "folds")


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def test_each_fold_is_a_run_of_its_own(tmp_path, folded, cross_validated):
    assert (cross_validated.kind, cross_validated.members) == ("folds", ["fold01", "fold02"])
    for number, single in enumerate(groups.runs(cross_validated), start=1):
        data = os.path.join(folded, f"fold{number:02d}")
        assert single.info["data"] == data and single.info["threads"] == 1
        alone = run.train(experiment.load(NAME, CHANGES), data, str(tmp_path / str(number)), None, Engine(1))
        assert read(single.caffemodel()) == read(alone.caffemodel())


def test_a_single_training_has_no_more_threads_than_cores(tmp_path, folded, monkeypatch):
    told = []
    monkeypatch.setattr(groups, "all_cores", lambda: Engine(2))
    monkeypatch.setattr(run, "train", lambda *arguments: told.append(arguments[4].threads))
    for processes, threads in ((1, None), (2, None), (16, None), (1, 3)):
        groups.train(experiment.load(NAME, CHANGES), os.path.join(folded, "fold01"), str(tmp_path / "run"), None, (),
                     threads, DEFAULT, processes)
    assert told == [1, 2, 2, 3]


@pytest.mark.parametrize("device, apart", (
    (DEFAULT, True), (Device(gpu="0"), False), (Device("torch"), True), (Device("torch", "0,1"), False)))
def test_on_a_card_folds_are_trained_in_this_process(tmp_path, folded, monkeypatch, device, apart):
    """CUDA does not work in a forked one."""
    def train(settings, data, folder, weights, engine, processes, fresh_head):
        files.claim(folder, run.KIND)
        files.write_json(os.path.join(folder, "seen.json"), [os.getpid(), engine.device.options(), processes])
    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(groups, "open_", lambda folder: None)
    groups.train(experiment.load(NAME, CHANGES), folded, str(tmp_path / "folds"), None, (), None, device, 2)
    seen = [files.read_json(str(tmp_path / "folds" / fold / "seen.json")) for fold in ("fold01", "fold02")]
    assert [(pid != os.getpid(), *rest) for pid, *rest in seen] == [(apart, device.options(), 1)] * 2


@pytest.mark.parametrize("device, processes", (
    (Device(gpu="0"), 1), (Device("torch", "0"), 1), (Device("torch", "0,1"), 2), (Device("torch"), 3)))
def test_trials_of_one_training_run_side_by_side_one_on_each_card(tmp_path, folded, monkeypatch, device, processes):
    told = []
    monkeypatch.setattr(run, "train", lambda *arguments: told.append((arguments[4].device, arguments[5])))
    groups.train(experiment.load(NAME, CHANGES), os.path.join(folded, "fold01"), str(tmp_path / "run"), None, (), None,
                 device, 3)
    assert told == [(device, processes)]


def test_folds_are_summed(cross_validated):
    metrics = evaluate_all(cross_validated, "test")
    assert metrics == files.read_json(cross_validated.path("metrics.json"))
    each = [files.read_json(evaluate.metrics_path(one, "test")) for one in groups.runs(cross_validated)]
    # 10 and 8 images: the sum of the right ones of all, not the mean of the folds.
    assert [one["total"] for one in metrics["folds"]] == [10, 8] and metrics["total"] == 18
    assert metrics["correct"] == sum(one["correct"] for one in each)
    assert metrics["accuracy"] == metrics["correct"] / 18
    np.testing.assert_array_equal(metrics["confusion"], np.add(each[0]["confusion"], each[1]["confusion"]))
    decided = predictions.read(cross_validated.path("decisions-test.csv"))
    assert len(decided) == 18 and sum(one.right for one in decided) == metrics["correct"]


def test_seeds_of_folds_have_mean_and_deviation(tmp_path, folded):
    group = train(folded, tmp_path / "seeds", seeds=[3, 5])
    assert (group.kind, group.members) == ("seeds", ["seed03", "seed05"])
    assert [one.experiment.solver["random_seed"] for one in groups.runs(group)] == [3, 3, 5, 5]
    metrics = evaluate_all(group, "test")
    rates = [one["correct"] / 18 for one in metrics["seeds"]]
    assert metrics["accuracy"] == pytest.approx(sum(rates) / 2)
    assert metrics["deviation"] == pytest.approx(abs(rates[0] - rates[1]) / np.sqrt(2))
    assert metrics["total"] == 36


def test_what_is_published_of_seeds_is_compared_with_all_of_them(tmp_path, monkeypatch):
    """The second seed was trained on PyTorch."""
    for seed, engine in (("seed01", "caffe"), ("seed02", "torch")):
        folder = hand_made.run(tmp_path / seed, "xie2019a/fer2013-softmax")
        files.write_json(folder + "/run.json", {**files.read_json(folder + "/run.json"), "engine": engine})
    group = groups.open_(hand_made.group(tmp_path, "seeds"))

    def evaluated(one, split, snapshot):
        return dict(accuracy=0.5, correct=1, total=2, confusion=[[1]], without_copies=dict(correct=1, total=2),
                    published=evaluate.published([one], split, 2), iterations=[hand_made.ITERATIONS])
    monkeypatch.setattr(evaluate, "evaluate", evaluated)
    published = evaluate_all(group, "test")["published"]
    assert not published["comparable"]
    told = [(one["what"], one["here"], one["paper"]) for one in published["departures"]]
    assert ("engine", "torch", "caffe") in told and ("trainings", "2 with other seeds", "one") in told
    assert ("images", "2", "3589") in told


def test_given_again_it_does_nothing_and_other_members_are_refused(folded, cross_validated):
    before = {one.folder: os.path.getmtime(one.caffemodel()) for one in groups.runs(cross_validated)}
    train(folded, cross_validated.folder)
    assert before == {one.folder: os.path.getmtime(one.caffemodel()) for one in groups.runs(cross_validated)}
    with pytest.raises(UserError, match="holds folds fold01, fold02, not seeds seed01; give another --out"):
        train(folded, cross_validated.folder, seeds=[1])


def test_a_group_of_seeds_grows(tmp_path, folded):
    data = os.path.join(folded, "fold01")
    group = train(data, tmp_path / "seeds", seeds=[2])
    evaluate_all(group, "test")
    for name in ("report.html", "report@2.html", "notes.txt", "metrics of mine.json"):
        (tmp_path / "seeds" / name).write_text("")
    before = os.stat(groups.runs(group)[0].caffemodel())
    grown = train(data, tmp_path / "seeds", seeds=[1, 2])
    assert grown.members == ["seed01", "seed02"]
    assert os.stat(groups.runs(grown)[1].caffemodel()) == before
    # What was measured is of one seed; the user's files stay.
    assert sorted(os.listdir(grown.folder)) == sorted([
        files.MARK, groups.NOTE, "metrics of mine.json", "notes.txt", "seed01", "seed02"])
    assert len(evaluate_all(grown, "test", anew=False)["seeds"]) == 2
    # Fewer seeds, or others, would lose some.
    for seeds in ([1], [1, 3]):
        with pytest.raises(UserError, match="holds seeds seed01, seed02, not seeds seed01"):
            train(data, tmp_path / "seeds", seeds=seeds)
    assert os.path.exists(evaluate.metrics_path(grown, "test"))


def test_a_member_that_was_not_trained_is_trained_by_the_group(tmp_path, capsys):
    groups.begin(groups.Group(str(tmp_path / "group"), "seeds", ["seed01"]))
    assert main.main(["evaluate", str(tmp_path / "group")]) == 1
    assert capsys.readouterr().err == (f"fer: {tmp_path}/group/seed01: was not trained yet; `./fer train "
                                       f"{tmp_path}/group` goes on\n")
    assert main.main(["evaluate", str(tmp_path / "run")]) == 1
    assert "run: no run here; `./fer train EXPERIMENT" in capsys.readouterr().err


def test_more_seeds_begin_as_the_others(tmp_path, folded, cross_validated):
    data = os.path.join(folded, "fold01")
    begins_with = groups.runs(cross_validated)[0].caffemodel()
    group = train(data, tmp_path / "seeds", seeds=[1], weights=begins_with)
    evaluate_all(group, "test")
    kept = files.read_json(group.path(groups.NOTE)), read(evaluate.metrics_path(group, "test"))
    other = groups.runs(cross_validated)[1].caffemodel()
    for given, said in ((None, "random weights"), (other, other)):
        with pytest.raises(UserError, match=f"seed01: began with {begins_with}, not with {said}; give another --out"):
            train(data, group.folder, seeds=[1, 2], weights=given)
        assert kept == (files.read_json(group.path(groups.NOTE)), read(evaluate.metrics_path(group, "test")))
        assert not os.path.exists(group.path("seed02"))
    # The same weights by another name, where the note is of a version that did not write which ones.
    shutil.copyfile(begins_with, str(tmp_path / "same.caffemodel"))
    files.write_json(group.path(groups.NOTE), {"kind": "seeds", "members": ["seed01"]})
    grown = train(data, group.folder, seeds=[1, 2], weights=str(tmp_path / "same.caffemodel"))
    assert (grown.members, grown.weights) == (["seed01", "seed02"], str(tmp_path / "same.caffemodel"))
    digests = [one.info["weights"] for one in groups.runs(grown)]
    assert digests == [hashlib.sha256(read(begins_with)).hexdigest()] * 2


def everything(folder):
    """Path -> time of the last change, of all that is in a folder. A lock is opened without a change."""
    return {os.path.join(place, name): os.stat(os.path.join(place, name)).st_mtime_ns
            for place, inner, names in os.walk(str(folder)) for name in (*inner, *names) if name != run.LOCK}


def test_no_seed_begins_beside_others_of_another_kind(tmp_path, folded):
    """Three side by side: the new ones would begin before the first one is refused."""
    data = os.path.join(folded, "fold01")
    group = train(data, tmp_path / "seeds", seeds=[1])
    evaluate_all(group, "test")
    before = everything(tmp_path)

    def grow(data, changes=()):
        groups.train(experiment.load(NAME, [*CHANGES, *changes]), data, group.folder, None, [1, 2, 3], None, DEFAULT, 3)
    for refused, said in (
            (lambda: grow(os.path.join(folded, "fold02")), "seed01: belongs to another run, whose data was "),
            (lambda: grow(data, ["solver.base_lr=0.5"]), "seed01: belongs to another run, whose experiment was "),
            (lambda: grow(folded), "seed01: exists and is not a group of runs; give another --out")):
        with pytest.raises(UserError, match=said):
            refused()
        assert everything(tmp_path) == before
    with run.locked(groups.runs(group)[0]):
        with pytest.raises(UserError, match="seed01: another training is running in this folder"):
            grow(data)
    assert everything(tmp_path) == before


def test_no_seed_begins_where_others_are_of_folds(tmp_path, folded):
    group = train(folded, tmp_path / "seeds", seeds=[1])
    before = everything(tmp_path)
    with pytest.raises(UserError, match="seed01: exists and is not a run; give another --out"):
        train(os.path.join(folded, "fold01"), group.folder, seeds=[1, 2, 3], processes=3)
    assert everything(tmp_path) == before


def test_seeds_that_cannot_begin_are_not_noted(tmp_path, folded, cross_validated):
    """Their data are damaged; those of the first one, too, which has all its snapshots."""
    data = str(tmp_path / "data")
    shutil.copytree(os.path.join(folded, "fold01"), data)
    weights = groups.runs(cross_validated)[0].caffemodel()
    group = train(data, tmp_path / "seeds", seeds=[1], weights=weights)
    os.unlink(os.path.join(data, "train", "images", "data.mdb"))
    with pytest.raises(UserError, match="train/images"):
        train(data, group.folder, seeds=[1, 2], weights=weights)
    # The note still says what one more would begin with.
    assert groups.open_(group.folder) == groups.Group(group.folder, "seeds", ["seed01"], weights)
    assert not os.path.exists(group.path("seed02"))


def test_seeds_in_another_order_are_the_same_group(tmp_path):
    folder = str(tmp_path / "seeds")
    assert groups.begin(groups.Group(folder, "seeds", ["seed01", "seed02"])) == []
    (tmp_path / "seeds" / "metrics.json").write_text("{}")
    before = everything(folder)
    assert groups.begin(groups.Group(folder, "seeds", ["seed02", "seed01"])) == [] and everything(folder) == before
    assert groups.begin(groups.Group(folder, "seeds", ["seed03", "seed02", "seed01"])) == ["seed01", "seed02"]
    assert groups.open_(folder).members == ["seed03", "seed02", "seed01"]
    assert not os.path.exists(os.path.join(folder, "metrics.json"))
    # Folds are those of the data.
    folder = str(tmp_path / "folds")
    groups.begin(groups.Group(folder, "folds", ["fold01"]))
    with pytest.raises(UserError, match="holds folds fold01, not folds fold01, fold02"):
        groups.begin(groups.Group(folder, "folds", ["fold01", "fold02"]))


def test_the_note_has_the_weights_that_were_given_last(tmp_path):
    """Others can be given as long as there is no snapshot: members that have not begun take the same."""
    folder = str(tmp_path / "group")
    for weights, fresh_head, noted in (("/a", True, ("/a", True)), ("/a", False, ("/a", True)),
                                       ("/b", False, ("/b", True)), (None, False, (None, False))):
        groups.begin(groups.Group(folder, "folds", ["fold01", "fold02"], weights, fresh_head))
        group = groups.open_(folder)
        assert (group.weights, group.fresh_head) == noted


def test_a_run_without_a_snapshot_may_begin_with_other_weights(tmp_path):
    """Little is lost. With a snapshot, also of a round alone, it belongs to what it began with."""
    begun = run.Run(hand_made.run(tmp_path / "run", NAME, iterations=(2,)))
    os.unlink(begun.caffemodel())
    given = str(tmp_path / "given.caffemodel")
    files.write_text(given, "weights")
    groups.require_weights(begun, given, {})
    (tmp_path / "run" / "rounds" / "01").mkdir(parents=True)
    (tmp_path / "run" / "rounds" / "01" / "iter_2.caffemodel").write_text("")
    with pytest.raises(UserError, match=f"run: began with random weights, not with {given}; give another --out"):
        groups.require_weights(begun, given, {})


def test_what_cannot_begin_leaves_nothing(tmp_path, folded, capfd):
    with pytest.raises(UserError, match="seeds 1 1: expected each once"):
        train(folded, tmp_path / "run", seeds=[1, 1])
    with pytest.raises(UserError, match="no prepared data here"):
        train(str(tmp_path / "nothing"), tmp_path / "run", seeds=[1, 2])
    assert main.main(["train", "xie2019a/fer2013-toy-center-gabor", "--data", folded, "--out", str(tmp_path / "run")]
                    ) == 1
    assert "fold01: has no gabor features" in capfd.readouterr().err
    assert os.listdir(str(tmp_path)) == []


def test_a_batch_that_cannot_fit_is_refused_before_anything_is_made(tmp_path, folded):
    chosen = experiment.load(NAME, CHANGES + ["solver.batch_size=1000000000"])
    with pytest.raises(UserError, match="solver.batch_size 1000000000 takes 9216.0 GB for the images"):
        groups.train(chosen, folded, str(tmp_path / "run"), None, (), None, DEFAULT, 1)
    assert os.listdir(str(tmp_path)) == []


def test_a_single_run_takes_no_group_of_weights(tmp_path, folded, capsys):
    group = groups.Group(str(tmp_path / "group"), "folds", ["fold01", "fold02"])
    groups.begin(group)
    assert main.main(["train", NAME, "--data", os.path.join(folded, "fold01"), "--out", str(tmp_path / "run"),
                      "--weights", group.folder]) == 1
    assert capsys.readouterr().err == (
        f"fer: --weights {group.folder}: holds several runs; use one of them: {group.folder}/fold01, "
        f"{group.folder}/fold02\n")


@pytest.fixture
def sources(tmp_path):
    """Runs by hand, one in each place: a group of folds, one of seeds, and one of seeds of folds."""
    places = ("single", "folds/fold01", "folds/fold02", "seeds/seed01", "seeds/seed02", "both/seed01/fold01",
              "both/seed01/fold02", "both/seed02/fold01")
    for place in places:
        hand_made.run(tmp_path / place, NAME, iterations=(2, 4))
        hand_made.log(tmp_path / place, [1.0], {2: 0.5 + 0.1 * place.endswith("1"), 4: 0.55})
        files.write_text(str(tmp_path / place / "deploy.prototxt"), "")
    hand_made.group(tmp_path / "folds", "folds")
    hand_made.group(tmp_path / "seeds", "seeds")
    for seed in ("seed01", "seed02"):
        hand_made.group(tmp_path / "both" / seed, "folds")
    hand_made.group(tmp_path / "both", "seeds")
    return str(tmp_path)


@pytest.mark.parametrize("weights, names, expected", (
    ("single", [], "single 4"), ("single@2", ["seed07", "fold09"], "single 2"), ("single@best", [], "single 4"),
    ("folds", ["fold02"], "folds/fold02 4"), ("folds@2", ["fold01"], "folds/fold01 2"),
    # Each fold has its own best one, and folds are the same for all seeds.
    ("folds@best", ["seed05", "fold01"], "folds/fold01 2"), ("folds@best", ["seed05", "fold02"], "folds/fold02 4"),
    ("seeds", ["seed02", "fold01"], "seeds/seed02 4"), ("both", ["seed01", "fold02"], "both/seed01/fold02 4"),
    ("both@2", ["seed02", "fold01"], "both/seed02/fold01 2")))
def test_each_run_takes_the_weights_of_its_own_name(sources, weights, names, expected):
    folder, iteration = expected.split()
    assert groups.caffemodel(os.path.join(sources, weights), names) == os.path.join(
        sources, folder, "snapshots", f"iter_{iteration}.caffemodel")


@pytest.mark.parametrize("weights, names, said", (
    ("folds", ["fold03"], "folds: has no fold03; it has fold01, fold02"),
    ("seeds@2", ["seed03", "fold01"], "seeds@2: has no seed03/fold01; it has seed01, seed02"),
    # The seed is there, its fold is not.
    ("both", ["seed02", "fold02"], "both: has no seed02/fold02; it has fold01"),
    ("folds", [], "folds: holds several runs; use one of them: "), ("seeds@best", [], "seed01@best, "),
    ("single@3", [], "single: no snapshot of iteration 3; it has 2, 4"), ("none@3", [], "none: no such file or folder"),
    ("single/run.json@3", [], "run.json@3: "), ("single/run.json@3", [], "is a file and has no snapshots"),
    ("single@bets", [], "single@bets: names no snapshot; expected ")))
def test_weights_that_are_not_there_are_named(sources, weights, names, said):
    with pytest.raises(UserError) as error:
        groups.caffemodel(os.path.join(sources, weights), names)
    assert said in str(error.value) and "\n" not in str(error.value)


def blob(path, layer):
    return np.array(next(one for one in pretrained.read(path).layer if one.name == layer).blobs[0].data)


def test_folds_begin_with_the_folds_of_a_group(tmp_path, folded, cross_validated):
    """With a rate of 0, each ends with the weights of its own fold."""
    still = groups.train(experiment.load(NAME, [*CHANGES, "solver.base_lr=0"]), folded, str(tmp_path / "still"),
                         cross_validated.folder + "@4", (), None, DEFAULT, 2)
    own = [blob(one.caffemodel(), "conv1") for one in groups.runs(cross_validated)]
    assert np.abs(own[0] - own[1]).max() > 0
    for one, expected in zip(groups.runs(still), own):
        np.testing.assert_array_equal(blob(one.caffemodel(), "conv1"), expected)
    for name, one in zip(("fold01", "fold02"), groups.runs(still)):
        assert one.info["weights_from"] == {"path": os.path.join(
            cross_validated.folder, name, "snapshots", "iter_4.caffemodel"), "experiment": NAME, "iteration": 4}


def test_a_group_continues_by_its_folder_with_the_members_that_have_not_begun(tmp_path, folded, cross_validated, capfd):
    chosen = experiment.load(NAME, [*CHANGES, "solver.momentum=0.7"])
    whole, part = ("with seeds and folds", "stopped")
    for out in (whole, part):
        groups.train(chosen, folded, str(tmp_path / out), cross_validated.folder, (3, 5), None, DEFAULT, 2)
    # As after a kill in the third of four runs.
    third, fourth = (run.Run(str(tmp_path / part / "seed05" / fold)) for fold in ("fold01", "fold02"))
    os.unlink(third.weights_of(4))
    files.remove(fourth.folder)
    capfd.readouterr()
    assert main.main(["train", str(tmp_path / part), "--processes", "2"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == f"trained: {fourth.weights_of(4)}"
    for one in groups.runs(groups.open_(str(tmp_path / part))):
        other = run.Run(one.folder.replace(part, whole))
        assert read(one.caffemodel()) == read(other.caffemodel())
        assert {**one.info, "data": None} == {**other.info, "data": None}


def test_a_group_that_cannot_say_how_it_was_begun_is_refused(tmp_path, sources):
    with pytest.raises(UserError, match="group: none of its runs has begun"):
        groups.begin(groups.Group(str(tmp_path / "group"), "folds", ["fold01"]))
        groups.resume(str(tmp_path / "group"), 1)
    folds = os.path.join(sources, "folds")
    info = files.read_json(folds + "/fold01/run.json")
    files.write_json(folds + "/fold01/run.json", {**info, "weights": "0" * 64})
    files.write_json(folds + "/group.json", {"kind": "folds", "members": ["fold01", "fold02", "fold03"]})
    with pytest.raises(UserError, match="folds: does not say which weights its other runs begin with"):
        groups.resume(folds, 1)
