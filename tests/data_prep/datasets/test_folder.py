"""A folder of parts and classes of any names."""
import pytest

from data_prep.datasets import folder
from data_prep.errors import UserError
from data_prep.manifest import Face


def read(path):
    return folder.read(str(path), "plain", "", 1)


def test_classes_are_the_training_folders(tmp_path, picture, any_listing):
    picture("Train/yes/b.jpg")
    picture("Train/yes/a.png", 9)
    picture("Train/no/c.jpg")
    picture("valid/yes/d.bmp")
    picture("test/no/e.jpeg")
    (tmp_path / "README").write_text("")
    (tmp_path / "Train/yes/Thumbs.db").write_bytes(b"")
    dataset = read(tmp_path)
    assert dataset.classes == ("no", "yes")
    assert dataset.faces == [
        Face("Train/no/c.jpg", None, 0, "no", split="train"), Face("Train/yes/a.png", None, 1, "yes", split="train"),
        Face("Train/yes/b.jpg", None, 1, "yes", split="train"), Face("test/no/e.jpeg", None, 0, "no", split="test"),
        Face("valid/yes/d.bmp", None, 1, "yes", split="val")]
    assert int(dataset.load(dataset.faces[1])[0, 0, 0]) == 9


@pytest.mark.parametrize("paths, said", [
    (["happy/a.jpg", "sad/b.jpg"], "/happy: unknown part, expected train, training, val, "),
    (["val/happy/a.jpg"], ": no folder train here, expected train/<class>/*.jpg"),
    (["train/happy/a.jpg", "training/happy/a.jpg"], ": train and training are both the train part"),
    (["train/happy/a.jpg", "test/glad/a.jpg"], "/test/glad: no class of the training part, which has happy"),
    (["train/a.jpg"], ": no images, expected train/<class>/*.jpg")])
def test_refused(tmp_path, picture, paths, said):
    for path in paths:
        picture(path)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(str(tmp_path) + said)


def test_broken_image_is_named_when_it_is_loaded(tmp_path, text):
    text("train/happy/a.jpg", "no image")
    dataset = read(tmp_path)
    with pytest.raises(UserError, match="train/happy/a.jpg: not a readable image"):
        dataset.load(dataset.faces[0])
