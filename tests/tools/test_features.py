"""The SVM on handcrafted features: by hand where it must be right, and on prepared data."""
import numpy as np
import pytest
from sklearn.svm import SVC

from data_prep.errors import UserError
from tests import small_data
from tools import cli, features


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("features"), features=("gabor", "sift"), counts=(42, 14, 14))


def test_kernels_are_libsvms_own(data):
    """Against scikit-learn's SVC with its built-in kernels, on the same vectors."""
    results = list(features.svm(data, ["sift"], None))
    parts = {split: features.read(data, split, "sift") for split in ("train", "val", "test")}
    gamma = 1 / parts["train"].vectors.shape[1]
    machines = [SVC(C=1, kernel="linear"), SVC(C=1, kernel="rbf", gamma=gamma)]
    for result, machine in zip(results, machines):
        machine.fit(parts["train"].vectors, parts["train"].labels)
        for split, counts in (("val", result.val), ("test", result.test)):
            right = machine.predict(parts[split].vectors) == parts[split].labels
            assert counts == (right.sum(), 14)
    tuned = results[2]
    assert tuned.setting == "tuned" and tuned.val[0] >= max(result.val[0] for result in results[1:2])


def test_copies_are_left_out_of_the_last_count():
    random = np.random.RandomState(0)
    parts = {}
    for split, count in (("train", 30), ("val", 10), ("test", 10)):
        labels = np.arange(count) % 2
        vectors = (random.normal(size=(count, 3)) + 4 * labels[:, None]).astype(np.float32)
        parts[split] = features.Part(vectors, labels, np.arange(count) >= 4)
    for result in features._results("gsf", parts):
        assert result.test[1] == 10 and result.test_own[1] == 6
        assert result.test[0] - result.test_own[0] <= 4


def test_table_and_command(data, capsys):
    assert cli.main(["features", "--svm", "--data", data, "--features", "sift", "--limit", "35"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "feature" and len(lines) == 5
    assert lines[1].endswith("44.36") and "geometry of the features: compact" in lines[-1]


def test_missing_feature_and_missing_memory(data, monkeypatch):
    with pytest.raises(UserError, match="has no gsf features; it has gabor, sift"):
        list(features.svm(data, ["gsf"], None))
    monkeypatch.setattr(features, "GRAM_BYTES", 10 ** 12)
    with pytest.raises(UserError, match="the kernel matrix of 42 training images needs .* --limit N"):
        list(features.svm(data, ["sift"], None))
