"""SFEW: its parts, with and without folders between, and a test split without labels."""
import pytest

from common.errors import UserError
from data_prep.datasets import sfew
from data_prep.manifest import Face


def read(path):
    return sfew.read(str(path), "liu2017", "", 1)


def test_three_parts(tmp_path, picture, any_listing):
    picture("Val/Happy/Evita_000158920_00000021.png")
    picture("Train/Angry/Airheads_000519240_00000005.png", 7)
    picture("Train/Angry/AboutABoy_000000001_00000001.png")
    picture("Train/Neutral/Juno_000000001_00000001.png")
    picture("Test/Surprise/Hangover_000000001_00000001.png")
    dataset = read(tmp_path)
    assert dataset.faces == [
        Face("Train/Angry/AboutABoy_000000001_00000001.png", None, 0, "angry", split="train"),
        Face("Train/Angry/Airheads_000519240_00000005.png", None, 0, "angry", split="train"),
        Face("Train/Neutral/Juno_000000001_00000001.png", None, 6, "neutral", split="train"),
        Face("Val/Happy/Evita_000158920_00000021.png", None, 3, "happy", split="val"),
        Face("Test/Surprise/Hangover_000000001_00000001.png", None, 5, "surprise", split="test")]
    assert int(dataset.load(dataset.faces[1])[0, 0, 0]) == 7


@pytest.mark.parametrize("train, val, test", [
    ("Train/Train_Aligned_Faces", "Val/Val_Aligned_Faces_new", "Test/Test_Aligned_Faces"),
    ("Train_Aligned_Faces", "Val_Aligned_Faces", "Test"), ("train/a/b", "val", "test/imgs")])
def test_nestings_in_circulation_and_a_test_part_without_labels(tmp_path, picture, train, val, test):
    picture(train + "/Fear/a.png")
    picture(val + "/Sad/b.png")
    picture(test + "/c.png")
    assert [face.path for face in read(tmp_path).faces] == [train + "/Fear/a.png", val + "/Sad/b.png"]


def test_no_test_part(tmp_path, picture):
    picture("Train/Disgust/a.png")
    picture("Val/Disgust/b.png")
    assert [face.split for face in read(tmp_path).faces] == ["train", "val"]


@pytest.mark.parametrize("paths, said", [
    (["Train/Fear/a.png"], ": no folder Val here"), (["Val/Fear/a.png"], ": no folder Train here"),
    (["Train/Fear/a.png", "Val/Fear/a.png", "Train_Aligned_Faces/Fear/a.png"],
     ": Train and Train_Aligned_Faces are here, expected one of them"),
    (["Train/a.png", "Val/Fear/a.png"], "/Train: no folders, expected folders of the expressions angry, "),
    (["Train/Faces/a.png", "Train/Points/a.png", "Val/Fear/a.png"], "/Train: Faces and Points, expected folders"),
    (["Train/Fear/a.png", "Train/Bored/a.png", "Val/Fear/a.png"], "/Train/Bored: unknown expression, expected one of"),
    (["Train/Fear/a.txt", "Val/Fear/a.txt"], ": no images, expected Train/Angry/*.png")])
def test_refused(tmp_path, picture, text, paths, said):
    for path in paths:
        picture(path) if path.endswith("png") else text(path, "")
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(str(tmp_path) + said)
