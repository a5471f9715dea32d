"""Photographs as training data: which faces are taken of them, and what is said of those that are taken as faces."""
import collections
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from common import files
from common.errors import UserError
from common.expressions import SEVEN
from data_prep import alignment, folds, lmdb_io, manifest, prepare, prepared_folder, records, survey
from data_prep.datasets import folder, synthetic
from data_prep.images import read_image
from data_prep.manifest import Face
from tests.data_prep.test_prepare import same
from tools.cli import main
from tools.cli import prepare as cli_prepare

CLASSES = ("happy", "sad")
# Upper left corners (x, y) and sides of the two faces, the second one the larger.
PLACES = ((8, 20, 110), (140, 10, 190))


def scene(subject, name):
    """A photograph of two people, and the landmarks of the second one, float64 (10)."""
    image = np.full((220, 340, 3), 120, np.uint8)
    for number, (x, y, side) in enumerate(PLACES):
        drawn, landmarks = synthetic.draw_face(subject + number, SEVEN.index(name), 4)
        image[y:y + side, x:x + side] = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA)
    return image, (np.reshape(landmarks, (5, 2)) * side / 256 + (x, y)).ravel()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """The folder and the landmarks, path -> float64 (10). test/sad has a picture of nobody."""
    root, truth, subject = tmp_path_factory.mktemp("photographs"), {}, 300
    for split, count in (("train", 4), ("test", 1)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                subject += 2
                path = f"{split}/{name}/{number}.png"
                image, truth[path] = scene(subject, name)
                cv2.imwrite(str(root / path), image)
    cv2.imwrite(str(root / "test/sad/nobody.png"), np.full((220, 340, 3), 120, np.uint8))
    return str(root), truth


def run(source, out, detect, processes=1, **settings):
    return prepare.prepare(prepare.Settings("folder", source, features=(), detect=detect, **settings), str(out),
                           processes)


def recorded(out, split):
    """Source -> the recorded face, uint8 (48, 48)."""
    faces, reader = prepared_folder.faces(str(out)), lmdb_io.Reader(os.path.join(str(out), split, "images"))
    return {faces[record.row].source: lmdb_io.decode(reader[record.key])[0][0]
            for record in records.read(str(out), split)}


def test_the_largest_face_comes_to_the_template(tmp_path, photographs):
    source, truth = photographs
    note = run(source, tmp_path / "out", "largest")
    assert note["counts"] == {"train": 8, "test": 2} and note["no_face"] == 1
    assert [face.source for face in manifest.read(str(tmp_path / "out/no_face.csv"))] == ["test/sad/nobody.png"]
    found = {face.source: face for face in prepared_folder.faces(str(tmp_path / "out"))}
    assert set(found) == set(truth)
    for path, landmarks in truth.items():
        eyes = landmarks[2] - landmarks[0]
        assert np.abs(np.array(found[path].landmarks) - landmarks).mean() < .15 * eyes  # drawn noses are long
    for split in ("train", "test"):
        for path, face in recorded(tmp_path / "out", split).items():
            grey = cv2.cvtColor(read_image(os.path.join(source, path)), cv2.COLOR_BGR2GRAY)
            np.testing.assert_array_equal(face, alignment.align(grey, found[path].landmarks, 48, "x"))
    said = prepared_folder.summary("out", note)
    assert "aligned to the template of fer2013-plain" in said and "squashed" not in said
    assert "note: no face found in 1 images, listed in no_face.csv and left out" in said


def test_all_faces_of_each_photograph(tmp_path, photographs):
    source, truth = photographs
    note = run(source, tmp_path / "out", "all")
    assert note["counts"] == {"train": 16, "test": 4} and note["left_out"] == {}
    faces = prepared_folder.faces(str(tmp_path / "out"))
    assert [(face.path, face.row) for face in faces] == [(path, row) for path in sorted(truth) for row in (1, 2)]
    for large, small in zip(faces[::2], faces[1::2]):
        assert small.landmarks[0] < 120 < 140 < large.landmarks[0] and small.class_name == large.class_name
    assert len({face.digest for face in faces}) == len({face.source for face in faces}) == 20
    pictures = recorded(tmp_path / "out", "test")
    assert np.abs(pictures["test/sad/0.png:1"].astype(int) - pictures["test/sad/0.png:2"]).max() > 50


def test_copies_are_known_face_by_face(tmp_path, photographs):
    source = shutil.copytree(photographs[0], str(tmp_path / "source"))
    shutil.copy(source + "/train/sad/3.png", source + "/test/sad/9.png")
    note = run(source, tmp_path / "out", "all")
    copies = {face.source: face.copy_of for face in prepared_folder.faces(str(tmp_path / "out")) if face.copy_of}
    assert copies == {f"test/sad/9.png:{row}": f"train/sad/3.png:{row}" for row in (1, 2)} and note["copies"] == 2


def test_the_faces_of_a_photograph_are_held_out_together(tmp_path, photographs):
    run(photographs[0], tmp_path / "out", "all", hold_out=.25)
    splits = collections.defaultdict(list)
    for face in prepared_folder.faces(str(tmp_path / "out")):
        splits[face.path].append(face.split)
    assert sorted(map(tuple, splits.values())) == [("test",) * 2] * 2 + [("train",) * 2] * 6 + [("val",) * 2] * 2


def test_held_out_by_photographs_or_by_faces():
    faces = [Face(f"{number}.jpg", row, 0, "a", split="train") for number in range(10) for row in (1, 2)]
    held = {seed: [face.path for face in folds.hold_out(faces, .3, seed, True) if face.split == "val"]
            for seed in range(5)}
    assert all(len(paths) == 6 and len(set(paths)) == 3 for paths in held.values())
    apart = [face.path for face in folds.hold_out(faces, .3, 0) if face.split == "val"]
    assert len(apart) == 6 and len(set(apart)) > 3


def test_any_number_of_processes_and_killed_on_the_way(tmp_path, photographs):
    out = str(tmp_path / "killed")
    command = [sys.executable, "-m", "tools.cli", "prepare", "folder", photographs[0], "--features", "--detect",
               "--faces", "all", "--out", out]
    process = subprocess.Popen(command + ["--processes", "1"], stdout=subprocess.DEVNULL)
    path = os.path.join(files.hidden(out, "partial"), prepare.SURVEY)
    while not os.path.exists(path):
        assert process.poll() is None
        time.sleep(.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(command + ["--processes", "2"], stdout=subprocess.DEVNULL).returncode == 0
    run(photographs[0], tmp_path / "undisturbed", "all")
    same(out, tmp_path / "undisturbed")


def test_the_survey_goes_on_behind_photographs_of_several_faces(tmp_path, photographs):
    path, dataset = tmp_path / "survey.csv", folder.read(photographs[0], "plain", "", 1)
    whole = survey.survey(dataset, str(path), True, 1, faces_of="all")
    lines = path.read_text().splitlines(True)
    assert sorted(line.count(",") for line in lines) == [1] + [21] * 10
    path.write_text("".join(lines[:5]) + lines[5][:60])
    assert survey.survey(dataset, str(path), True, 1, faces_of="all") == whole
    assert path.read_text() == "".join(lines)


def test_small_faces_are_looked_for_as_predict_does(photographs, monkeypatch):
    shares = []
    monkeypatch.setattr(survey, "Detector", lambda share: shares.append(share))
    for faces_of in ("largest", "all", None):
        survey._Surveyor(folder.read(photographs[0], "plain", "", 1), True, faces_of)
    assert shares == [1 / 32, 1 / 32, 0]


def test_where_no_face_is_found_nothing_is_left(tmp_path, photographs):
    source = shutil.copytree(photographs[0], str(tmp_path / "source"))
    nobody = source + "/test/sad/nobody.png"
    for number in range(4):
        shutil.copy(nobody, f"{source}/train/sad/{number}.png")
    with pytest.raises(UserError, match="source: no face found in any train image of sad, e.g. train/sad/0.png$"):
        run(source, tmp_path / "out", "largest")
    for path in photographs[1]:
        shutil.copy(nobody, os.path.join(source, path))
    with pytest.raises(UserError, match="source: no face found in any of 11 images$"):
        run(source, tmp_path / "out", "largest")
    assert os.listdir(str(tmp_path)) == ["source"]


def test_a_preparation_takes_faces_in_one_way(tmp_path, photographs):
    run(photographs[0], tmp_path / "out", "largest")
    for other in (None, "all"):
        with pytest.raises(UserError, match=f"out: holds a preparation with detect largest, not {other}"):
            run(photographs[0], tmp_path / "out", other)


@pytest.mark.parametrize("protocol, said", [("plain", "has registered faces"), ("wu2023", "detects faces where it")])
def test_other_data_sets_are_no_photographs(tmp_path, protocol, said):
    with pytest.raises(UserError, match=f"detect: protocol {protocol} of synthetic {said}"):
        prepare.prepare(prepare.Settings("synthetic", None, protocol, detect="largest"), str(tmp_path / "out"), 1)


def test_command_line(tmp_path, capsys):
    def asked(*words):
        return cli_prepare.settings(main.parse(["prepare", "folder", str(tmp_path), *words])).detect
    assert (asked(), asked("--detect"), asked("--detect", "--faces", "all")) == (None, "largest", "all")
    assert main.main(["prepare", "folder", str(tmp_path), "--faces", "all"]) == 1
    assert capsys.readouterr().err == ("fer: --faces all: chooses among the faces of a photograph that --detect "
                                       "finds; give --detect too\n")


@pytest.mark.parametrize("sizes, squashed", [
    ([(480, 640), (480, 640), (640, 480), (100, 100)], {"count": 3, "example": "640x480"}),
    ([(640, 480)] * 4, None),  # faces of one size, such as portraits
    ([(480, 640)] * 4, {"count": 4, "example": "640x480"}),  # no face is wider than high
    ([(100, 110), (98, 105), (90, 90), (120, 110)], None),
    ([(480, 640), (480, 640), (100, 100), (60, 60)], None),  # half of them
    ([(100, 111), (120, 135), (90, 90)], {"count": 2, "example": "135x120"})])
def test_scenes_that_are_taken_as_faces_are_noticed(tmp_path, sizes, squashed):
    """sizes: height, width."""
    for number, (height, width) in enumerate(sizes):
        path = tmp_path / "source/train" / CLASSES[number == 0] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((height, width), 50 * number, np.uint8))
    note = run(str(tmp_path / "source"), tmp_path / "out", None)
    assert note.get("squashed") == squashed
    lines = [line for line in prepared_folder.summary("out", note).splitlines() if "--detect" in line]
    assert lines == ([] if squashed is None else [
        "note: {count} images are not square, e.g. {example}, and were squashed to squares, each as one face; if they "
        "are photographs, prepare them with --detect".format(**squashed)])
