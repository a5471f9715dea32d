"""The SVM on handcrafted features: by hand where it must be right, and on prepared data."""
import csv
import shutil

import caffe
import numpy as np
import pytest
from sklearn.svm import SVC

from common import files
from common.errors import UserError
from data_prep import prepared_folder
from tests import small_data
from tools.analysis import kernels, svm
from tools.cli import main
from tools.evaluation import evaluate
from tools.report import tables
from tools.report.entries import Entry
from tools.training.run import Run


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("features"), features=("gabor", "sift"), counts=(42, 14, 14))


def test_kernels_are_libsvms_own(prepared):
    """Against scikit-learn's SVC with its built-in kernels, on the same vectors."""
    results = list(svm.svm(prepared, ["sift"], None))
    splits = {split: svm.read(prepared, split, "sift") for split in ("train", "val", "test")}
    gamma = 1 / splits["train"].vectors.shape[1]
    machines = [SVC(C=1, kernel="linear"), SVC(C=1, kernel="rbf", gamma=gamma)]
    for result, machine in zip(results, machines):
        machine.fit(splits["train"].vectors, splits["train"].labels)
        for split, counts in (("val", result.val), ("test", result.test)):
            right = machine.predict(splits[split].vectors) == splits[split].labels
            assert counts == (right.sum(), 14)
    tuned = results[2]
    assert tuned.setting == "tuned" and tuned.val[0] >= max(result.val[0] for result in results[1:2])


def test_tuning_finds_the_first_of_the_best_on_the_validation_split(prepared):
    """Against a plain loop with scikit-learn's own kernel."""
    *_, tuned = svm.svm(prepared, ["sift"], None)
    splits = {split: svm.read(prepared, split, "sift") for split in ("train", "val", "test")}
    best = (-1,)
    for gamma in (0.5, 1.0, 2.0, 4.0):
        for cost in (1.0, 3.0, 10.0):
            svc = SVC(C=cost, kernel="rbf", gamma=gamma).fit(splits["train"].vectors, splits["train"].labels)
            right = {split: int((svc.predict(splits[split].vectors) == splits[split].labels).sum())
                     for split in ("val", "test")}
            if right["val"] > best[0]:
                best = (right["val"], right["test"], f"RBF, C {cost:g}, gamma {gamma:g}")
    assert (tuned.val[0], tuned.test[0], tuned.kernel) == best


def test_untuned_alone_and_each_result_when_it_is_known(prepared, capsys):
    words = ["features", "--svm", "--untuned", "--data", prepared, "--features", "sift"]
    assert main.main(words) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["sift", "published"]] * 2 and "tuned" not in out
    known = [line for line in err.splitlines() if line.startswith("fer: sift, ")]
    assert [line.split(":")[1].split(", ")[1] for line in known] == ["linear", "RBF"]
    val = out.splitlines()[1].split("C 1")[1].split()[:2]
    assert f"validation {' '.join(val)}, test " in known[0]


def test_copies_are_left_out_of_the_last_count():
    random = np.random.RandomState(0)
    splits = {}
    for split, count in (("train", 30), ("val", 10), ("test", 10)):
        labels = np.arange(count) % 2
        vectors = (random.normal(size=(count, 3)) + 4 * labels[:, None]).astype(np.float32)
        splits[split] = svm.Split(vectors, labels, np.arange(count) >= 4, np.arange(count))
    for result in svm._results("gsf", splits, True):
        assert result.test[1] == 10 and result.test_own[1] == 6
        assert result.test[0] - result.test_own[0] <= 4


def test_table_and_command(prepared, capsys):
    assert main.main(["features", "--svm", "--data", prepared, "--features", "sift", "--limit", "35"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "feature" and len(lines) == 6
    assert lines[1].endswith("44.36") and "geometry of the features: compact" in lines[-2]
    assert lines[-1].startswith("handcrafted features are not compared with the published ones: data: fer2013-plain "
                                "(paper: fer2013-xie2019a); ")
    assert lines[-1].endswith("; training images: the first 35 (paper: all)")


def test_missing_feature_and_missing_memory(prepared, monkeypatch):
    with pytest.raises(UserError, match="has no gsf features; it has gabor, sift"):
        list(svm.svm(prepared, ["gsf"], None))
    monkeypatch.setattr(kernels, "GRAM_BYTES", 10 ** 12)
    with pytest.raises(UserError, match="the kernel matrix of 42 training images needs .* --limit N"):
        list(svm.svm(prepared, ["sift"], None))


def deep_vectors(run, usage):
    """x of the faces of the CSV that the data were made from, one at a time through pycaffe; and their labels."""
    net = caffe.Net(run.path("deploy.prototxt"), run.caffemodel(), caffe.TEST)
    vectors, labels = [], []
    for label, pixels, where in small_data.rows():
        if where == usage:
            net.blobs["data"].data[...] = (np.array(pixels.split(), np.float32).reshape(48, 48) - 127.5) / 128
            net.forward()
            x = net.blobs["fc1"].data[0].astype(np.float64)
            vectors.append(x / np.sqrt((x ** 2).sum()))
            labels.append(int(label))
    return np.array(vectors), np.array(labels)


def test_deep_features_are_pycaffes_blob_in_the_manifests_order(trained):
    test, _ = svm._read_deep(trained, "test", None)
    expected, labels = deep_vectors(trained, "PrivateTest")
    assert test.vectors.shape == (12, 384) and np.allclose(test.vectors, expected, atol=1e-5)
    assert (test.labels == labels).all() and test.rows.tolist() == list(range(36, 48))


def test_svm_on_deep_features_is_scikit_learns_own(trained):
    results = list(svm.svm_of_run(trained, None))
    vectors, labels = deep_vectors(trained, "Training")
    for result, machine in zip(results, [SVC(C=1, kernel="linear"), SVC(C=1, kernel="rbf", gamma=1 / 384)]):
        machine.fit(vectors, labels)
        for usage, counts in (("PublicTest", result.val), ("PrivateTest", result.test)):
            faces, expected = deep_vectors(trained, usage)
            assert counts == ((machine.predict(faces) == expected).sum(), 12)
        assert list(result.predicted) == machine.predict(faces).tolist()


def test_softmax_beside_it_is_the_evaluation(trained):
    """With one crop an image the vote is the decision on it."""
    metrics = evaluate.evaluate(trained, "test")
    *_, softmax = svm.svm_of_run(trained, None)
    assert softmax.setting == "softmax" and softmax.test == (metrics["correct"], metrics["total"])
    assert softmax.test_own == (metrics["without_copies"]["correct"], metrics["without_copies"]["total"])


def test_what_is_kept_is_what_was_found(trained):
    results = list(svm.svm_of_run(trained, 20))
    kept = svm.saved(svm.run_prefix(trained), trained.info["manifest"])
    assert kept.results == results and kept.rows == list(range(36, 48))
    assert files.read_json(trained.path("svm.json"))["limit"] == 20
    assert svm.saved(svm.run_prefix(trained), "another manifest") is None
    with open(trained.path("svm.csv"), newline="") as stream:
        header, first, *_ = csv.reader(stream)
    assert header == ["row", "image", "label"] + [result.kernel for result in results]
    assert first[:3] == ["36", "fer2013.csv:38", "0"]
    assert list(map(int, first[3:])) == [result.predicted[0] for result in results]


@pytest.mark.parametrize("name, value", [("gsf", "48.12"), ("gabor", "46.06"), ("sift", "44.36")])
def test_published_figures_of_handcrafted_features(name, value):
    assert svm.published_handcrafted(name).value == value


@pytest.mark.parametrize("experiment, values", [
    ("xie2019a/fer2013-softmax", ("67.87", "69.71")), ("xie2019a/fer2013-gabor", ("69.77", "72.08")),
    ("xie2019a/fer2013-sift", ("69.43", "71.64")), ("xie2019a/fer2013-alaw", (None, None)),
    ("wu2023/ckplus-spndl", (None, None))])
def test_published_figures_of_deep_features(experiment, values):
    assert tuple(figure and figure.value for figure in svm.published_deep(experiment)) == values


def test_a_run_of_table_ii_has_its_published_figures(trained, tmp_path, monkeypatch):
    copy = Run(str(tmp_path / "run"))
    shutil.copytree(trained.folder, copy.folder)
    info = copy.info
    info["experiment"]["name"] = "xie2019a/fer2013-gsf"
    files.write_json(copy.path("run.json"), info)
    assert [result.published for result in svm.svm_of_run(copy, None)] == [69.94] * 3 + [72.22]
    assert [result.published for result in svm.svm_of_run(trained, None)] == [None] * 4
    table = svm.table(list(svm.svm_of_run(copy, None)), info["data"], copy)
    assert table.splitlines()[-1].startswith("deep features are not compared with the published ones: weights: none "
                                             "(paper: face_model.caffemodel); ")
    of_torch = "evaluated by: torch (paper: caffe)"
    assert of_torch not in table
    with monkeypatch.context() as patch:
        patch.setenv("FER_ENGINE", "torch")
        assert of_torch in svm.table(svm.saved(svm.run_prefix(copy), info["manifest"]).results, info["data"], copy)
    # The report says it, too.
    for engine in ("caffe", "torch"):
        files.write_json(copy.path("svm.json"), {**files.read_json(copy.path("svm.json")), "engine": engine})
        deep = tables.svms([Entry(copy, "a run")])[-1]
        assert (of_torch in map(str, deep.departures)) == (engine == "torch")
    assert "geometry" in svm.table(list(svm.svm_of_run(trained, None)), info["data"], trained).splitlines()[-1]


def test_untuned_is_the_best_on_the_validation_split():
    def result(setting, kernel, val, test):
        return svm.Result("gsf", setting, kernel, (val, 9), (test, 9), (test, 9), [])
    kept = svm.Saved([result("published", "a", 3, 8), result("published", "b", 5, 2), result("tuned", "c", 7, 1)],
                          [])
    assert kept.untuned.kernel == "b"
    assert kept.with_setting("tuned").kernel == "c" and kept.with_setting("softmax") is None


def test_command_on_a_run(trained, capsys):
    assert main.main(["features", "--svm", "--run", trained.folder]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["feature"] + ["x"] * 4 + ["geometry"]
    assert "./fer features --svm --data " + trained.info["data"] in err
    for words, engine in ((["--engine", "torch"], "torch"), ([], "caffe")):
        assert main.main(["features", "--svm", "--run", trained.folder, *words]) == 0
        assert files.read_json(svm.run_prefix(trained) + ".json")["engine"] == engine
        assert capsys.readouterr().out == out  # the same counts
    assert main.main(["features", "--svm", "--run", trained.folder, "--features", "gsf"]) == 1
    assert "--features selects handcrafted features" in capsys.readouterr().err


def test_handcrafted_ones_stand_beside_the_run(trained, capsys):
    data = trained.info["data"]
    try:
        list(svm.svm(data, ["gabor"], None))
        assert main.main(["features", "--svm", "--run", trained.folder]) == 0
        out, err = capsys.readouterr()
        assert [line.split()[0] for line in out.splitlines()][1:-2] == ["gabor"] * 3 + ["x"] * 4
        assert "to show handcrafted features" not in err
    finally:
        files.remove(svm.data_prefix(data, ""))
    assert prepared_folder.read_note(data)["manifest"] == trained.info["manifest"]


def test_run_whose_data_are_others(trained, tmp_path):
    copy = Run(str(tmp_path / "run"))
    shutil.copytree(trained.folder, copy.folder)
    files.write_json(copy.path("run.json"), dict(copy.info, manifest="other"))
    with pytest.raises(UserError, match="was prepared anew since"):
        list(svm.svm_of_run(copy, None))
