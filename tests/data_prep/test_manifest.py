"""The manifest: written, read back, and refused where it is wrong."""
import pytest

from common.errors import UserError
from data_prep import manifest
from data_prep.manifest import Face

FACES = [Face("a/ä b.png", None, 0, "angry", "S1", "S1_1", 0, "neutral", "train", 3, "1f", "", (1.0, 2.5) * 5),
         Face("fer.csv", 2, 1, "sad", split="val"),
         Face("c.png", None, 1, "sad", "S2")]


def test_round_trip(tmp_path):
    path = str(tmp_path / "manifest.csv")
    manifest.write(path, FACES)
    assert manifest.read(path) == FACES
    assert not (tmp_path / "manifest.csv.partial").exists()


def test_unit_is_the_sequence_or_the_image():
    assert [face.unit for face in FACES] == ["S1_1", "fer.csv:2", "c.png"]


def changed(tmp_path, old, new):
    path = tmp_path / "manifest.csv"
    manifest.write(str(path), FACES)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("old, new, said", [
    ("label,", "lable,", ":1: the columns are"),
    (",train,", ",trian,", ":2: split 'trian', expected one of train, val, test"),
    ("neutral", "begin", ":2: role 'begin', expected neutral, peak"),
    ("2.5", "wide", ":2: could not convert string to float: 'wide'"),
    ("fer.csv,2,1,", "fer.csv,2,-1,", ":3: label -1, expected 0 or more"),
    ("fer.csv,2,1,sad", "fer.csv,2,1,", ":4: label 1 is 'sad' here and '' above"),
    ("c.png,,1,sad,S2,,,,", "c.png,,1,sad,S1,,,,val", ":4: subject S1 is in val here and in train above"),
    ("c.png,", "c.png", ":4: 21 fields, expected 22"),
    ("c.png,,1,sad,S2,,,,,", "c.png,,1,sad,S1,,,,,1", ":4: subject S1 is in fold 1 here and in fold 3 above")])
def test_wrong_rows_are_named(tmp_path, old, new, said):
    path = changed(tmp_path, old, new)
    with pytest.raises(UserError) as error:
        manifest.read(path)
    assert str(error.value).startswith(path + said), str(error.value)
