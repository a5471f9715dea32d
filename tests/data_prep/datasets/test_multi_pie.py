"""Multi-PIE: which recording of a session shows what, and the cameras within 45 degrees."""
import pytest

from common.errors import UserError
from data_prep.datasets import multi_pie
from data_prep.manifest import Face


def read(path):
    return multi_pie.read(str(path), "liu2017", "", 1)


@pytest.fixture
def shot(picture):
    def write(subject, session, recording, camera, flash=0, root="data/"):
        picture("{}session{}/multiview/{}/{}/{}/{}_{}_{}_{}_{:02d}.png".format(
            root, session, subject, recording, camera, subject, session, recording, camera.replace("_", ""), flash), 5)
    return write


def path(subject, session, recording, camera, flash=0, root="data/"):
    return "{}session{}/multiview/{}/{}/{}/{}_{}_{}_{}_{:02d}.png".format(
        root, session, subject, recording, camera, subject, session, recording, camera.replace("_", ""), flash)


@pytest.mark.parametrize("root", ["data/", ""])
def test_expressions_and_cameras(tmp_path, shot, picture, root, any_listing):
    shot("002", "02", "02", "05_1", 3, root)
    shot("002", "02", "02", "05_1", 1, root)
    shot("001", "01", "02", "19_0", 0, root)
    shot("001", "01", "02", "20_0", 0, root)
    shot("001", "01", "02", "19_1", 0, root)
    shot("001", "01", "02", "08_0", 0, root)
    picture(root + "session01/highres/001/001_01_01.png")
    dataset = read(tmp_path)
    assert dataset.faces == [
        Face(path("001", "01", "02", "08_0", 0, root), None, 1, "happy", "001", split="train"),
        Face(path("001", "01", "02", "19_0", 0, root), None, 1, "happy", "001", split="train"),
        Face(path("002", "02", "02", "05_1", 1, root), None, 2, "surprise", "002", split="train"),
        Face(path("002", "02", "02", "05_1", 3, root), None, 2, "surprise", "002", split="train")]
    assert dataset.load(dataset.faces[0]).max() == 5


@pytest.mark.parametrize("session, recording, name", [
    ("01", "01", "neutral"), ("01", "02", "happy"), ("02", "01", "neutral"), ("02", "02", "surprise"),
    ("02", "03", None), ("03", "01", "neutral"), ("03", "02", "happy"), ("03", "03", "disgust"),
    ("04", "01", "neutral"), ("04", "02", "neutral"), ("04", "03", None)])
def test_recordings(tmp_path, shot, session, recording, name):
    shot("001", "01", "01", "05_1")
    shot("250", session, recording, "14_0")
    assert [face.class_name for face in read(tmp_path).faces if face.subject == "250"] == ([name] if name else [])


def test_refused(tmp_path, shot, picture):
    picture("data/session05/multiview/001/01/05_1/a.png")
    with pytest.raises(UserError, match="no images, expected session01/multiview/001/01/05_1/001_01_01_051_00.png"):
        read(tmp_path)
    picture("data/session01/multiview/001/01/05_1/001_01_02_051_00.png")
    with pytest.raises(UserError, match="001_01_02_051_00.png: expected a name like 001_01_01_051_00.png"):
        read(tmp_path)
