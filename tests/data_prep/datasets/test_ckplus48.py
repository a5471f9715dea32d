"""CK+48 in its folder version."""
import pytest

from common.errors import UserError
from data_prep.datasets import ckplus48
from data_prep.manifest import Face


def read(path):
    return ckplus48.read(str(path), "plain", "", 1)


@pytest.mark.parametrize("root", ["CK+48/", ""])
def test_subject_and_sequence_are_in_the_name(tmp_path, picture, root, any_listing):
    picture(root + "surprise/S010_002_00000014.png", 3, (48, 48))
    picture(root + "happy/S010_006_00000015.png", 2)
    picture(root + "happy/S010_006_00000013.png", 1)
    picture(root + "contempt/S138_008_00000009.png")
    picture(root + "sadness/S503_006_00000020.png")
    picture(root + "anger/S999_001_00000018.png")
    dataset = read(tmp_path)
    assert dataset.faces == [
        Face(root + "anger/S999_001_00000018.png", None, 0, "angry", "S999", "S999_001", 18, "peak"),
        Face(root + "contempt/S138_008_00000009.png", None, 6, "contempt", "S138", "S138_008", 9, "peak"),
        Face(root + "happy/S010_006_00000013.png", None, 3, "happy", "S010", "S010_006", 13, "peak"),
        Face(root + "happy/S010_006_00000015.png", None, 3, "happy", "S010", "S010_006", 15, "peak"),
        Face(root + "sadness/S503_006_00000020.png", None, 4, "sad", "S503", "S503_006", 20, "peak"),
        Face(root + "surprise/S010_002_00000014.png", None, 5, "surprise", "S010", "S010_002", 14, "peak")]
    assert int(dataset.load(dataset.faces[5])[0, 0, 0]) == 3


@pytest.mark.parametrize("path, said", [
    ("CK+48/happy/happy1.png", "CK\\+48/happy/happy1.png: expected a name like S010_004_00000017.png"),
    ("CK+48/neutral/S010_002_00000014.png", "neutral: unknown expression, expected one of angry, .*contempt"),
    ("CK+48/happy/notes.txt", "no images, expected <expression>/S010_004_00000017.png")])
def test_refused(tmp_path, picture, text, path, said):
    picture(path) if path.endswith("png") else text(path, "")
    with pytest.raises(UserError, match=said):
        read(tmp_path)


def test_folds():
    assert [protocol.folds for protocol in ckplus48.PROTOCOLS.values()] == [10, 8]
