"""MMI's sessions, as two public readers of the set know them: videos or folders of frames, and XML."""
import cv2
import numpy as np
import pytest

from data_prep.datasets import mmi
from data_prep.errors import UserError
from data_prep.manifest import Face

ANNOTATION = ('<?xml version="1.0" encoding="utf-8"?>\n<Annotation>\n  <Metatag Name="Emotion" Value="{}"/>\n'
              '</Annotation>\n')
SESSION = ('<?xml version="1.0"?>\n<session xmlns="http://example.org/session" sessionId="1">\n'
           '  <subject id="1"/>\n  <track view="{}" filename="S001-001.avi">\n'
           '    <annotation filename="{}"/>\n  </track>\n</session>\n')


def read(path, protocol="xie2019a"):
    return mmi.read(str(path), protocol, "", 1)


def video(path, frames, shape=(24, 32)):
    """Each frame's upper half is as bright as ten times its number, from 1; the lower half is black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, shape[::-1])
    for number in range(1, frames + 1):
        image = np.zeros(shape + (3,), np.uint8)
        image[:shape[0] // 2] = 10 * number
        out.write(image)
    out.release()


@pytest.fixture
def session(tmp_path, text):
    def write(number, name, emotion, view=0, frames=7, annotation="S001-001.xml", root="Sessions"):
        folder = "{}/{}".format(root, number)
        text("{}/{}.xml".format(folder, name), ANNOTATION.format(emotion))
        text("{}/session.xml".format(folder), SESSION.format(view, annotation))
        if frames:
            video(tmp_path / folder / (name + ".avi"), frames)
    return write


def peaks(path, label, class_name, numbers):
    name = path.split("/")[-1][:-len(".avi")]
    return [Face(path, number, label, class_name, name.split("-")[0], name, number, "peak") for number in numbers]


def test_three_frames_in_the_middle_of_a_video(tmp_path, session, text, any_listing):
    session(12, "S002-106", 6, frames=7)
    session(3, "S001-004", 1, frames=8)
    session(4, "S001-005", 4, frames=3)
    session(5, "S001-006", 9)
    text("Sessions/6/session.xml", SESSION.format(0, ""))
    text("Sessions/6/S001-007-oao_aucs.xml", '<ActionUnits><ActionUnit Number="1"/></ActionUnits>')
    dataset = read(tmp_path)
    assert dataset.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise")
    assert dataset.faces == (peaks("Sessions/12/S002-106.avi", 5, "surprise", (3, 4, 5)) +
                             peaks("Sessions/3/S001-004.avi", 0, "angry", (3, 4, 5)) +
                             peaks("Sessions/4/S001-005.avi", 3, "happy", (1, 2, 3)))
    assert dataset.faces[0].source == "Sessions/12/S002-106.avi:3"
    assert [round(dataset.load(face).max() / 10) for face in dataset.faces[:4]] == [3, 4, 5, 3]
    assert read(tmp_path / "Sessions").faces[0].path == "12/S002-106.avi"
    assert read(tmp_path, "liu2017").faces == dataset.faces


@pytest.mark.parametrize("emotion, name", list(enumerate(
    ("angry", "disgust", "fear", "happy", "sad", "surprise"), start=1)))
def test_numbers_of_the_expressions(tmp_path, session, emotion, name):
    session(1, "S001-001", emotion)
    assert {face.class_name for face in read(tmp_path).faces} == {name}


@pytest.mark.parametrize("view, annotation, turned", [
    (0, "S001-001.xml", True), (0, "S001-001-oao_aucs.xml", False), (2, "S001-001.xml", False)])
def test_frontal_videos_on_their_side_are_set_upright(tmp_path, session, view, annotation, turned):
    session(1, "S001-001", 1, view, annotation=annotation)
    dataset = read(tmp_path)
    image = dataset.load(dataset.faces[0])
    assert image.shape == ((32, 24, 3) if turned else (24, 32, 3))
    bright = image[:, 12:] if turned else image[:12]
    dark = image[:, :12] if turned else image[12:]
    assert bright.min() > 20 > dark.max()


def test_profiles_are_left_out(tmp_path, session):
    session(1, "S021-001", 1, view=1)
    session(2, "S022-001", 1)
    assert {face.subject for face in read(tmp_path).faces} == {"S022"}


def test_folder_of_frames(tmp_path, session, picture):
    session(1, "S002-106", 2, frames=0)
    for number in range(8, 14):
        picture("Sessions/1/S002-106/S002-106_{:05d}.jpg".format(number), 10 * number, (20, 30))
    dataset = read(tmp_path)
    assert dataset.faces == [
        Face("Sessions/1/S002-106/S002-106_{:05d}.jpg".format(number), None, 1, "disgust", "S002", "S002-106", number,
             "peak") for number in (9, 10, 11)]
    assert dataset.load(dataset.faces[1]).shape == (30, 20, 3)
    for number in (9, 10, 11):
        picture("Sessions/1/S002-106/S002-106_{:05d}.jpg".format(number), shape=(30, 20))
    assert dataset.load(dataset.faces[1]).shape == (30, 20, 3)


@pytest.mark.parametrize("path, content, said", [
    ("S001-001.xml", "<Annotation>", "1/S001-001.xml: not readable XML: "),
    ("session.xml", "", "1/session.xml: not readable XML: "),
    ("session.xml", "<session><track/></session>", '1/session.xml: no <track view="..."/>'),
    ("S001-001.avi", "no video", "1/S001-001.avi: not a readable video"),
    ("S001-001.avi", "", "1/S001-001.avi: not a readable video")])
def test_unreadable_file(tmp_path, session, text, path, content, said):
    session(1, "S001-001", 1)
    text("Sessions/1/" + path, content)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith("{}/Sessions/{}".format(tmp_path, said))


@pytest.mark.parametrize("path", ["session.xml", "S001-001.avi"])
def test_missing_file(tmp_path, session, path):
    session(1, "S001-001", 1)
    (tmp_path / "Sessions/1" / path).unlink()
    with pytest.raises(UserError, match="1/{}: no such file".format(path)):
        read(tmp_path)


def test_refused(tmp_path, session):
    session(1, "clip", 1)
    with pytest.raises(UserError, match="1/clip.xml: expected a name like S002-106.xml"):
        read(tmp_path)
    session(1, "clip", 9)
    with pytest.raises(UserError, match="no images, expected Sessions/<number>/ with session.xml"):
        read(tmp_path)
    session(2, "S001-001", 1, frames=2)
    with pytest.raises(UserError, match="2/S001-001.avi: 2 frames, expected at least 3"):
        read(tmp_path)


def test_video_that_ends_early(tmp_path, session):
    session(1, "S001-001", 1)
    dataset = read(tmp_path)
    video(tmp_path / "Sessions/1/S001-001.avi", 2)
    with pytest.raises(UserError, match="S001-001.avi:3: not a readable frame"):
        dataset.load(dataset.faces[0])
