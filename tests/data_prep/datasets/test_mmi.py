"""MMI's sessions, as two public readers of the set know them: videos or folders of frames, and XML."""
import fcntl
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from common import children, files
from common.errors import UserError
from common.expressions import SEVEN
from data_prep import deformation, manifest, prepare, survey
from data_prep.datasets import mmi, synthetic
from data_prep.manifest import Face
from tests.data_prep.test_prepare import same

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
        folder = f"{root}/{number}"
        text(f"{folder}/{name}.xml", ANNOTATION.format(emotion))
        text(f"{folder}/session.xml", SESSION.format(view, annotation))
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
        picture(f"Sessions/1/S002-106/S002-106_{number:05d}.jpg", 10 * number, (20, 30))
    dataset = read(tmp_path)
    assert dataset.faces == [
        Face(f"Sessions/1/S002-106/S002-106_{number:05d}.jpg", None, 1, "disgust", "S002", "S002-106", number,
             "peak") for number in (9, 10, 11)]
    assert dataset.load(dataset.faces[1]).shape == (30, 20, 3)
    for number in (9, 10, 11):
        picture(f"Sessions/1/S002-106/S002-106_{number:05d}.jpg", shape=(30, 20))
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
    assert str(error.value).startswith(f"{tmp_path}/Sessions/{said}")


def test_a_video_below_a_folder_whose_name_is_no_text(tmp_path, session):
    """OpenCV would crash."""
    session(1, "S001-001", 1)
    folder = os.path.join(os.fsencode(str(tmp_path)), b"caf\xe9")
    os.mkdir(folder)
    os.rename(str(tmp_path / "Sessions"), os.path.join(folder, b"Sessions"))
    with pytest.raises(UserError, match="S001-001.avi: its name, or that of a folder above it, is no text in UTF-8"):
        read(os.fsdecode(folder))


@pytest.mark.parametrize("path", ["session.xml", "S001-001.avi"])
def test_missing_file(tmp_path, session, path):
    session(1, "S001-001", 1)
    (tmp_path / "Sessions/1" / path).unlink()
    with pytest.raises(UserError, match=f"1/{path}: no such file"):
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


def test_frames_of_a_video_in_any_order_and_in_two_processes(tmp_path, session):
    session(1, "S001-001", 1, view=2, frames=9)
    session(2, "S002-001", 1, view=2, frames=9)
    dataset = read(tmp_path)
    one, other = dataset.faces[0], dataset.faces[3]
    wanted = [(one, 2), (one, 7), (one, 8), (other, 8), (one, 9), (one, 9), (one, 1)]

    def level(face, number):
        return round(dataset.load(face._replace(row=number)).max() / 10)
    assert [level(*each) for each in wanted] == [number for _, number in wanted]
    # The parent has read to frame 1, and goes on at frame 2 while its children do.
    jobs = [3, 5, 2, 6, 4, 8]
    found = []
    for job, seen in zip(jobs, children.in_order(2, int, (), lambda number: level(one, number), jobs)):
        found.append((job, seen))
    assert found == [(job, job) for job in jobs] and level(one, 2) == 2


# ---------------------------------------------------------------- the largest deformation

EYES = 20.0
STILL = (10.0, 10.0, 10.0 + EYES, 10.0, 20.0, 20.0, 13.0, 30.0, 27.0, 30.0)


class Seen:
    """In place of the detector: what the test says is in a picture of that grey value, none where it says nothing."""

    log = None
    landmarks = {}

    def __init__(self, share):
        assert share == 0

    def find(self, image):
        level = int(round(image.max() / 10))
        if self.log:
            with open(self.log, "a") as stream:
                stream.write(f"{level}\n")
        return self.landmarks.get(level)


def opened(by):
    """The mouth's corners, two of five points, that many pixels lower."""
    return STILL[:7] + (STILL[7] + by, STILL[8], STILL[9] + by)


@pytest.fixture
def seen(monkeypatch, tmp_path):
    log = tmp_path / "log"
    monkeypatch.setattr(survey, "Detector", Seen)
    monkeypatch.setattr(Seen, "log", str(log))

    def say(*landmarks):
        """Of the frames from 1 on."""
        monkeypatch.setattr(Seen, "landmarks", {number: found for number, found in enumerate(landmarks, start=1)
                                                if found})
        return lambda: log.read_text().split() if log.exists() else []
    return say


def numbers(tmp_path, processes=1):
    (tmp_path / "partial").mkdir(exist_ok=True)
    dataset = mmi.read(str(tmp_path / "source"), "xie2019a", str(tmp_path / "partial"), processes, "deformation")
    return [face.frame for face in dataset.faces]


@pytest.mark.parametrize("landmarks, chosen", [
    # Not the middle ones, and in the order of frames.
    ([STILL, opened(1), opened(6), opened(2), opened(9), opened(3), opened(7)], [3, 5, 7]),
    # Against the first frame that has a face, not the first of all; a frame without one is none of the three.
    ([None, opened(8), opened(7), None, opened(1), opened(2), opened(3)], [5, 6, 7]),
    # Up counts as much as down.
    ([STILL, opened(-9), opened(1), opened(2), opened(-8), opened(3), opened(4)], [2, 5, 7]),
    # Of equal ones the earlier.
    ([STILL, opened(4), opened(5), opened(4), opened(4), opened(5), opened(1)], [2, 3, 6]),
    ([STILL] * 7, [1, 2, 3]),
    ([None, None, opened(2), STILL, None, None, opened(2)], [3, 4, 7])])
@pytest.mark.parametrize("kind", ["video", "images"])
def test_three_frames_of_the_largest_deformation(tmp_path, session, picture, seen, kind, landmarks, chosen):
    seen(*landmarks)
    session(1, "S001-001", 1, view=2, frames=7 if kind == "video" else 0, root="source/Sessions")
    if kind == "images":
        for number in range(1, 8):
            picture(f"source/Sessions/1/S001-001/{number}.png", 10 * number)
    assert numbers(tmp_path) == chosen


def test_deformation_by_hand():
    # Two of five points 15 pixels away, eyes 20 apart: 2/5 * 15 / 20. One point 3 right and 4 down: 5/5 / 20.
    nose = STILL[:4] + (STILL[4] + 3, STILL[5] + 4) + STILL[6:]
    assert deformation.deformations([STILL, opened(15), nose, STILL], "") == pytest.approx([0, .3, .05, 0], abs=1e-15)
    # The eye distance is the first frame's.
    apart = (0.0, 10.0, 40.0, 10.0) + STILL[4:]
    assert deformation.deformations([apart, STILL], "") == pytest.approx([0, (10 + 10) / 5 / 40])
    with pytest.raises(UserError, match="^here: both eyes lie on one point$"):
        deformation.deformations([STILL[:2] * 5], "here")


def test_a_sequence_has_its_landmarks_and_its_own_reference(tmp_path, session, seen):
    session(1, "S001-001", 1, view=2, frames=4, root="source/Sessions")
    session(2, "S002-001", 2, view=2, frames=5, root="source/Sessions")
    seen(opened(4), opened(3), opened(4), opened(1), STILL)
    (tmp_path / "partial").mkdir()
    dataset = mmi.read(str(tmp_path / "source"), "liu2017", str(tmp_path / "partial"), 2, "deformation")
    assert dataset.faces == [
        Face("Sessions/{}/S00{}-001.avi".format(*[subject] * 2), frame, subject - 1, ("angry", "disgust")[subject - 1],
             f"S00{subject}", f"S00{subject}-001", frame, "peak", landmarks=opened(by))
        for subject, frame, by in ((1, 1, 4), (1, 2, 3), (1, 4, 1), (2, 2, 3), (2, 4, 1), (2, 5, 0))]


def test_sequences_with_too_few_faces_are_named(tmp_path, session, seen):
    for number, frames in ((1, 7), (2, 6), (3, 5)):
        session(number, f"S00{number}-001", 1, view=2, frames=frames, root="source/Sessions")
    seen(None, STILL, None, None, opened(1), None, opened(2))
    with pytest.raises(UserError) as error:
        numbers(tmp_path)
    where = f"{tmp_path}/source/Sessions/"
    assert str(error.value) == (
        f"{where}2/S002-001.avi (2 of 6), {where}3/S003-001.avi (2 of 5): frames in which a face is found, expected "
        "at least 3 in each sequence")
    session(2, "S002-001", 1, frames=2, root="source/Sessions")
    with pytest.raises(UserError, match="2/S002-001.avi: 2 frames, expected at least 3"):
        numbers(tmp_path)


def test_the_search_goes_on_where_it_was_killed(tmp_path, session, seen):
    for number in (1, 2):
        session(number, f"S00{number}-001", 1, view=2, frames=20, root="source/Sessions")
    log = seen(*[opened(number % 7) for number in range(20)])
    chosen = numbers(tmp_path)
    collected = tmp_path / "partial" / "frames.csv"
    # The mouth's corners are 0 1 2 3 4 5 6 0 1 ... pixels lower.
    assert len(log()) == 40 and chosen == [6, 7, 14] * 2
    text = collected.read_text()
    lines = text.splitlines(True)
    collected.write_text("".join(lines[:30]) + lines[30][:9])
    assert numbers(tmp_path, 2) == chosen and collected.read_text() == text
    assert len(log()) == 50 and numbers(tmp_path) == chosen and len(log()) == 50


def test_drawn_faces_are_the_most_deformed_where_they_are_the_most_expressive(tmp_path, session):
    """By the real detector. Surprise opens the mouth."""
    session(1, "S001-001", 6, view=2, frames=0, root="source/Sessions")
    folder = tmp_path / "source/Sessions/1/S001-001"
    folder.mkdir()
    # From neutral to the peak and back: 0 is neutral, 6 the peak.
    for number, instant in enumerate((0, 6, 1, 0, 5, 4, 0), start=1):
        image, _ = synthetic.draw_face(1, SEVEN.index("surprise"), instant, 7)
        assert cv2.imwrite(str(folder / f"{number}.png"), image)
    assert numbers(tmp_path) == [2, 5, 6]


# ---------------------------------------------------------------- the whole preparation

def ten_subjects(session, picture):
    for subject in range(10):
        name = f"S{subject:03d}-001"
        session(subject, name, subject % 6 + 1, view=2, frames=0, root="source/Sessions")
        for number in range(1, 7):
            picture(f"source/Sessions/{subject}/{name}/{number}.png", 10 * number, (48, 64))


def settings(tmp_path, **given):
    return prepare.Settings("mmi", str(tmp_path / "source"), "liu2017", folds=[1], **given)


def frames_of(folder):
    return {face.frame for face in manifest.read(str(folder / "manifest.csv"))}


SEQUENCE = STILL, opened(9), opened(8), STILL, STILL, opened(7)


def test_frames_are_part_of_what_is_asked_for(tmp_path, session, picture, seen):
    ten_subjects(session, picture)
    seen(*SEQUENCE)
    out = tmp_path / "out"
    note = prepare.prepare(settings(tmp_path), str(out), 1)
    assert note["asked"]["frames"] == "middle" and frames_of(out) == {2, 3, 4}
    assert prepare.prepare(settings(tmp_path, frames="middle"), str(out), 1) == note
    with pytest.raises(UserError, match="holds a preparation with frames middle, not deformation"):
        prepare.prepare(settings(tmp_path, frames="deformation"), str(out), 1)
    # A folder of before there was the choice.
    del note["asked"]["frames"]
    files.write_json(str(out / "prepare.json"), note)
    assert prepare.prepare(settings(tmp_path), str(out), 1) == note
    with pytest.raises(UserError, match="holds a preparation with frames middle, not deformation"):
        prepare.prepare(settings(tmp_path, frames="deformation"), str(out), 1)
    other = tmp_path / "other"
    note = prepare.prepare(settings(tmp_path, frames="deformation"), str(other), 1)
    assert note["asked"]["frames"] == "deformation" and frames_of(other) == {2, 3, 6}
    with pytest.raises(UserError, match="holds a preparation with frames deformation, not middle"):
        prepare.prepare(settings(tmp_path), str(other), 1)
    assert sorted(os.listdir(str(other))) == [".caffe-fer", "faces.html", "fold01", "manifest.csv", "prepare.json"]


@pytest.mark.parametrize("dataset, protocol, frames, said", [
    ("ckplus", "xie2019a", "deformation", "protocol xie2019a of ckplus has no choice of frames"),
    ("synthetic", None, "middle", "protocol plain of synthetic has no choice of frames"),
    ("mmi", "liu2017", "last", "protocol liu2017 of mmi has middle and deformation")])
def test_frames_where_there_is_no_such_choice(tmp_path, dataset, protocol, frames, said):
    with pytest.raises(UserError, match=f"^--frames {frames}: {said}$"):
        prepare.prepare(prepare.Settings(dataset, str(tmp_path), protocol, frames=frames), str(tmp_path / "out"), 1)


KILLED = """
import sys, time
from data_prep import prepare, survey
from tests.data_prep.datasets import test_mmi as t

class Slow(t.Seen):
    landmarks = dict(enumerate(t.SEQUENCE, start=1))

    def find(self, image):
        time.sleep(.02)
        return super().find(image)
survey.Detector = Slow
prepare.prepare(prepare.Settings("mmi", sys.argv[1], "liu2017", folds=[1], frames="deformation"), sys.argv[2], 1)
"""


def test_killed_in_the_search_it_goes_on_to_the_same_bytes(tmp_path, session, picture, seen):
    ten_subjects(session, picture)
    out = str(tmp_path / "out")
    collected = os.path.join(files.hidden(out, "partial"), "frames.csv")
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "source"), out])
    while not os.path.exists(collected) or not os.path.getsize(collected):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with open(files.hidden(out, "lock")) as stream:  # its child dies a moment later
        fcntl.flock(stream, fcntl.LOCK_EX)
    with open(collected) as stream:
        known = len(stream.readlines())
    assert 0 < known < 60
    log = seen(*SEQUENCE)
    prepare.prepare(settings(tmp_path, frames="deformation"), out, 1)
    # Only what was not known; the landmarks of the chosen frames stay.
    assert len(log()) == 60 - known
    prepare.prepare(settings(tmp_path, frames="deformation"), str(tmp_path / "undisturbed"), 2)
    same(out, tmp_path / "undisturbed")
