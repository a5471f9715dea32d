"""Oulu-CASIA in its own tree."""
import pytest

from common.errors import UserError
from data_prep.datasets import oulu_casia
from data_prep.manifest import Face


def read(path, protocol="xie2019a"):
    return oulu_casia.read(str(path), protocol, "", 1)


@pytest.fixture
def sequence(picture):
    def write(path, frames, value=0):
        for frame in range(frames):
            picture(f"{path}/{frame:03d}.jpeg", value + frame)
    return write


@pytest.fixture
def tree(tmp_path, sequence):
    for value, condition in enumerate(("NI/Strong", "NI/Weak", "VL/Strong", "VL/Dark")):
        sequence(condition + "/P002/Happiness", 12, 50 * value)
        sequence(condition + "/P001/Sadness", 4, 50 * value)
        sequence(condition + "/P001/Anger", 5, 50 * value)
    (tmp_path / "NI/Strong/P001/Anger/Thumbs.db").write_bytes(b"")
    return tmp_path


def peaks(path, label, class_name, frames):
    subject = path.split("/")[2]
    return [Face(f"{path}/{frame:03d}.jpeg", None, label, class_name, subject, subject + "_" + class_name,
                 frame, "peak") for frame in frames]


def test_last_three_frames_of_near_infrared(tree, any_listing):
    dataset = read(tree)
    assert dataset.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise")
    assert dataset.faces == (peaks("NI/Strong/P001/Anger", 0, "angry", (2, 3, 4)) +
                             peaks("NI/Strong/P001/Sadness", 4, "sad", (1, 2, 3)) +
                             peaks("NI/Strong/P002/Happiness", 3, "happy", (9, 10, 11)))
    assert abs(int(dataset.load(dataset.faces[0])[0, 0, 0]) - 2) < 3
    assert read(tree, "xie2019b").faces == dataset.faces


def test_visible_light(tree):
    dataset = read(tree, "xie2019a_vl")
    assert dataset.faces[0].path == "VL/Strong/P001/Anger/002.jpeg"
    assert abs(int(dataset.load(dataset.faces[0])[0, 0, 0]) - 102) < 3


def test_pairs_with_the_first_frame(tree):
    faces = read(tree, "wu2023").faces
    assert [(face.path, face.frame, face.role, face.label, face.sequence) for face in faces[:2]] == [
        ("VL/Strong/P001/Anger/000.jpeg", 0, "neutral", 0, "P001_angry"),
        ("VL/Strong/P001/Anger/002.jpeg", 2, "peak", 0, "P001_angry")]
    assert len(faces) == 12


@pytest.mark.parametrize("nesting", ["OriginalImg", "B_OriginalImg", "B_OriginalImg/OriginalImg"])
def test_nestings_in_circulation(tmp_path, sequence, nesting):
    sequence(nesting + "/VL/Strong/P001/Fear", 3)
    assert read(tmp_path, "xie2019a_vl").faces[2].path == nesting + "/VL/Strong/P001/Fear/002.jpeg"


def test_frames_without_leading_zeros(tmp_path, picture):
    for frame in (8, 9, 10, 11):
        picture(f"NI/Strong/P001/Fear/{frame}.jpeg")
    assert [face.frame for face in read(tmp_path).faces] == [9, 10, 11]


def test_refused(tree, sequence):
    sequence("VL/Strong/P003/Surprise", 3)
    with pytest.raises(UserError, match="VL/Strong/P003/Surprise: 3 frames, expected at least 4"):
        read(tree, "wu2023")
    sequence("VL/Strong/P003/Neutral", 3)
    with pytest.raises(UserError, match="P003/Neutral: unknown expression, expected one of angry, .*surprise$"):
        read(tree, "xie2019a_vl")
    with pytest.raises(UserError, match="P001: no folder NI/Strong or OriginalImg/NI/Strong or "):
        read(tree / "NI/Strong/P001")


def test_counts():
    assert all(protocol.counts["images"] == 3 * 480 for protocol in oulu_casia.PROTOCOLS.values())
    assert list(oulu_casia.CONDITIONS) == list(oulu_casia.PROTOCOLS)
