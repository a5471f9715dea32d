"""The template measured on a data set: by hand from a few faces, and by MTCNN on drawn ones."""
import json
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from common import files
from common.errors import UserError
from data_prep import alignment, datasets, template
from data_prep.alignment import Detection
from data_prep.datasets import Protocol, synthetic
from data_prep.manifest import Dataset, Face
from tools.cli import main

CLASSES = ("angry", "happy")
# In 100x100 pixels: eyes at (30, 40) and (70, 40), the others' barycenter at (50, 80).
FIRST = (30.0, 40.0, 70.0, 40.0, 50.0, 70.0, 40.0, 85.0, 60.0, 85.0)
# The same, turned by a right angle about the image's centre: (x, y) -> (100 - y, x).
TURNED = tuple(value for x, y in np.reshape(FIRST, (5, 2)) for value in (100 - y, x))
# In 200x200 pixels: eyes at (40, 60) and (120, 60), barycenter at (100, 140).
SECOND = (40.0, 60.0, 120.0, 60.0, 100.0, 130.0, 80.0, 145.0, 120.0, 145.0)


def tiny(monkeypatch, registration, faces, found):
    """A data set of (landmarks, side, split); found: side -> faces that the detector finds in an image of it."""
    rows = [Face(f"{number}.png", None, 0, "angry", split=split, landmarks=landmarks)
            for number, (landmarks, _, split) in enumerate(faces)]
    sides = {row.path: side for row, (_, side, _) in zip(rows, faces)}
    module = SimpleNamespace(
        PROTOCOLS={"paper": Protocol(CLASSES, {}, registration)},
        read=lambda source, protocol, folder, processes: Dataset(
            "tiny", CLASSES, rows, lambda face: np.zeros((sides[face.path],) * 2, np.uint8)))
    monkeypatch.setattr(datasets, "module", lambda name: module)

    class Detector:
        def faces(self, image):
            return found.get(len(image), [])

        def find(self, image):
            return next((face.landmarks for face in self.faces(image)), None)
    monkeypatch.setattr(template, "Detector", Detector)


@pytest.mark.parametrize("processes", (1, 3))
def test_the_mean_triangle_of_registered_faces_by_hand(monkeypatch, processes):
    """Their borders are the image's. FIRST has margins .3 .3 .4 .2, SECOND .2 .4 .3 .3."""
    tiny(monkeypatch, "none", [
        (FIRST, 100, "train"), (TURNED, 100, "train"), (None, 200, "train"), (None, 50, "train"),
        # No training images.
        ((1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0), 100, "test"), (SECOND, 200, "")],
        {200: [Detection((0.0, 0.0, 9.0, 9.0), SECOND)]})
    found = template.measure("tiny", None, None, processes)
    assert (found["dataset"], found["protocol"], found["faces"], found["no_face"]) == ("tiny", "paper", 3, ["3.png"])
    assert found["margins"] == {"left": .2667, "right": .3333, "top": .3667, "bottom": .2333}
    # sqrt(.2^2 + .4^2) twice, and .5 and sqrt(.1^2 + .4^2) of SECOND.
    assert found["sides"] == {"eyes": .4, "left_eye_to_lower": .4648, "right_eye_to_lower": .4356}
    target = alignment.target_of(found["margins"])
    np.testing.assert_allclose(target, [[.2667, .3667], [.6667, .3667], [.4667, .7667]], atol=1e-9)


def test_the_square_around_the_detector_s_box_by_hand(monkeypatch):
    """Of faces in larger pictures. The box's longer side is 80, its centre (50, 50): the borders are 10 and 90."""
    box, elsewhere = (20.0, 10.0, 60.0, 80.0), (110.0, 0.0, 90.0, 90.0)
    own = (34.0, 42.0, 66.0, 42.0, 50.0, 66.0, 42.0, 78.0, 58.0, 78.0)
    shifted = (38.0,) + own[1:2] + (70.0,) + own[3:4] + tuple(
        value + 4 * (index % 2 == 0) for index, value in enumerate(own[4:]))
    tiny(monkeypatch, "template", [
        # The largest face is another one; that of the landmarks is taken, with the set's own landmarks.
        (own, 300, ""), (None, 200, ""),
        # Landmarks where no face is found; no face at all.
        (own, 400, ""), (None, 500, "")], {
            300: [Detection(elsewhere, FIRST), Detection(box, SECOND)],
            200: [Detection(box, shifted), Detection(elsewhere, FIRST)],
            400: [Detection(elsewhere, FIRST)]})
    found = template.measure("tiny", None, None, 1)
    assert found["faces"] == 2 and found["no_face"] == ["2.png", "3.png"]
    # .3 .3 .4 .2, and the same 4 pixels further to the right.
    assert found["margins"] == {"left": .325, "right": .275, "top": .4, "bottom": .2}
    assert found["sides"]["eyes"] == .4


def test_what_cannot_be_measured_is_named(monkeypatch):
    tiny(monkeypatch, "none", [(None, 100, "train")], {})
    with pytest.raises(UserError, match="^tiny: no face found in 1 images$"):
        template.measure("tiny", None, None, 1)
    tiny(monkeypatch, "none", [((3.0, 3.0) * 5, 100, "train")], {})
    with pytest.raises(UserError, match="^0.png: the landmarks span no triangle$"):
        template.measure("tiny", None, None, 1)
    tiny(monkeypatch, "none", [(tuple(value - 60 for value in FIRST), 100, "train")], {})
    with pytest.raises(UserError, match="^tiny: on average the faces lie outside of their regions: {'left': -0.3"):
        template.measure("tiny", None, None, 1)
    tiny(monkeypatch, "none", [], {})
    with pytest.raises(UserError, match="^tiny: no images$"):
        template.measure("tiny", None, None, 1)


def written(path, **changes):
    content = dict({"dataset": "tiny", "protocol": "paper", "faces": 3,
                    "margins": {"left": .3, "right": .3, "top": .4, "bottom": .2}}, **changes)
    files.write_text(str(path), json.dumps({key: value for key, value in content.items() if value is not None}))
    return str(path)


@pytest.mark.parametrize("changes", (
    {"margins": None}, {"margins": [.3, .3, .4, .2]}, {"dataset": None}, {"protocol": 3}, {"faces": "3"},
    {"margins": {"left": .3, "right": .3, "top": .4}},
    {"margins": {"left": .3, "right": .7, "top": .4, "bottom": .2}},
    {"margins": {"left": .3, "right": .3, "top": .4, "bottom": .6}},
    {"margins": {"left": -.1, "right": .3, "top": .4, "bottom": .2}},
    {"margins": {"left": float("nan"), "right": .3, "top": .4, "bottom": .2}},
    {"margins": {"left": "0.3", "right": .3, "top": .4, "bottom": .2}},
    {"margins": {"left": True, "right": -1, "top": .4, "bottom": .2}}))
def test_a_file_that_is_no_template_is_named_in_one_line(tmp_path, changes):
    assert alignment.template(written(tmp_path / "good.json"))[0].tolist() == [.3, .4]
    path = written(tmp_path / "bad.json", **changes)
    with pytest.raises(UserError, match=f"^{path}: no template: expected dataset, .* makes one$"):
        alignment.template(path)


def test_the_shipped_one_tells_its_faces():
    shipped = alignment.read_template(alignment.TEMPLATE_FILE)
    assert (shipped["dataset"], shipped["faces"]) == ("fer2013", 675)


def test_by_the_command_on_drawn_faces(tmp_path, capsys):
    """MTCNN's triangles against the drawn landmarks. A file that is not ours stays."""
    source, points = tmp_path / "faces", []
    for name, expression in (("happy", 3), ("sad", 4)):
        (source / "train" / name).mkdir(parents=True)
        for subject in range(4):
            image, landmarks = synthetic.draw_face(40 + subject, expression, 4)
            cv2.imwrite(str(source / "train" / name / f"{subject}.png"), image)
            points.append(alignment.triangle(landmarks.ravel()) / 256)
    cv2.imwrite(str(source / "train" / "sad" / "nobody.png"), np.full((256, 256, 3), 128, np.uint8))
    out = tmp_path / "t.json"
    asked = ["template", "folder", str(source), "--out", str(out)]
    assert main.main([*asked, "--processes", "1"]) == 0
    assert "note: no face was found in 1 images, which are left out: train/sad/nobody.png\n" in capsys.readouterr().out
    found, first = files.read_json(str(out)), out.read_bytes()
    assert found["faces"] == 8 and found["no_face"] == ["train/sad/nobody.png"]
    np.testing.assert_allclose(alignment.template(str(out)), np.mean(points, axis=0), atol=.02)
    # Again, in its place, to the same bytes.
    assert main.main([*asked, "--processes", "2"]) == 0 and out.read_bytes() == first
    out.write_text("years of work")
    assert main.main(asked) == 1 and out.read_text() == "years of work"
    assert "was not made by caffe-fer" in capsys.readouterr().err
    assert main.main([*asked[:-1], str(source / "t.json")]) == 1
    assert f"lies in {source}" in capsys.readouterr().err and sorted(os.listdir(str(tmp_path))) == [
        "faces", "t.json"] and os.listdir(str(source)) == ["train"]
