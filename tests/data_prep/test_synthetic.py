"""The parametric faces: the same bytes every time, landmarks that follow, and identities that differ."""
import hashlib
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from common.errors import UserError
from data_prep import manifest
from data_prep.datasets import synthetic

ANGRY, DISGUST, FEAR, HAPPY, SAD, SURPRISE, NEUTRAL = range(7)
PEOPLE = range(10)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def digest(*arguments):
    image, landmarks = synthetic.draw_face(*arguments)
    return hashlib.sha256(image.tobytes() + landmarks.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def peaks():
    """(subject, expression) -> image and landmarks of the last frame."""
    return {(subject, expression): synthetic.draw_face(subject, expression, 4)
            for subject in PEOPLE for expression in range(7)}


def upright(landmarks):
    """Landmarks with the eyes at (-1, 0) and (1, 0): without the pose."""
    points = landmarks.astype(float) @ (1, 1j)
    return (points - points[:2].mean()) / (points[1] - points[0]) * 2


def test_face_has_the_documented_shape_and_type(peaks):
    for image, landmarks in peaks.values():
        assert image.shape == (256, 256, 3) and image.dtype == np.uint8
        assert landmarks.shape == (5, 2) and landmarks.dtype == np.float32


@pytest.mark.parametrize(
    "arguments", [(-1, 0, 0), (0, 7, 0), (0, -1, 0), (0, 0, 5), (0, 0, -1), (0, 0, 0, 1)])
def test_what_is_out_of_range_is_refused(arguments):
    with pytest.raises(ValueError, match="expected subject"):
        synthetic.draw_face(*arguments)


def test_a_face_does_not_depend_on_what_was_drawn_before_nor_on_the_global_generator():
    faces = [(subject, expression, 3) for subject in (0, 5, 9) for expression in (HAPPY, SAD)]
    forwards = [digest(*face) for face in faces]
    np.random.seed(7)
    cv2.setRNGSeed(7)
    before = np.random.get_state()[1].tolist()
    assert [digest(*face) for face in faces[::-1]][::-1] == forwards
    assert np.random.get_state()[1].tolist() == before
    assert len(set(forwards)) == len(faces)


def test_a_face_is_the_same_in_another_process():
    code = ("import hashlib; from data_prep.datasets import synthetic; "
            "image, landmarks = synthetic.draw_face(4, 2, 3, 5, 1); "
            "print(hashlib.sha256(image.tobytes() + landmarks.tobytes()).hexdigest())")
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, check=True,
                           env=dict(os.environ, PYTHONHASHSEED="3", PYTHONPATH=ROOT))
    assert found.stdout.decode().strip() == digest(4, 2, 3, 5, 1)


def test_the_seed_changes_the_people():
    assert digest(0, 0, 0, 5, 0) != digest(0, 0, 0, 5, 1)


@settings(max_examples=40)
@given(strategies.integers(0, 10 ** 6), strategies.integers(0, 6), strategies.integers(2, 9),
       strategies.integers(0, 2 ** 32 - 1), strategies.data())
def test_landmarks_lie_in_order_within_any_face(subject, expression, frames, seed, data):
    frame = data.draw(strategies.integers(0, frames - 1))
    _, landmarks = synthetic.draw_face(subject, expression, frame, frames, seed)
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    assert (landmarks > 40).all() and (landmarks < 225).all()
    assert left_eye[0] + 40 < right_eye[0] and left_mouth[0] + 25 < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_the_eyes_landmarks_lie_on_the_eyes(peaks):
    """Where the eyes are wide open, the landmark's surroundings hold both the white and the pupil."""
    for subject in PEOPLE:
        image, landmarks = peaks[subject, SURPRISE]
        for x, y in np.rint(landmarks[:2]).astype(int):
            eye = image[y - 6:y + 7, x - 14:x + 15].min(-1)
            around = np.median(image[y + 18:y + 30, x - 14:x + 15].min(-1))
            assert eye.min() < .5 * around and np.percentile(eye, 95) > 1.02 * around, subject


def test_the_mouths_landmarks_follow_the_expression(peaks):
    found = {key: upright(landmarks) for key, (_, landmarks) in peaks.items()}

    def height(expression):  # of the mouth's corners below the nose, in half eye distances
        faces = [found[subject, expression] for subject in PEOPLE]
        return np.array([(face[3:].mean() - face[2]).imag for face in faces])

    def width(expression):
        faces = [found[subject, expression] for subject in PEOPLE]
        return np.array([(face[4] - face[3]).real for face in faces])

    assert (height(HAPPY) < height(NEUTRAL)).all() and (height(NEUTRAL) - height(HAPPY)).mean() > .15
    assert (height(SAD) > height(NEUTRAL)).all() and (height(SAD) - height(NEUTRAL)).mean() > .15
    assert (width(HAPPY) > width(NEUTRAL)).all() and (width(FEAR) > width(NEUTRAL)).all()
    assert (width(SURPRISE) < width(NEUTRAL)).all()


def test_a_sequence_leads_from_neutral_to_the_peak():
    for subject in range(4):
        smile = [upright(synthetic.draw_face(subject, HAPPY, frame)[1]) for frame in range(5)]
        corners = [landmarks[3:].mean().imag for landmarks in smile]
        assert corners[0] > corners[1] > corners[2] > corners[4]
        still = [upright(synthetic.draw_face(subject, NEUTRAL, frame)[1]) for frame in range(5)]
        assert np.abs(np.ptp(still, axis=0)).max() < .1


def test_people_differ_more_than_expressions(peaks):
    def aligned(key):
        image, landmarks = peaks[key]
        (a, b), (x, y) = landmarks[1] - landmarks[0], landmarks[:2].mean(0)
        scale = 60 / np.hypot(a, b)
        angle = np.degrees(np.arctan2(b, a))
        turn = cv2.getRotationMatrix2D((float(x), float(y)), float(angle), float(scale))
        turn[:, 2] += 128 - x, 110 - y
        image = cv2.warpAffine(image, turn, (256, 256))
        return cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(int)

    faces = np.array([[aligned((subject, expression)) for expression in range(7)] for subject in PEOPLE])
    between_people = np.mean([np.abs(faces[one] - faces[other]).mean()
                              for one in PEOPLE for other in PEOPLE if one < other])
    between_expressions = np.mean([np.abs(faces[:, one] - faces[:, other]).mean()
                                   for one in range(7) for other in range(7) if one < other])
    assert between_people > 1.5 * between_expressions


@pytest.mark.parametrize(
    "subjects, counts", [(60, (40, 10, 10)), (12, (8, 2, 2)), (6, (4, 1, 1)), (3, (1, 1, 1)), (1, (1, 0, 0))])
def test_splits_share_no_person(subjects, counts):
    splits = [synthetic.split_of(subject, subjects) for subject in range(subjects)]
    assert tuple(splits.count(split) for split in manifest.SPLITS) == counts


def test_write_lists_every_file_in_a_fixed_order(tmp_path):
    faces = synthetic.write(str(tmp_path / "two"), subjects=2, processes=2)
    assert len(faces) == 2 * 7 * 5
    assert len({face.path for face in faces}) == len(faces)
    assert all((tmp_path / "two" / face.path).is_file() for face in faces)
    assert faces[:7 * 5] == synthetic.write(str(tmp_path / "one"), subjects=1, processes=1)
    for face in faces[:7 * 5]:
        assert (tmp_path / "two" / face.path).read_bytes() == (tmp_path / "one" / face.path).read_bytes()
    manifest.check(faces, "faces")

    face = faces[5 + 4]
    image, landmarks = synthetic.draw_face(0, DISGUST, 4)
    assert face[:9] == (
        "S001/disgust/004.png", None, DISGUST, "disgust", "S001", "S001_disgust", 4, "peak", "train")
    assert np.allclose(face.landmarks, landmarks.ravel(), atol=.006)
    assert (cv2.imread(str(tmp_path / "two" / face.path)) == image).all()
    assert [face.role for face in faces[:5]] == ["neutral", "", "peak", "peak", "peak"]
    # The frames before the peak look neutral and are called by their sequence's expression: they take no part.
    assert [face.split for face in faces[:5]] == ["", "", "train", "train", "train"]
    assert {face.role for face in faces if face.label == NEUTRAL} == {"neutral"}


def test_an_image_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "S001" / "angry" / "002.png").mkdir(parents=True)
    with pytest.raises(OSError, match="S001/angry/002.png"):
        synthetic.write(str(tmp_path), subjects=1, processes=1)


def test_it_takes_no_source(tmp_path):
    with pytest.raises(UserError, match="some.csv: the synthetic faces are drawn, not read"):
        synthetic.read("some.csv", "plain", str(tmp_path), 1)


@pytest.mark.parametrize("protocol, roles", [("farzaneh2021", {"peak"}), ("wu2023", {"peak", "neutral"})])
def test_protocols_with_folds_have_six_expressions_and_no_split(tmp_path, monkeypatch, protocol, roles):
    monkeypatch.setattr(synthetic.write, "__defaults__", (5,) + synthetic.write.__defaults__[1:])
    dataset = synthetic.read(None, protocol, str(tmp_path), 1)
    assert list(dataset.classes) == ["angry", "disgust", "fear", "happy", "sad", "surprise"]
    assert {face.role for face in dataset.faces} == roles and {face.split for face in dataset.faces} == {""}
    peaks = [face for face in dataset.faces if face.role == "peak"]
    assert len(peaks) == 5 * 6 * 3
    if "neutral" in roles:
        first = {face.sequence: face.frame for face in dataset.faces if face.role == "neutral"}
        assert first == {face.sequence: 0 for face in peaks}
    assert dataset.load(dataset.faces[0]).shape == (256, 256, 3)


def test_published_counts_of_the_protocols_with_folds():
    protocol = synthetic.PROTOCOLS["wu2023"]
    assert protocol.counts == {"images": 60 * 6 * 3, "subjects": 60}
