"""The whole preparation: what it writes, that it writes it twice alike, and that it leaves nothing half-done."""
import filecmp
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from common import files
from common.errors import UserError
from data_prep import features, lmdb_io, manifest, prepare, prepared_folder, records
from data_prep.crops import Window
from prototxt.builders import parts
from tests import small_data


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return small_data.write_csv(tmp_path_factory.mktemp("source") / "fer2013.csv", small_data.rows((20, 7, 7)))


def run(source, out, processes=1, **settings):
    return prepare.prepare(prepare.Settings("fer2013", source, **settings), str(out), processes)


def same(one, other):
    comparison = filecmp.dircmp(str(one), str(other))
    names = [name for _, _, found in os.walk(str(one)) for name in found]
    assert len(names) > 10
    for folder, _, found in os.walk(str(one)):
        for name in found:
            twin = os.path.join(str(other), os.path.relpath(folder, str(one)), name)
            with open(os.path.join(folder, name), "rb") as a, open(twin, "rb") as b:
                assert a.read() == b.read(), twin
    assert not comparison.right_only


def test_what_it_writes(tmp_path, source):
    note = run(source, tmp_path / "out")
    assert note["counts"] == {"train": 20, "val": 7, "test": 7}
    assert note["class_counts"]["train"] == [3, 3, 3, 3, 3, 3, 2]
    faces = manifest.read(str(tmp_path / "out" / "manifest.csv"))
    for split in manifest.SPLITS:
        rows = [record.row for record in records.read(str(tmp_path / "out"), split)]
        assert sorted(rows) == [row for row, face in enumerate(faces) if face.split == split]
        assert (rows == sorted(rows)) == (split != "train")
        images = lmdb_io.Reader(str(tmp_path / "out" / split / "images"))
        vectors = lmdb_io.Reader(str(tmp_path / "out" / split / "gabor"))
        lmdb_io.require_match(images, vectors)
        for record, row in enumerate(rows):
            image, label = lmdb_io.decode(images[record])
            assert image.shape == (1, 48, 48) and label == faces[row].label
            alone = features.Extractor(("gabor",), "compact", 48).describe(image[0], [Window(0, 0, 48)])
            np.testing.assert_array_equal(lmdb_io.decode_floats([vectors[record]], 12800), alone["gabor"])
    text = prepared_folder.summary("out", note)
    assert "note: 20 train images, published 28709" in text and "surprise" in text


def test_same_bytes_from_any_number_of_processes(tmp_path, source):
    run(source, tmp_path / "one", processes=1)
    run(source, tmp_path / "two", processes=2)
    same(tmp_path / "one", tmp_path / "two")


def test_again_does_nothing_and_other_settings_are_refused(tmp_path, source):
    run(source, tmp_path / "out")
    before = os.stat(str(tmp_path / "out" / "prepare.json")).st_mtime_ns
    run(source, tmp_path / "out")
    assert os.stat(str(tmp_path / "out" / "prepare.json")).st_mtime_ns == before
    with pytest.raises(UserError, match="holds a preparation with seed 0, not 1"):
        run(source, tmp_path / "out", seed=1)


def test_source_that_has_changed_is_noticed(tmp_path):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((20, 7, 7)))
    run(source, tmp_path / "out", features=())
    small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((20, 7, 7), seed=1))
    with pytest.raises(UserError, match="holds a preparation with source_digest"):
        run(source, tmp_path / "out", features=())


def test_folder_of_something_else_is_left_alone(tmp_path, source):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="exists and is not a prepared data"):
        run(source, tmp_path / "out")
    assert os.listdir(str(tmp_path / "out")) == ["thesis.txt"]


def test_files_of_the_users_beside_it_stay(tmp_path, source):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("years of work")
    (tmp_path / "out.lock").write_text("a key")
    run(source, tmp_path / "out", features=())
    assert (tmp_path / "out.partial" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "out.lock").read_text() == "a key"
    assert sorted(os.listdir(str(tmp_path))) == ["out", "out.lock", "out.partial"]


def test_out_and_source_are_apart(tmp_path, source):
    faces = tmp_path / "set" / "faces"
    for part in ("train", "test"):
        (faces / part / "happy").mkdir(parents=True)
    (tmp_path / "link").symlink_to("set")
    for out, said in ((faces / "out", "lies in"), (faces / "train" / "new" / "out", "lies in"), (faces, "is"),
                      (tmp_path / "set", "holds"), (tmp_path / "link" / "faces" / "out", "lies in")):
        with pytest.raises(UserError, match=f"^{out}: {said} {faces}, from which it is made"):
            prepare.prepare(prepare.Settings("folder", str(faces), features=()), str(out), 1)
    assert sorted(os.listdir(str(faces))) == ["test", "train"] and os.listdir(str(tmp_path / "set")) == ["faces"]
    # Beside it is elsewhere, also where a name begins alike.
    run(source, os.path.join(os.path.dirname(source), "fer2013"), features=())
    run(source, source + "-prepared", features=())


def test_bad_input_leaves_nothing(tmp_path, source):
    with open(source) as stream:
        text = stream.read()
    broken = tmp_path / "fer2013.csv"
    broken.write_text(text.replace("PublicTest", "Public", 1))
    with pytest.raises(UserError, match="unknown Usage"):
        run(str(broken), tmp_path / "out")
    assert os.listdir(str(tmp_path)) == ["fer2013.csv"]


def test_without_a_training_part_there_are_no_fitted_features(tmp_path):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((0, 0, 5)))
    with pytest.raises(UserError, match="no train images, to which gsf and sift are fitted.*--features"):
        run(source, tmp_path / "out", features=("gabor", "gsf", "sift"))
    assert os.listdir(str(tmp_path)) == ["fer2013.csv"]
    note = run(source, tmp_path / "out", features=("gabor",))
    assert note["records"] == {"test": 5}
    with pytest.raises(UserError, match="out: has no train split; `./fer evaluate RUN --data .*out` tests a net on it"):
        parts.prepared(str(tmp_path / "out"), note)


def test_of_the_public_part_a_tenth_of_training_is_for_validation(tmp_path):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((140, 14, 7)))
    note = run(source, tmp_path / "out", protocol="public", features=())
    assert note["class_counts"] == {"train": [18] * 7, "val": [2] * 7, "test": [2] * 7}
    held_out = {face.row for face in manifest.read(str(tmp_path / "out" / "manifest.csv")) if face.split == "val"}
    assert held_out < set(range(2, 142))  # of the lines with Training


def test_other_parts_may_be_missing_and_that_is_said(tmp_path):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((5, 0, 5)))
    note = run(source, tmp_path / "out", features=())
    assert "note: 0 val images, published 3589" in prepared_folder.summary("out", note)
    with pytest.raises(UserError, match="has no val split"):
        records.read(str(tmp_path / "out"), "val")


def test_broken_image_in_a_worker_is_named_and_leaves_nothing(tmp_path):
    import cv2
    for part in ("train", "val", "test"):
        folder = tmp_path / "fer" / part / "sad"
        folder.mkdir(parents=True)
        for number in range(3):
            cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 48), number, np.uint8))
    (tmp_path / "fer" / "val" / "sad" / "1.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(UserError, match="val/sad/1.png: not a readable image"):
        run(str(tmp_path / "fer"), tmp_path / "out", processes=2, features=())
    assert os.listdir(str(tmp_path)) == ["fer"]


def test_full_disk_is_refused_before_the_first_record(tmp_path, source, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match="out: [0-9.]+ MB are needed and 1.0 kB are free"):
        run(source, tmp_path / "out")
    assert os.listdir(str(tmp_path)) == []


def test_killed_and_given_again_it_ends_in_the_same_bytes(tmp_path):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((150, 7, 7)))
    out = str(tmp_path / "out")
    command = [sys.executable, "-m", "tools.cli", "prepare", "fer2013", source, "--out", out, "--processes", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not os.path.exists(os.path.join(files.hidden(out, "partial"), "train/gabor/data.mdb")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not os.path.exists(out) and os.path.exists(files.hidden(out, "partial"))
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    run(source, tmp_path / "undisturbed")
    same(out, tmp_path / "undisturbed")
    assert not os.path.exists(files.hidden(out, "partial"))
