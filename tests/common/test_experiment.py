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


# ---------------------------------------------------------------- losses and sections that are added and removed

def parts_of(one):
    """All settings, without names and titles."""
    texts = ("name", "title", "source", "file")
    return {key: value for key, value in dataclasses.asdict(one).items() if key not in texts}


@pytest.mark.parametrize("name, changes, same_as", (
    ("xie2019a/fer2013-softmax", ["losses.center={}"], "xie2019a/fer2013-center"),
    ("xie2019a/fer2013-center", ["losses.center=none"], "xie2019a/fer2013-softmax"),
    ("xie2019a/synthetic-toy-alfw", ["weighting={}"], "xie2019a/synthetic-toy-alaw"),
    ("xie2019a/synthetic-toy-alaw", ["weighting=none"], "xie2019a/synthetic-toy-alfw"),
    # A loss of tuplets brings them along, and takes them with it.
    ("liu2017/synthetic-1b-n1", ["losses.tuplet=none", "losses.clusters={}", "losses.clusters.weight=0.1"],
     "liu2017/synthetic-1b-nm"),
    ("xie2019b/fer2013-center-l2", ["losses.sparse_x=none"], "xie2019b/fer2013-center"),
    # What is there stays, and what is not there is not there.
    ("xie2019a/fer2013-center", ["losses.center={}", "losses.gsf=none", "weighting=none"], "xie2019a/fer2013-center"),
    ("xie2019a/fer2013-softmax", ["losses.center={}", "losses.center=none"], "xie2019a/fer2013-softmax")))
def test_a_loss_or_a_section_is_added_and_removed(name, changes, same_as):
    """The registered experiments, whose files are written by hand, say what comes out."""
    assert parts_of(experiment.load(name, changes)) == parts_of(experiment.load(same_as))


def test_an_added_loss_has_the_defaults_of_the_paper_and_can_be_changed():
    """Table I: lambda_C is 8e-3."""
    name = "xie2019a/fer2013-toy-softmax"
    assert experiment.load(name, ["losses.center={}"]).losses == {"center": {"weight": 8e-3, "normalization": "batch"}}
    for changes in (["losses.center={}", "losses.center.weight=0.5"], ["losses.center.weight=0.5", "losses.center={}"]):
        assert experiment.load(name, changes).losses == {"center": {"weight": 0.5, "normalization": "batch"}}
    # Also without a default of the paper: each setting is given.
    fixed = ["losses.clusters=none", "losses.fixed_clusters={}", "losses.fixed_clusters.weight=1",
             "losses.fixed_clusters.threshold=2", "losses.fixed_clusters.tau=3",
             "losses.fixed_clusters.normalization=none"]
    assert experiment.load("liu2017/synthetic-1b-nm", fixed).losses == {
        "fixed_clusters": {"weight": 1, "threshold": 2, "tau": 3, "normalization": "none"}}
    with pytest.raises(UserError, match="losses: fixed_clusters: missing tau"):
        experiment.load("liu2017/synthetic-1b-nm", [change for change in fixed if "tau" not in change])


def test_a_loss_with_its_own_settings_keeps_them():
    """1e-7 is the file's own weight, 1e-6 the paper's."""
    name = "xie2019a/fer2013-center-norm-gsf-1e-7"
    kept = experiment.load(name, ["losses.gsf={}"])
    assert kept.losses["gsf"]["weight"] == 1e-7 and parts_of(kept) == parts_of(experiment.load(name))
    # Removed and added, it is the paper's.
    assert experiment.load(name, ["losses.gsf=none", "losses.gsf={}"]).losses["gsf"]["weight"] == 1e-6
    # So does a section.
    kept = experiment.load("xie2019a/fer2013-alaw-kappa-1e-4", ["weighting={}"])
    assert kept.weighting["kappa"] == 1e-4


def test_a_section_of_the_defaults_is_removed_for_this_experiment_alone():
    """fer2013-liu2017 has its halving from defaults.yml."""
    name = "liu2017/fer2013-softmax"
    assert experiment.load(name, ["halving=none"]).halving == {}
    assert experiment.load(name).halving == experiment.load(name, ["halving=none", "halving={}"]).halving == {
        "loss_rise": 0.25, "patience": 10}


@pytest.mark.parametrize("change, said", (
    ("losses.gabor=", "expected losses.gabor={}, which adds it with the paper's defaults, or losses.gabor=none"),
    ("losses.gabor={weight: 3}", "expected losses.gabor={}"), ("losses.gabor=7", "expected losses.gabor={}"),
    ("weighting=None", "expected weighting={}, which adds it with the paper's defaults, or weighting=none"),
    ("losses.sphere={}", "there is no loss 'sphere'; expected one of center, gabor, gsf, sift"),
    ("losses.sphere=none", "there is no loss 'sphere'"), ("losses.centre={}", "did you mean center?"),
    ("weightings={}", "did you mean weighting"), ("losses={}", "there is no setting 'losses'"),
    ("losses.={}", "there is no loss ''"), ("head={}", "there is no setting 'head'"),
    ("solver=none", "there is no setting 'solver'"), ("pacing={}", "there is no setting 'pacing'"),
    ("losses.center.weight={}", "'{}' is not a number"),
    ("losses.gsf.weight=1", "this experiment has no losses.gsf; --set losses.gsf={} adds it"),
    ("losses.gsf.tau=1", "there is no setting 'losses.gsf.tau'"),
    ("weighting.rounds=1", "this experiment has no weighting; --set weighting={} adds it"),
    ("weighting={}", "two branches, and adaptive weights, need the losses gsf and sift")))
def test_what_can_not_be_added_or_removed(change, said):
    with pytest.raises(UserError) as error:
        experiment.load(NAME, [change])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_sections_that_belong_to_losses_are_not_set_by_themselves():
    for change in ("tuplets=none", "tuplets={}"):
        with pytest.raises(UserError, match="there is no setting 'tuplets'"):
            experiment.load("liu2017/synthetic-1b-nm", [change])


@pytest.mark.parametrize("name, changes, applied", (
    # A loss can be added wherever the paper has it, and removed where the experiment has it.
    ("xie2019a/fer2013-softmax", ["losses.center={}", "losses.gsf=none"], ["losses.center={}"]),
    ("xie2019a/fer2013-gsf", ["losses.center=none", "losses.gsf=none"], ["losses.gsf=none"]),
    ("wu2023/synthetic-baseline", ["losses.center={}", "weighting={}", "pacing={}"], ["pacing={}"]),
    # What is set in it comes with it, and goes with it.
    ("xie2019a/fer2013-softmax", ["losses.center={}", "losses.center.weight=1"], None),
    ("xie2019a/fer2013-softmax", ["losses.center.weight=1", "net=toy"], ["net=toy"]),
    ("xie2019a/fer2013-center", ["losses.center=none", "losses.center.weight=1"], ["losses.center=none"]),
    ("liu2017/ckplus-2b-nm", ["halving.patience=3"], [])))
def test_which_changes_apply(name, changes, applied):
    assert experiment.applicable(name, changes) == (changes if applied is None else applied)


def test_what_was_added_and_removed_is_found_again():
    softmax, center = (experiment.load("xie2019a/fer2013-" + name) for name in ("softmax", "center-gsf"))
    assert experiment.added_and_removed(softmax, center) == ["losses.center={}", "losses.gsf={}"]
    assert experiment.added_and_removed(center, softmax) == ["losses.center=none", "losses.gsf=none"]
    alaw, alfw = (experiment.load("xie2019a/synthetic-toy-" + name) for name in ("alaw", "alfw"))
    assert experiment.added_and_removed(alaw, alfw) == ["weighting=none"]


# ---------------------------------------------------------------- the user's own files

MINE = "paper: xie2019a\ndata: my-faces\nnet: toy\n"


def own(folder, text, name="my.yml"):
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_of_one_s_own_has_the_paper_s_defaults(tmp_path):
    path = own(tmp_path, MINE + "losses:\n  center: {weight: 0.5}\n  gsf:\nsolver: {max_iter: 7}\n")
    mine = experiment.opened(path, ["solver.batch_size=3", "losses.center={}"])
    assert (mine.name, mine.paper, mine.title, mine.source, mine.data, mine.net, mine.file) == (
        "xie2019a/my.yml", "xie2019a", "my", "", "my-faces", "toy", path)
    assert mine.losses["center"] == {"weight": 0.5, "normalization": "batch"}  # its own, and the paper's
    assert mine.losses["gsf"]["weight"] == 1e-6 and mine.weighting == {}
    assert (mine.solver["max_iter"], mine.solver["batch_size"], mine.solver["base_lr"]) == (7, 3, 0.005)


def test_a_file_of_one_s_own_says_what_it_likes_of_texts_and_of_known_data(tmp_path):
    mine = experiment.opened(own(tmp_path, "paper: xie2019a\ndata: synthetic\nnet: face_resnet\ntitle: a title\n"
                                 "source: notebook 3\npretrained: my weights\n", "a b.yaml"))
    assert (mine.name, mine.title, mine.source, mine.pretrained) == (
        "xie2019a/a b.yaml", "a title", "notebook 3", "my weights")
    assert mine.solver["max_iter"] == 1000  # what the paper's defaults say for these data


def test_a_file_of_one_s_own_is_none_of_the_papers_experiments(tmp_path):
    mine = experiment.opened(own(tmp_path, MINE, "fer2013-softmax.yml"))
    assert mine.name not in experiment.names()
    with pytest.raises(UserError, match="there is no experiment 'xie2019a/fer2013-softmax.yml'"):
        experiment.load(mine.name)


def test_the_file_of_a_registered_experiment_is_that_experiment():
    path = os.path.join(papers.get("xie2019a").experiments, "fer2013-softmax.yml")
    assert experiment.opened(path, ["solver.max_iter=3"]) == experiment.load("xie2019a/fer2013-softmax", [
        "solver.max_iter=3"])
    assert experiment.opened("xie2019a/fer2013-softmax") == experiment.load("xie2019a/fer2013-softmax")


def test_it_may_begin_with_an_experiment_of_the_paper(tmp_path):
    begins = "begins_with: xie2019b/fer2013-center\n"
    mine = experiment.opened(own(tmp_path, "paper: xie2019b\ndata: mine\nnet: toy\n" + begins))
    assert [stage.name for stage in experiment.stages(mine)] == ["xie2019b/fer2013-center", "xie2019b/my.yml"]


@pytest.mark.parametrize("text, said", (
    ("", ": expected lines such as `data: NAME`"), ("- paper", ": expected lines such as"), ("7", ": expected lines"),
    ("paper: xie2019a\n\tdata: x", ":2: is not YAML: "), ("a: [", ":2: is not YAML"),
    ("paper: xie2019a\ndata: x\nnet: toy\nnet: vgg16", ":4: is not YAML: the key 'net' is there twice"),
    (MINE + "solver: {base_lr: 1, base_lr: 2}", ":4: is not YAML: the key 'base_lr' is there twice"),
    (MINE + "title: 2026-13-45", ": has a value that cannot be read (month must be in 1..12); write texts in quotes"),
    ("data: x\nnet: toy", ": missing paper"), ("paper: xie2019a\nnet: toy", ": missing data"),
    ("paper: xie2019a\ndata: x", ": missing net"),
    ("paper: xie2019c\ndata: x\nnet: toy", ": there is no paper 'xie2019c'; did you mean xie2019"),
    ("paper:\ndata: x\nnet: toy", ": there is no paper 'None'"),
    ("paper: [xie2019a]\ndata: x\nnet: toy", ": there is no paper"),
    ("paper: xie2019a\ndata: 2013\nnet: toy", ": data is 2013, expected a text"),
    ("paper: xie2019a\ndata: ''\nnet: toy", ": data is '', expected a text"),
    ("paper: xie2019a\ndata: x\nnet: [toy]", ": net is ['toy'], expected a text"),
    (MINE + "title: 3", ": title is 3, expected a text"), (MINE + "lr: 3", ": unknown key 'lr', expected one of "),
    (MINE + "1: 3", ": unknown key 1, expected one of "), (MINE + "pacing: {}", ": unknown key 'pacing'"),
    (MINE + "losses: center", ": losses is 'center', expected settings, each as KEY: VALUE"),
    (MINE + "losses: {center: 0.5}", ": losses: center is 0.5, expected settings, each as KEY: VALUE"),
    (MINE + "losses: [center]", ": losses is ['center'], expected settings"),
    (MINE + "losses: {centre: {}}", ": losses: unknown key 'centre', expected one of center, gabor, gsf, sift"),
    (MINE + "weighting: none", ": weighting is 'none', expected settings"),
    (MINE + "solver: {base_lr: fast}", ": solver: base_lr is 'fast', expected a number of at least 0"),
    (MINE + "begins_with: me", ": begins_with is 'me', which is not an experiment"),
    ("paper: liu2017\ndata: x\nnet: inception_narrow", ": solver: missing max_iter")))
def test_what_is_wrong_with_a_file_of_one_s_own(tmp_path, text, said):
    path = own(tmp_path, text)
    with pytest.raises(UserError) as error:
        experiment.opened(path)
    assert str(error.value).startswith(path + said) and "\n" not in str(error.value)


def test_a_file_that_can_not_be_read_is_named(tmp_path):
    (tmp_path / "folder.yml").mkdir()
    (tmp_path / "bytes.yml").write_bytes(b"\xff\xfe\x00")
    for name, said in (("none.yml", "No such file or directory"), ("folder.yml", "Is a directory"),
                       ("bytes.yml", "is no text in UTF-8")):
        with pytest.raises(UserError, match=f"{name}: {said}"):
            experiment.opened(str(tmp_path / name))
