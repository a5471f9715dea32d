"""The graph of jobs that a table takes."""
import dataclasses
import json
import os

import pytest

from common import experiment, files
from common.errors import UserError
from common.machine import Device
from tests.tools import hand_made
from tools.reproduce import plan, requests
from tools.training.caffe_process import Engine
from tools.training.run import Run, described

TOY = ["net=toy", "solver.max_iter=20", "solver.snapshot=20"]


def prepared(folder, data, classes=7, folds=()):
    """The notes of a prepared folder."""
    dataset, _, protocol = data.partition("-")
    note = {"asked": {"dataset": dataset, "protocol": protocol}, "folds": list(folds), "classes": ["c"] * classes,
            "records": {"train": 70, "val": 14, "test": 14}, "shape": [1, 48, 48],
            "class_counts": {"train": [10] * classes}, "manifest": "of the first images"}
    files.write_json(str(folder / data / "prepare.json"), note)
    for fold in folds:
        files.write_json(str(folder / data / fold / "prepare.json"), dict(note, folds=[]))
    return str(folder / data)


def request(tmp_path, *tables, changes=TOY, weights=(), only=()):
    (tmp_path / "data").mkdir(exist_ok=True)
    return requests.request(tables, [str(tmp_path / "data")], str(tmp_path / "out"), changes, only, weights, 1)


def planned(tmp_path, *tables, **settings):
    return plan.plan(request(tmp_path, *tables, **settings))


def titles(made):
    return [job.title for job in made.jobs]


def option(job, name):
    return job.command[job.command.index(name) + 1]


def test_without_data_all_is_named_and_nothing_done(tmp_path):
    made = planned(tmp_path, "xie2019a-table7", changes=())
    assert made.jobs == [] and [cell.folder for cell in made.tables["xie2019a-table7"]] == [None] * 16
    assert set(made.missing) == {"fer2013-xie2019a", "ckplus-xie2019a", "oulu_casia-xie2019a", "mmi-xie2019a"}
    assert made.missing["ckplus-xie2019a"] == (
        "./fer prepare ckplus SOURCE --protocol xie2019a --template ckplus.json --features gsf sift "
        "--out DATA/ckplus-xie2019a")
    assert [note for note in plan.notes(made) if "./fer template" in note] == [
        "the template of the paper, ckplus.json, is measured by: ./fer template ckplus SOURCE --out ckplus.json; "
        "without --template, faces are aligned to the template of this project, and nothing is compared"]


def test_the_features_of_all_figures_of_a_data_set_are_named(tmp_path):
    # The first row of Table III is softmax alone.
    for table, wanted in (("xie2019a-table3", " gsf"), ("xie2019a-table4", " gabor gsf"),
                          ("xie2019a-table2", " gabor gsf sift"), ("xie2019b-table4", "")):
        assert planned(tmp_path, table, changes=()).missing["fer2013-xie2019a"] == (
            f"./fer prepare fer2013 SOURCE --protocol xie2019a --features{wanted} --out DATA/fer2013-xie2019a")


def test_one_set_of_images(tmp_path):
    data = prepared(tmp_path / "data", "fer2013-xie2019a")
    made = planned(tmp_path, "xie2019a-table5", "xie2019a-table6")
    # Softmax, SIFT and GSF with L1 and L2 are in both tables, or in one; the validation split is in Table V alone.
    trained = [job for job in made.jobs if job.title.startswith("train")]
    assert sorted(os.path.basename(job.title) for job in trained) == [
        "fer2013-center-norm-gsf", "fer2013-center-norm-gsf-l1", "fer2013-center-norm-sift",
        "fer2013-center-norm-sift-l1", "fer2013-softmax"]
    for split in ("val", "test"):
        assert sum("on " + split in title for title in titles(made)) == 5
    run = str(tmp_path / "out" / "runs" / "xie2019a" / "fer2013-softmax")
    softmax = next(job for job in trained if job.title == "train xie2019a/fer2013-softmax")
    assert softmax.makes == [run + "/snapshots/iter_20.caffemodel"] and softmax.needs == []
    assert (option(softmax, "--data"), option(softmax, "--out")) == (data, run)
    assert [softmax.command[at + 1] for at, word in enumerate(softmax.command) if word == "--set"] == TOY
    evaluated = next(job for job in made.jobs if job.title == "evaluate xie2019a/fer2013-softmax on val")
    assert evaluated.needs == softmax.makes and evaluated.makes == [run + "/metrics-val.json"]
    assert made.stand_ins == {} and "ckplus-xie2019a" in made.missing


def test_folds_are_jobs_of_their_own(tmp_path):
    prepared(tmp_path / "data", "ckplus-wu2023", folds=("fold01", "fold02"))
    made = planned(tmp_path, "wu2023-table1", changes=["solver.batch_size=7"])
    runs = str(tmp_path / "out" / "runs" / "wu2023")
    assert [(os.path.relpath(group.folder, runs), group.members) for group in made.groups] == [
        (name, ["fold01", "fold02"]) for name in ("ckplus-baseline", "ckplus-spndl-without-neutral", "ckplus-spndl")]
    paced = next(job for job in made.jobs if job.title == "train wu2023/ckplus-spndl fold02")
    # Paces of 41, 41, 41, 41, 41 and 45 epochs of 35, 42, 49, 56, 63, 70 samples in batches of 7.
    assert os.path.basename(paced.makes[0]) == f"iter_{41 * (5 + 6 + 7 + 8 + 9) + 45 * 10}.caffemodel"
    evaluated = next(job for job in made.jobs if job.title == "evaluate wu2023/ckplus-spndl on test")
    assert len(evaluated.needs) == 2 and evaluated.makes == [runs + "/ckplus-spndl/metrics.json"]
    path = plan.write(made, str(tmp_path / "out"))
    assert files.read_json(runs + "/ckplus-spndl/group.json") == {"kind": "folds", "members": ["fold01", "fold02"]}
    assert [job["title"] for job in json.load(open(path))] == titles(made)
    assert plan.write(made, str(tmp_path / "out")) == path


def test_each_job_is_told_the_device(tmp_path):
    prepared(tmp_path / "data", "fer2013-xie2019a")
    asked = request(tmp_path, "xie2019a-table4")
    for device, words in ((Device(), []), (Device(gpu="1"), ["--gpu", "1"]), (
            Device("torch", "0,1", "bf16"), ["--engine", "torch", "--gpu", "0,1", "--precision", "bf16"])):
        made = plan.plan(dataclasses.replace(asked, device=device))
        assert {job.command[1] for job in made.jobs} >= {"train", "evaluate"}
        for job in made.jobs:
            assert job.command[len(job.command) - len(words):] == words
            assert len({"--engine", "--gpu", "--precision"} & set(job.command)) == len(words) / 2


@pytest.mark.parametrize("command, cards", [
    (["fer", "train"], 0), (["fer", "train", "--gpu", "1", "x"], 1), (["fer", "train", "--gpu", "0,3,2"], 3)])
def test_each_job_asks_the_cluster_for_its_cards(tmp_path, command, cards):
    made = plan.Plan({}, [plan.Job("x", command, [], ["m"], "log", 1, None)], [], {}, {}, [], {})
    [job] = files.read_json(plan.write(made, str(tmp_path / "out")))
    assert job["gpu"] == cards


def test_stages_hand_their_weights_on(tmp_path):
    prepared(tmp_path / "data", "sfew-liu2017")
    prepared(tmp_path / "data", "fer2013-liu2017")
    model = tmp_path / "model.caffemodel"
    model.write_bytes(b"")
    made = planned(tmp_path, "liu2017-table5", changes=["solver.max_iter=10"], weights=["inception=" + str(model)])
    assert titles(made)[0] == "train liu2017/fer2013-softmax" and len(made.jobs) == 9
    first = made.jobs[0]
    assert option(first, "--weights") == str(model) and first.needs == [str(model)]
    for job in made.jobs[1:]:
        if job.title.startswith("train"):
            assert option(job, "--weights") == str(tmp_path / "out/runs/liu2017/fer2013-softmax")
            assert job.needs == first.makes
    assert made.unstaged == ["liu2017/multi_pie-1b-n1", "liu2017/multi_pie-1b-nm", "liu2017/multi_pie-2b-n1",
                             "liu2017/multi_pie-2b-nm"]


def test_the_most_specific_weights_win(tmp_path):
    prepared(tmp_path / "data", "raf_db-wu2023")
    for name in ("imagenet", "celeb", "other", "with=sign"):
        (tmp_path / name).write_bytes(b"")

    def begun(*weights):
        made = planned(tmp_path, "wu2023-table3", changes=(), weights=[
            one.replace("@", str(tmp_path) + os.sep) for one in weights])
        return {job.title.split("/")[1]: os.path.basename(option(job, "--weights")) if "--weights" in job.command
                else None for job in made.jobs if job.title.startswith("train")}, made.without_weights
    two = "wu2023/raf_db-spndl-without-neutral"
    assert begun("resnet18=@imagenet", two + "=@celeb", "@other") == (
        {"raf_db-baseline": "imagenet", "raf_db-spndl-without-neutral": "celeb"}, {})
    assert begun(two + "=@celeb", "@other")[0] == {
        "raf_db-baseline": "other", "raf_db-spndl-without-neutral": "celeb"}
    assert begun("@with=sign")[0] == {"raf_db-baseline": "with=sign", "raf_db-spndl-without-neutral": "with=sign"}
    assert begun(two + "=@celeb") == ({"raf_db-baseline": None, "raf_db-spndl-without-neutral": "celeb"},
                                      {"wu2023/raf_db-baseline": "ImageNet"})
    assert begun()[1] == {"wu2023/raf_db-baseline": "ImageNet", two: "MS-Celeb-1M"}
    made = planned(tmp_path, "wu2023-table3", changes=())
    assert [note for note in plan.notes(made) if "--weights" in note] == [
        "the paper's net was pretrained (ImageNet), but these begin without weights (see --weights): "
        "wu2023/raf_db-baseline",
        "the paper's net was pretrained (MS-Celeb-1M), but these begin without weights (see --weights): " + two]


@pytest.mark.parametrize("word, iteration", (("@2", 2), ("@best", 2), ("", 4)))
def test_a_snapshot_of_a_run_is_taken_as_weights(tmp_path, word, iteration):
    prepared(tmp_path / "data", "ckplus-wu2023", folds=("fold01", "fold02"))
    source = Run(hand_made.run(tmp_path / "source", "wu2023/synthetic-baseline", iterations=(2, 4)))
    hand_made.log(source.folder, [1.0], {2: .6, 4: .5})
    files.write_text(source.path("deploy.prototxt"), "")
    for key in ("", "resnet18=", "wu2023/ckplus-baseline="):
        made = planned(tmp_path, "wu2023-table1", changes=(), only=["ckplus-wu2023"],
                       weights=[key + source.folder + word])
        taken = [option(job, "--weights") for job in made.jobs if job.title.startswith("train wu2023/ckplus-baseline ")]
        assert taken == 2 * [source.weights_of(iteration)]
        assert all(source.weights_of(iteration) in job.needs for job in made.jobs
                   if job.title.startswith("train wu2023/ckplus-baseline "))


def test_each_fold_takes_the_weights_of_its_fold(tmp_path):
    prepared(tmp_path / "data", "ckplus-wu2023", folds=("fold01", "fold02"))
    for fold in ("fold01", "fold02"):
        hand_made.run(tmp_path / "group" / fold, "wu2023/synthetic-baseline", iterations=(2, 4))
    group = hand_made.group(tmp_path / "group", "folds")
    made = planned(tmp_path, "wu2023-table1", changes=(), only=["ckplus-wu2023"],
                   weights=[f"wu2023/ckplus-baseline={group}@2"])
    assert [option(job, "--weights") for job in made.jobs if "--weights" in job.command] == [
        f"{group}/{fold}/snapshots/iter_2.caffemodel" for fold in ("fold01", "fold02")]
    for word, said in (("@3", "group/fold01: no snapshot of iteration 3; it has 2, 4"),
                       ("@worst", "group@worst: names no snapshot; expected ")):
        with pytest.raises(UserError, match=said):
            planned(tmp_path, "wu2023-table1", changes=(), only=["ckplus-wu2023"], weights=[group + word])
    files.write_json(group + "/group.json", {"kind": "folds", "members": ["fold01"]})
    with pytest.raises(UserError, match="group: has no fold02; it has fold01"):
        planned(tmp_path, "wu2023-table1", changes=(), only=["ckplus-wu2023"], weights=[group])


def test_a_loss_is_added_to_the_experiments_whose_paper_has_it(tmp_path):
    prepared(tmp_path / "data", "fer2013-xie2019a")
    made = planned(tmp_path, "xie2019b-table4", changes=[*TOY, "losses.sparse_x=none", "losses.center={}"])
    for job in (job for job in made.jobs if job.title.startswith("train")):
        name = job.title.split()[1]
        assert ("losses.sparse_x=none" in job.command) == ("sparse_x" in experiment.load(name).losses)
        assert "losses.center={}" in job.command


def test_weights_of_an_experiment_stand_before_those_of_its_stage(tmp_path):
    for name in ("fer2013-xie2019a", "mmi-xie2019b"):
        prepared(tmp_path / "data", name)
    (tmp_path / "own").write_bytes(b"")
    made = planned(tmp_path, "xie2019b-table11", weights=["xie2019b/mmi-center-l2={}".format(tmp_path / "own")])
    assert titles(made) == ["train xie2019b/mmi-center-l2", "evaluate xie2019b/mmi-center-l2 on test"]
    assert option(made.jobs[0], "--weights") == str(tmp_path / "own")


def test_tests_on_other_data(tmp_path):
    for name in ("fer2013-xie2019a", "ckplus-xie2019b_whole"):
        prepared(tmp_path / "data", name)
    made = planned(tmp_path, "xie2019b-table12")
    assert [title for title in titles(made) if " on " in title] == [
        "evaluate xie2019b/fer2013-center-l2 on ckplus-xie2019b_whole",
        "evaluate xie2019b/ckplus_whole-center-l2 on fer2013-xie2019a"]
    assert made.jobs[-1].command[-2:] == ["--without", "neutral"]
    assert made.jobs[-1].makes == [str(
        tmp_path / "out/runs/xie2019b/ckplus_whole-center-l2/metrics-on-fer2013-xie2019a.json")]
    # CK+'s net, which FER2013 tests, does not begin with the FER2013 model, unless it is told to.
    assert made.jobs[2].title == "train xie2019b/ckplus_whole-center-l2" and "--weights" not in made.jobs[2].command
    change = "begins_with=xie2019b/fer2013-center-l2"
    told = planned(tmp_path, "xie2019b-table12", changes=TOY + [change]).jobs
    assert option(told[2], "--weights").endswith("runs/xie2019b/fer2013-center-l2")
    assert change in told[2].command and change not in told[0].command


def test_features_and_response_ratios(tmp_path):
    data = prepared(tmp_path / "data", "fer2013-xie2019a")
    made = planned(tmp_path, "xie2019a-table2")
    handcrafted = [job for job in made.jobs if "--data" in job.command and job.command[1] == "features"]
    assert [job.makes for job in handcrafted] == [[data + f"/svm/{name}.json"] for name in (
        "gsf", "gabor", "sift")]
    deep = [job for job in made.jobs if job.command[1:4] == ["features", "--svm", "--run"]]
    assert len(deep) == 4 and all(job.makes[0].endswith("/svm.json") and job.needs for job in deep)

    prepared(tmp_path / "data", "mmi-xie2019b", folds=("fold01", "fold02"))
    made = planned(tmp_path, "xie2019b-table2", changes=())
    ratios = [job for job in made.jobs if job.command[1] == "respond-ratio"]
    assert [job.title for job in ratios][:2] == ["respond-ratio of xie2019b/mmi-one_map-norm fold01",
                                                 "respond-ratio of xie2019b/mmi-one_map-norm fold02"]
    assert made.unstaged == []


def test_an_svm_of_a_part_of_the_images_is_no_result(tmp_path):
    data = prepared(tmp_path / "data", "fer2013-xie2019a")
    files.claim(str(tmp_path / "out"), plan.KIND)
    for path in (data + "/svm/sift.json", str(tmp_path / "out/runs/xie2019a/fer2013-gsf/svm.json")):
        files.write_json(path, {"limit": None})
        planned(tmp_path, "xie2019a-table2")
        files.write_json(path, {"limit": 3000})
        with pytest.raises(UserError, match=path + ": is of the first 3000 training images only; remove it"):
            planned(tmp_path, "xie2019a-table2")
        files.remove(path)


def test_a_pruned_run_begins_with_the_one_without(tmp_path):
    prepared(tmp_path / "data", "fer2013-xie2019a")
    made = planned(tmp_path, "xie2019b-table5")
    pruned = next(job for job in made.jobs if job.title == "train xie2019b/fer2013-w-l1-cp")
    assert option(pruned, "--weights") == str(tmp_path / "out/runs/xie2019b/fer2013-w-l1")
    assert pruned.needs == [str(tmp_path / "out/runs/xie2019b/fer2013-w-l1/snapshots/iter_20.caffemodel")]


def test_one_data_set_alone(tmp_path):
    for name in ("fer2013-xie2019a", "ckplus-xie2019a"):
        prepared(tmp_path / "data", name)
    made = planned(tmp_path, "xie2019a-table7", only=["ckplus-xie2019a"])
    assert all("ckplus" in title for title in titles(made)) and made.missing == {}


def test_a_stand_in_is_named(tmp_path):
    other = prepared(tmp_path, "synthetic-plain")
    made = plan.plan(requests.request(["xie2019b-table4"], ["fer2013-xie2019a=" + other], str(tmp_path / "out"), TOY,
                                       [], [], 1))
    assert made.stand_ins == {"fer2013-xie2019a": f"synthetic-plain ({other})"}
    assert len(made.jobs) == 4


def test_one_folder_stands_in_for_several_data_sets(tmp_path):
    other = prepared(tmp_path, "synthetic-plain")

    def made(*names):
        return plan.plan(requests.request(["xie2019b-table12"], [f"{name}={other}" for name in names],
                                           str(tmp_path / "out"), TOY, [], [], 1))
    planned_jobs = made("fer2013-xie2019a", "oulu_casia-xie2019b_whole", "mmi-xie2019b_whole").jobs
    makes = [path for job in planned_jobs for path in job.makes]
    # Three trainings, each tested once on what stands in for both others.
    assert len(planned_jobs) == 6 and len(set(makes)) == len(makes)
    with pytest.raises(UserError, match="evaluate xie2019b/ckplus_whole-center-l2 on fer2013-xie2019a and evaluate "
                                        "xie2019b/ckplus_whole-center-l2 on mmi-xie2019b_whole would both write "):
        made("fer2013-xie2019a", "ckplus-xie2019b_whole", "mmi-xie2019b_whole")


@pytest.mark.parametrize("changed, message", (
    ({}, None),
    (dict(changes=TOY + ["solver.base_lr=0.5"]),
     "whose experiment was {'solver': {'base_lr': 0.01}}, not {'solver': {'base_lr': 0.5}}; give another --out"),
    (dict(threads=2), "whose threads was 1, not 2; give another --out"),
    (dict(weights=[__file__]), "whose weights was None, not "),
    (dict(manifest="of others"), "whose manifest was of others, not of the first images; give another --out")))
def test_runs_of_other_settings_data_or_weights_are_no_results(tmp_path, changed, message):
    data = prepared(tmp_path / "data", "fer2013-xie2019a")
    chosen = experiment.load("xie2019b/fer2013-softmax", TOY)
    begun = Run(str(tmp_path / "out/runs/xie2019b/fer2013-softmax"))
    info = described(chosen, data, {"manifest": changed.get("manifest", "of the first images")}, None, Engine(1))
    files.write_json(begun.path("run.json"), hand_made.info(chosen, **info))

    def made():
        return plan.plan(requests.request(
            ["xie2019b-table4"], [str(tmp_path / "data")], str(tmp_path / "out"), changed.get("changes", TOY), [],
            changed.get("weights", []), changed.get("threads", 1)))
    assert len(made().jobs) == 4  # without a snapshot it begins anew
    files.write_text(begun.weights_of(20), "")
    if message is None:
        assert made().jobs[0].done
        return
    with pytest.raises(UserError) as error:
        made()
    assert f"{begun.folder}: belongs to another run, {message}" in str(error.value)


@pytest.mark.parametrize("settings, message", (
    (dict(targets=["xie2019a-table1"]), "there is no table or figure 'xie2019a-table1'; did you mean xie2019a-table1"),
    (dict(changes=["solver.max_itre=3"]), "--set solver.max_itre=3: no experiment of xie2019b-table4 has this setting"),
    (dict(changes=["solver.max_iter=many"]), "--set solver.max_iter=many: 'many' is not a number"),
    (dict(changes=["net=big"]), "there is no net 'big'; prototxt/builders/backbones.py lists them all"),
    (dict(only=["fer2013"]), "xie2019b-table4 has no values for fer2013; it has some for fer2013-xie2019a"),
    (dict(only=["fer2013-xie2091a"]), "--only fer2013-xie2091a: there is no data set 'fer2013-xie2091a'; did you "
     "mean fer2013-xie2019a"),
    (dict(data=[__file__]), "test_plan.py: is no folder"),
    (dict(data=["nowhere"]), "nowhere: no such file or folder"),
    (dict(out="{x}"), "iter_20000.caffemodel: Snakemake would read the braces in this path as wildcards"),
    (dict(weights=["nothing.caffemodel"]), "nothing.caffemodel: no such file or folder"),
    (dict(weights=[__file__, __file__]), "--weights: two files for all nets; expected EXPERIMENT=FILE, NET=FILE, and "),
    (dict(weights=["toy=" + __file__, "toy=" + __file__]), "--weights: two files for toy; expected "),
    (dict(weights=["vgg61=" + __file__]), "there is no experiment and no net 'vgg61'; did you mean vgg16"),
    (dict(weights=["xie2019b/fer2013-sofmax=" + __file__]),
     "no net 'xie2019b/fer2013-sofmax'; did you mean xie2019b/fer2013-softmax"),
    (dict(weights=["vgg16=nothing.caffemodel"]), "nothing.caffemodel: no such file or folder"),
    (dict(weights=["vgg16=" + __file__]), "--weights vgg16=...: no training of xie2019b-table4 begins with them; it "
     "trains xie2019b/fer2013-softmax (face_resnet_pad4), xie2019b/fer2013-l2 (face_resnet_pad4)")))
def test_refuses(tmp_path, settings, message):
    prepared(tmp_path / "data", "fer2013-xie2019a")
    given = dict(dict(targets=["xie2019b-table4"], data=[str(tmp_path / "data")], out=str(tmp_path / "out"), changes=[],
                      only=[], weights=[], threads=1), **settings)
    with pytest.raises(UserError) as error:
        plan.plan(requests.request(**given))
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_prepared_folder_without_its_name(tmp_path):
    data = prepared(tmp_path / "data", "fer2013-xie2019a")
    with pytest.raises(UserError, match=f"--data {data}: is a prepared folder itself; use SET={data}, with"):
        requests.request(["xie2019b-table4"], [data], str(tmp_path / "out"), [], [], [], 1)
