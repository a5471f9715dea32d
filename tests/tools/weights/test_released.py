"""Runs that come with the project: half the size, the same net to three digits, and no path of another machine."""
import os
import shutil

import numpy as np
import pytest

from common import files
from common.errors import UserError
from tools.cli import main
from tools.evaluation import evaluate
from tools.training import pretrained
from tools.training.run import Run
from tools.weights import catalogue, released


@pytest.fixture
def given(trained, tmp_path, monkeypatch):
    """The digest of a released run, "small"."""
    monkeypatch.setattr(released, "FOLDER", str(tmp_path / "released"))
    return released.release(trained, "small", str(tmp_path / "released"))


def values(run):
    return {f"{layer.name}/{number}": np.array(blob.data) for layer in pretrained.read(run.caffemodel()).layer
            for number, blob in enumerate(layer.blobs) if layer.type in ("Convolution", "InnerProduct", "PReLU")}


def test_the_weights_are_those_of_the_run_in_float16(given, trained, tmp_path):
    assert released.get("small", str(tmp_path), given) == [str(tmp_path / "small")]
    made = Run(str(tmp_path / "small"))
    assert files.digest(made.caffemodel()) == given and made.snapshots() == trained.snapshots()[-1:]
    expected, found = values(trained), values(made)
    assert set(found) <= set(expected) and len(found) > 4
    for name, value in found.items():
        np.testing.assert_array_equal(value, np.float32(np.float16(expected[name])), err_msg=name)
    size = os.path.getsize(str(tmp_path / "released" / "small" / "weights.npz"))
    assert size < 0.6 * os.path.getsize(trained.caffemodel())


def test_it_is_evaluated_without_the_data_that_trained_it(given, trained, tmp_path, capsys):
    released.get("small", str(tmp_path), given)
    own = evaluate.evaluate(trained, "test")
    assert main.main(["evaluate", str(tmp_path / "small"), "--data", trained.info["data"]]) == 0
    assert f"{own['correct']} of {own['total']} images correct" in capsys.readouterr().out


def test_no_path_of_the_machine_is_given_away(given, trained, tmp_path):
    for name in os.listdir(str(tmp_path / "released" / "small")):
        content = (tmp_path / "released" / "small" / name).read_bytes()
        assert os.path.dirname(trained.folder).encode() not in content and b"/tmp" not in content, name


def test_the_same_run_is_released_in_the_same_bytes(given, trained, tmp_path):
    released.release(trained, "again", str(tmp_path / "released"))
    for name in ("weights.npz", "run.json", "data.json", "deploy.prototxt"):
        first, second = ((tmp_path / "released" / folder / name).read_bytes() for folder in ("small", "again"))
        assert first == second


def test_other_bytes_and_a_folder_of_the_users_are_refused(given, tmp_path):
    with pytest.raises(UserError, match="makes a caffemodel with the SHA-256 " + given):
        released.get("small", str(tmp_path), "0" * 64)
    assert not os.path.exists(str(tmp_path / "small"))
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="small: exists and is not a run"):
        released.get("small", str(tmp_path), given)
    assert os.listdir(str(tmp_path / "small")) == ["notes.txt"]


def test_a_run_of_the_users_own_is_kept(given, trained, tmp_path):
    shutil.copytree(trained.folder, str(tmp_path / "small"))
    before = {path: path.read_bytes() for path in (tmp_path / "small").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="small: holds another run; give it another name, or remove it"):
        released.get("small", str(tmp_path), given)
    assert before == {path: path.read_bytes() for path in (tmp_path / "small").rglob("*") if path.is_file()}


def test_what_was_got_before_is_got_again(given, tmp_path):
    for _ in range(2):
        [folder] = released.get("small", str(tmp_path), given)
        assert files.digest(Run(folder).caffemodel()) == given
        os.unlink(Run(folder).caffemodel())


def test_the_released_runs_of_the_project_are_whole(tmp_path):
    entries = [entry for entry in catalogue.ENTRIES if os.path.dirname(entry.file)]
    assert sorted(entry.name for entry in entries) == sorted(
        name for name in (os.listdir(released.FOLDER) if os.path.isdir(released.FOLDER) else ()))
    for entry in entries:
        [folder] = entry.fetch(str(tmp_path))
        assert files.digest(Run(folder).caffemodel()) == entry.digest
