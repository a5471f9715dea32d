"""Experiments: defaults, changes, and unknown or wrong keys."""
import dataclasses
import os
import re
import shutil

import pytest

from common import experiment, papers
from common.errors import UserError

NAME = "xie2019a/fer2013-toy-center-gabor"


@pytest.mark.parametrize("name", experiment.names())
def test_all_load(name):
    loaded = experiment.load(name)
    assert loaded.name == name and loaded.paper == name.split("/")[0]


def test_defaults_and_changes():
    assert experiment.load(NAME).losses["gabor"]["weight"] == 1e-6
    changed = experiment.load(NAME, ["losses.gabor.weight=1e-3", "solver.max_iter=7", "losses.gabor.gradient=exact"])
    assert changed.losses["gabor"]["weight"] == 1e-3
    assert changed.solver["max_iter"] == 7
    assert changed.losses["gabor"]["gradient"] == "exact"
    assert experiment.load(NAME).solver["max_iter"] == 30000


def test_a_setting_that_a_note_does_not_have_has_its_default():
    """As in the note of a run that an earlier version trained. What the note has stays."""
    loaded = experiment.load("liu2017/ckplus-2b-nm", ["losses.clusters.weight=0.1"])
    noted = dataclasses.asdict(loaded)
    assert noted["losses"]["clusters"].pop("metric") == "printed"
    assert experiment.from_note(noted) == loaded
    noted["losses"]["clusters"]["metric"] = "consistent"
    assert experiment.from_note(noted).losses["clusters"]["metric"] == "consistent"
    # Of a paper that this version does not know, nothing is known.
    del noted["losses"]["clusters"]["metric"]
    assert "metric" not in experiment.from_note(dict(noted, name="unknown/own")).losses["clusters"]


def test_fig_11_is_of_normalised_nets():
    found = {name: one for name, one in ((name, experiment.load(name)) for name in experiment.names())
             if "11" in one.source and one.data == "fer2013"}
    assert {name.split("-toy-")[1]: (one.head["normalize"], sorted(one.losses)) for name, one in found.items()} == {
        "norm": ("fixed", []), "center-norm-gabor": ("fixed", ["center", "gabor"])}


FER = "xie2019b/fer2013-center-l2"


@pytest.mark.parametrize("data", ("ckplus", "oulu_casia", "mmi"))
def test_a_net_that_is_tested_on_fer2013_has_not_seen_it(data):
    """[xie2019b] 3.5: one database trains, the remaining ones test. Tables 9 to 11 begin with the FER2013 model."""
    whole, folds = f"xie2019b/{data}_whole-center-l2", f"xie2019b/{data}-center-l2"
    assert [one.name for one in experiment.stages(experiment.load(whole))] == [whole]
    assert [one.name for one in experiment.stages(experiment.load(folds))] == [FER, folds]
    other_way = ["begins_with=" + FER]
    assert [one.name for one in experiment.stages(experiment.load(whole, other_way), other_way)] == [FER, whole]
    assert experiment.applicable(whole, other_way) == other_way and experiment.applicable(FER, other_way) == []


@pytest.mark.parametrize("value, said", [
    ("xie2019b/fer2013", "begins_with is 'xie2019b/fer2013', which is not an experiment"),
    ("xie2019b/mmi_whole-center-l2", "mmi_whole-center-l2: starts from its own weights through begins_with=")])
def test_what_an_experiment_cannot_begin_with(value, said):
    changes = ["begins_with=" + value]
    with pytest.raises(UserError, match=said):
        experiment.stages(experiment.load("xie2019b/mmi_whole-center-l2", changes), changes)


def test_table_i_is_in_the_defaults():
    alaw = experiment.load("xie2019a/mmi-alaw")
    assert {loss: settings["weight"] for loss, settings in alaw.losses.items()} == {
        "center": 8e-3, "gsf": 1e-6, "sift": 1e-6}
    assert {settings.get("rho", 0.98) for settings in alaw.losses.values()} == {0.98}
    assert (alaw.solver["base_lr"], alaw.solver["batch_size"], alaw.solver["momentum"]) == (5e-3, 64, 0.8)
    assert alaw.weighting == {"gamma": 1.05, "kappa": 1e-5, "eps": 1e-8, "restart_iterations": 1000, "rounds": 30}
    # II-E: a round of the restarts is as long as their share of a training with fixed weights.
    assert alaw.weighting["restart_iterations"] * alaw.weighting["rounds"] == alaw.solver["max_iter"]


@pytest.mark.parametrize("name, gamma, class_weights", [
    ("fer2013-alaw", 1.2, "inverse"), ("fer2013-alaw-kappa-1e-4", 1.2, "inverse"), ("ckplus-alaw", 1.05, "inverse"),
    ("oulu_casia-blaw", 1.05, "none"), ("mmi-alaw", 1.05, "none"), ("fer2013-toy-alaw", 1.2, "none")])
def test_what_differs_for_a_data_set(name, gamma, class_weights):
    loaded = experiment.load("xie2019a/" + name)
    assert (loaded.weighting["gamma"], loaded.head["class_weights"]) == (gamma, class_weights)


def test_every_row_of_the_tables_has_its_experiment():
    sources = [loaded.source for loaded in map(experiment.load, experiment.names()) if loaded.net == "face_resnet"]
    for row in ([f"III row {number}" for number in range(1, 9)]
                + [f"IV row {number}" for number in range(1, 8)]
                + [f"V row {number}" for number in range(1, 6)]):
        assert sum(bool(re.search(rf"\b{row}\b", source)) for source in sources) == 1, row
    # Without, GSF, GABOR, SIFT; 3 and 4 of each data set; kappa; baseline and the authors' own.
    for table, rows in (("II", 4), ("VI", 12), ("VII", 16), ("VIII", 5), ("IX", 3), ("X", 3), ("XI", 6), ("XII", 3)):
        pattern = re.compile(rf"(Tables?|,) {table}\b")
        assert sum(bool(pattern.search(source)) for source in sources) == rows, table


def test_weighted_multiplies_what_is_named():
    losses = experiment.load("xie2019a/mmi-alfw").one_training(gsf=1.5, sift=0.5).losses
    assert (losses["gsf"]["weight"], losses["sift"]["weight"], losses["center"]["weight"]) == (1.5e-6, 0.5e-6, 8e-3)
    assert losses["gsf"]["rho"] == 0.98


def test_head_can_be_changed():
    changed = experiment.load("xie2019a/mmi-alaw", ["head.normalize=learned", "head.scale=8", "weighting.gamma=1.1"])
    assert (changed.head["normalize"], changed.head["scale"], changed.weighting["gamma"]) == ("learned", 8, 1.1)


@pytest.mark.parametrize("change, said", [
    ("solver.max_ier=7", "--set solver.max_ier=7: there is no setting 'solver.max_ier'; did you mean solver.max_iter"),
    ("solver=7", "there is no setting 'solver'"), ("max_iter=7", "did you mean solver.max_iter"),
    ("solver.max_iter", "expected KEY=VALUE"), ("solver.max_iter.x=7", "did you mean solver.max_iter"),
    ("solver.max_iter=many", "'many' is not a number"),
    ("losses.sift.weight=1", "this experiment has no losses.sift; --set losses.sift={} adds it")])
def test_wrong_changes_are_named(change, said):
    with pytest.raises(UserError) as error:
        experiment.load(NAME, [change])
    assert said in str(error.value)


@pytest.mark.parametrize("name, similar", (
    ("xie2019a/fer2013-sofmax", "; did you mean "), ("fer2013-softmax", "; did you mean "),
    ("xie2019c/fer2013-softmax", "; did you mean "), ("nothing/alike", "; `./fer experiments` lists them all"),
    ("xie2019a/defaults", ""), ("xie2019a/", ""), ("", "; `./fer experiments` lists them all")))
def test_an_unknown_experiment_names_similar_ones(name, similar):
    with pytest.raises(UserError) as error:
        experiment.load(name)
    said = str(error.value)
    assert said.startswith(f"there is no experiment {name!r}{similar}") and len(said) < 200


START = "title: t\nsource: s\ndata: {}\nnet: {}\n"
XIE2019A, XIE2019B = START.format("fer2013", "toy"), START.format("fer2013", "toy") + "head: {fc1: 8}\n"
LIU2017 = START.format("synthetic-liu2017", "inception_narrow")
FARZANEH2021 = START.format("synthetic-farzaneh2021", "resnet_small")
WU2023 = START.format("synthetic-wu2023", "resnet_small")


def paper_of(text):
    """The paper for whose experiments a text is, xie2019a where it is one of those without an own start."""
    starts = {XIE2019B: "xie2019b", LIU2017: "liu2017", FARZANEH2021: "farzaneh2021", WU2023: "wu2023"}
    return next((paper for start, paper in starts.items() if text.startswith(start)), "xie2019a")


@pytest.mark.parametrize("text, said", [
    (XIE2019A + "losses: {sparse_z: {}}", "losses: unknown key 'sparse_z', expected one of center, gabor, gsf, sift"),
    (XIE2019A + "losses: {clusters: {}}", "losses: unknown key 'clusters'"),
    (XIE2019A + "head: {branches: 2}", "head: unknown key 'branches'"),
    (XIE2019A + "head: {attention: network}", "head: unknown key 'attention'"),
    (XIE2019A + "pacing: {}", "unknown key 'pacing'"), (XIE2019A + "halving: {}", "unknown key 'halving'"),
    (XIE2019A + "tuplets: {positives: 2}", "unknown key 'tuplets'"),
    (XIE2019B + "losses: {gsf: {}}", "losses: unknown key 'gsf'"),
    (XIE2019B + "weighting: {}", "unknown key 'weighting'"),
    (XIE2019B + "losses: {sparse_x: {coefficient: same}}", "sparse_x: unknown key 'coefficient'"),
    (LIU2017 + "losses: {center: {}}", "losses: unknown key 'center'"),
    (LIU2017 + "losses: {tuplet: {rank: 1}}", "losses: tuplet: unknown key 'rank'"),
    (LIU2017 + "head: {branches: 3}", "head: branches is 3, expected one of 1, 2"),
    (LIU2017 + "passes_on: first", "passes_on is 'first', expected one of last, best"),
    (FARZANEH2021 + "losses: {sparse_center: {tau: 1}}", "losses: sparse_center: unknown key 'tau'"),
    (FARZANEH2021 + "head: {attention: networks}", "head: attention is 'networks', expected one of none, network"),
    (FARZANEH2021 + "head: {noise: 1}", "head: unknown key 'noise'"),
    (WU2023 + "losses: {center: {}}", "losses: unknown key 'center', expected one of none"),
    (WU2023 + "pacing: {first: 101}", "pacing: first is 101, expected at most 100"),
    (WU2023 + "pacing: {paces: 0}", "pacing: paces is 0, expected a whole number of at least 1"),
    (WU2023 + "head: {subtracted: both}", "head: subtracted is 'both', expected one of none, reference, backbone"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlr: 1", "unknown key 'lr'"),
    ("title: t\nsource: s\ndata: fer2013", "missing net"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {sphere: {}}", "losses: unknown key 'sphere'"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {gabor: {lambda: 1}}",
     "losses: gabor: unknown key 'lambda'"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {gabor: {weight: 1e-6}}",
     "weight is '1e-6', expected a number"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nhead: {structure: trunk}",
     "head: structure is 'trunk', expected one of single, branched"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nhead: {normalize: }", "head: normalize is None"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {gsf: {gradient: 7}}", "gradient is 7, expected one of"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {gsf: {}}\nhead: {structure: branched}",
     "two branches, and adaptive weights, need the losses gsf and sift"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nlosses: {sift: {}}\nweighting: {}", "need the losses gsf and sift"),
    ("title: t\nsource: s\ndata: fer2013\nnet: toy\nsolver: {epochs: 1}", "solver: unknown key 'epochs'")])
def test_wrong_files_are_named(tmp_path, monkeypatch, text, said):
    paper = paper_of(text)
    shutil.copy(os.path.join(papers.get(paper).experiments, "defaults.yml"), str(tmp_path))
    (tmp_path / "own.yml").write_text(text)
    monkeypatch.setitem(papers._papers, paper, dataclasses.replace(papers.get(paper), experiments=str(tmp_path)))
    with pytest.raises(UserError) as error:
        experiment.load(paper + "/own")
    assert "own.yml" in str(error.value) and said in str(error.value)


@pytest.mark.parametrize("change, said", [
    ("batch_size=0", "batch_size is 0, expected a whole number of at least 1"),
    ("max_iter=0", "max_iter is 0, expected a whole number of at least 1"),
    ("max_iter=2.5", "max_iter is 2.5, expected a whole number"),
    ("base_lr=-1", "base_lr is -1, expected a number of at least 0")])
def test_solver_settings_out_of_range_are_named(change, said):
    with pytest.raises(UserError, match="solver: " + said):
        experiment.load("xie2019a/fer2013-toy-softmax", ["solver." + change])


@pytest.mark.parametrize("name, pretrained", (
    ("xie2019a/mmi-alaw", "face_model.caffemodel"), ("xie2019a/fer2013-toy-alaw", ""),
    ("xie2019b/fer2013-center-l2", "face_model.caffemodel"), ("xie2019b/mmi-one_map-l2", ""),
    ("xie2019b/fer2013-vgg-l2", "a public face recognition model"), ("liu2017/ckplus-2b-nm", ""),
    ("farzaneh2021/affectnet-dacl", "MS-Celeb-1M"), ("farzaneh2021/synthetic-dacl", ""),
    ("wu2023/ckplus-spndl", "ImageNet"), ("wu2023/oulu_casia-baseline", "ImageNet"),
    ("wu2023/ckplus-spndl-without-neutral", "MS-Celeb-1M"), ("wu2023/raf_db-spndl-without-neutral", "MS-Celeb-1M"),
    ("wu2023/synthetic-spndl-without-neutral", "")))
def test_what_the_papers_nets_were_pretrained_on(name, pretrained):
    assert experiment.load(name).pretrained == pretrained


@pytest.mark.parametrize("policy, needed", [
    ("fixed", []), ("step", ["gamma", "stepsize"]), ("exp", ["gamma"]), ("inv", ["gamma", "power"]),
    ("multistep", ["gamma", "stepvalue"]), ("poly", ["power"]), ("sigmoid", ["gamma", "stepsize"])])
def test_a_policy_needs_what_caffes_solver_takes_for_it(policy, needed):
    """As caffe.proto says of lr_policy; the settings are none that the experiment has."""
    name = "xie2019a/fer2013-toy-softmax"
    values = {"gamma": "0.5", "stepsize": "7", "power": "0.75", "stepvalue": "3,9"}
    given = [f"solver.{key}={values[key]}" for key in needed]
    assert experiment.applicable(name, given) == given
    solver = experiment.load(name, ["solver.lr_policy=" + policy] + given).solver
    assert {key: solver[key] for key in needed} == {
        key: {"gamma": 0.5, "stepsize": 7, "power": 0.75, "stepvalue": [3, 9]}[key] for key in needed}
    for missing in given:
        with pytest.raises(UserError, match="lr_policy {} needs --set {}=...".format(policy, missing.split("=")[0])):
            experiment.load(name, ["solver.lr_policy=" + policy] + [one for one in given if one != missing])


@pytest.mark.parametrize("change, said", [
    ("solver.base_lr=nan", "'nan' is not a number"), ("losses.center.weight=-inf", "'-inf' is not a number"),
    ("solver.base_lr=1e999", "'1e999' is not a number"),
    ("solver.batch_size=1e9", "batch_size is 1000000000.0, expected a whole number"),
    ("solver.batch_size=2147483648", "batch_size is 2147483648, expected at most 2147483647"),
    ("solver.lr_policy=stp", "lr_policy is 'stp', expected one of fixed, step, "), ("solver.type=Sgd", "type is 'Sgd'"),
    ("solver.stepvalue=5,3", "stepvalue is [5, 3], expected whole numbers in rising order"),
    ("solver.stepvalue=2.5", "stepvalue is [2.5]"), ("solver.iter_size=2", "there is no setting 'solver.iter_size'")])
def test_values_that_no_training_can_have(change, said):
    with pytest.raises(UserError, match=re.escape(said)):
        experiment.load("xie2019a/fer2013-toy-center-gabor", [change])
