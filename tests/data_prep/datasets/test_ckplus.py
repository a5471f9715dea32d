"""CK+ in its own tree: which frames become samples, and what is refused."""
import shutil

import pytest

from common.errors import UserError
from data_prep.datasets import ckplus
from data_prep.manifest import Face, check


def read(path, protocol="xie2019a"):
    return ckplus.read(str(path), protocol, "", 1)


@pytest.fixture
def sequence(picture, text):
    def write(subject, number, frames, code=None, images="cohn-kanade-images", labels="Emotion"):
        name = f"{subject}_{number}"
        for frame in reversed(range(1, frames + 1)):
            picture(f"{images}/{subject}/{number}/{name}_{frame:08d}.png", frame)
        if code is not None:
            text(f"{labels}/{subject}/{number}/{name}_{frames:08d}_emotion.txt",
                 f"   {code:.7e}\n", "ascii")
    return write


@pytest.fixture
def tree(tmp_path, sequence, picture):
    sequence("S010", "004", 11, 7)
    sequence("S005", "001", 5, 3)
    sequence("S010", "003", 4, 2)
    sequence("S005", "003", 6)
    sequence("S011", "001", 4, 1)
    sequence("S011", "002", 4, 5)
    (tmp_path / "Emotion/S005/003").mkdir(parents=True)
    (tmp_path / "Emotion/S999").mkdir()
    picture("cohn-kanade-images/S005/001/._S005_001_00000005.png")
    (tmp_path / "cohn-kanade-images/S005/001/.DS_Store").write_bytes(b"")
    (tmp_path / "Landmarks").mkdir()
    return tmp_path


def peaks(subject, number, label, class_name, frames):
    name = f"{subject}_{number}"
    return [Face(f"cohn-kanade-images/{subject}/{number}/{name}_{frame:08d}.png", None, label, class_name,
                 subject, name, frame, "peak") for frame in frames]


def test_six_expressions_and_a_neutral_frame_for_each_subject(tree, any_listing):
    dataset = read(tree)
    assert dataset.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    neutral = [Face(f"cohn-kanade-images/{subject}/{number}/{subject}_{number}_00000001.png", None, 6, "neutral",
                    subject, subject + "_neutral", 1, "neutral")
               for subject, number in (("S005", "001"), ("S010", "004"), ("S011", "001"))]
    assert dataset.faces == (
        neutral[:1] + peaks("S005", "001", 1, "disgust", (3, 4, 5)) +
        neutral[1:2] + peaks("S010", "004", 5, "surprise", (9, 10, 11)) +
        neutral[2:] + peaks("S011", "001", 0, "angry", (2, 3, 4)) + peaks("S011", "002", 3, "happy", (2, 3, 4)))
    assert [int(dataset.load(face).max()) for face in dataset.faces[:4]] == [1, 3, 4, 5]
    assert len({face.unit for face in dataset.faces}) == 7
    check(dataset.faces, "")
    assert read(tree, "xie2019b").faces == dataset.faces


def test_contempt_without_neutral(tree):
    dataset = read(tree, "liu2017")
    assert dataset.classes[6] == "contempt"
    assert dataset.faces == (
        peaks("S005", "001", 1, "disgust", (3, 4, 5)) + peaks("S010", "003", 6, "contempt", (2, 3, 4)) +
        peaks("S010", "004", 5, "surprise", (9, 10, 11)) + peaks("S011", "001", 0, "angry", (2, 3, 4)) +
        peaks("S011", "002", 3, "happy", (2, 3, 4)))


def test_pairs_with_the_first_frame(tree):
    faces = read(tree, "wu2023").faces
    assert [(face.sequence, face.frame, face.role, face.class_name) for face in faces[:5]] == [
        ("S005_001", 1, "neutral", "disgust"), ("S005_001", 3, "peak", "disgust"), ("S005_001", 4, "peak", "disgust"),
        ("S005_001", 5, "peak", "disgust"), ("S010_003", 1, "neutral", "contempt")]
    assert len(faces) == 5 * 4 and {face.split for face in faces} == {""}


def test_counts_of_the_protocols():
    assert list(ckplus.PROTOCOLS) == ["xie2019a", "xie2019b", "xie2019b_whole", "liu2017", "wu2023"]
    xie, whole, liu, wu = (ckplus.PROTOCOLS[name] for name in ("xie2019a", "xie2019b_whole", "liu2017", "wu2023"))
    assert (whole.folds, whole.counts) == (0, xie.counts)
    assert xie.counts["images"] == 3 * 309 + 106 and xie.counts["units"] == 309 + 106
    assert (liu.folds, wu.folds, wu.pairs, wu.unit) == (8, 10, True, "image")


@pytest.mark.parametrize("images, labels", [
    ("extended-cohn-kanade-images/cohn-kanade-images", "Emotion_labels/Emotion"),
    ("extended-cohn-kanade-images", "Emotion_labels")])
def test_nestings_in_circulation(tmp_path, sequence, images, labels):
    sequence("S010", "004", 4, 7, images, labels)
    assert [face.path for face in read(tmp_path, "liu2017").faces] == [
        images + f"/S010/004/S010_004_0000000{frame}.png" for frame in (2, 3, 4)]


@pytest.mark.parametrize("content, said", [
    ("   8.0000000e+00\n", "unknown label 8, expected 1 to 7"), ("0", "unknown label 0, expected 1 to 7"),
    ("2.5", "unknown label 2.5"), ("nan", "unknown label nan"), ("", "not a readable label, expected a number"),
    ("happy", "not a readable label, expected a number from 1 to 7"), ("3\xe9", "not a readable label")])
def test_wrong_label_is_named(tree, text, content, said):
    text("Emotion/S005/001/S005_001_00000005_emotion.txt", content)
    with pytest.raises(UserError) as error:
        read(tree)
    assert str(error.value).startswith(f"{tree}/Emotion/S005/001/S005_001_00000005_emotion.txt: {said}")


def test_two_labels(tree, text):
    text("Emotion/S010/004/other.txt", "1")
    with pytest.raises(UserError, match="Emotion/S010/004: 2 labels, expected one"):
        read(tree)


@pytest.mark.parametrize("protocol, frames", [("liu2017", 2), ("xie2019a", 3), ("wu2023", 3)])
def test_too_few_frames(tmp_path, sequence, protocol, frames):
    sequence("S010", "004", frames, 7)
    with pytest.raises(UserError, match=f"S010/004: {frames} frames, expected at least {frames + 1}"):
        read(tmp_path, protocol)
    sequence("S010", "004", frames + 1, 7)
    (tmp_path / f"Emotion/S010/004/S010_004_{frames:08d}_emotion.txt").unlink()
    assert len(read(tmp_path, protocol).faces) in (3, 4)


def test_labelled_sequence_without_its_images(tree):
    shutil.rmtree(str(tree / "cohn-kanade-images/S010/004"))
    with pytest.raises(UserError, match="cohn-kanade-images/S010/004: no such folder"):
        read(tree)


def test_image_without_a_number(tree, picture):
    picture("cohn-kanade-images/S010/004/last.png")
    with pytest.raises(UserError, match="S010/004/last.png: no frame number"):
        read(tree)


@pytest.mark.parametrize("missing, said", [
    ("cohn-kanade-images", "no folder cohn-kanade-images or extended-cohn-kanade-images/cohn-kanade-images or "),
    ("Emotion", "no folder Emotion or Emotion_labels/Emotion or Emotion_labels here")])
def test_missing_folder(tree, missing, said):
    shutil.rmtree(str(tree / missing))
    with pytest.raises(UserError, match=f"{tree}: {said}"):
        read(tree)


def test_no_label_at_all(tmp_path, sequence):
    sequence("S005", "003", 6)
    (tmp_path / "Emotion/S005/003").mkdir(parents=True)
    with pytest.raises(UserError, match="no images, expected labels Emotion/S005/001"):
        read(tmp_path)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read(tmp_path / "nowhere")
