"""A folder of parts and classes of any names."""
import pytest
from PIL import Image

from common.errors import UserError
from data_prep import prepare, prepared_folder
from data_prep.datasets import folder
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
    (["happy/a.jpg", "sad/b.jpg"], "/happy: unknown split, expected train, training, val, "),
    (["val/happy/a.jpg"], ": no folder train here, expected train/<class>/*.jpg"),
    (["train/happy/a.jpg", "training/happy/a.jpg"], ": train and training are both the train split"),
    (["train/happy/a.jpg", "test/glad/a.jpg"], "/test/glad: not a class of the training split, which has happy"),
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


def prepared(tmp_path, source, **settings):
    out = str(tmp_path / "out")
    note = prepare.prepare(prepare.Settings("folder", str(source), features=[], **settings), out, processes=1)
    return note, prepared_folder.summary(out, note)


def test_what_is_left_out_is_counted_and_named(tmp_path, picture):
    for path in ("s/train/a b/1.JPG", "s/train/a b/2.tiff", "s/train/ü'x/1.png", "s/test/a b/1.webp"):
        picture(path)
    Image.new("RGB", (1, 1)).save(str(tmp_path / "s/train/ü'x/2.gif"))
    for path in ("s/train/0.jpg", "s/train/a b/deeper/1.png", "s/train/a b/deeper/2.png", "s/train/a b/._1.JPG",
                 "s/__MACOSX/train/a b/1.JPG", "s/train/a b/3.HEIC", "s/train/a b/Thumbs.db", "s/train/.DS_Store",
                 "s/notes.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    (tmp_path / "s/train/a b/4.png").mkdir()
    note, said = prepared(tmp_path, tmp_path / "s")
    assert note["counts"] == {"train": 4, "test": 1}
    assert note["left_out"] == {"images": {"count": 3, "example": "train/0.jpg"},
                                "kinds": {"count": 1, "example": "train/a b/3.HEIC"},
                                "hidden": {"count": 2, "example": "__MACOSX/train/a b/1.JPG"}}
    assert ("note: 3 images lie in places that this data set and protocol do not use and are left out, e.g. train/0.jpg"
            in said)
    assert "note: 2 files with the name of an image are hidden and are left out, e.g. __MACOSX/train/a b/1.JPG" in said


def test_nothing_is_said_where_nothing_is_left_out(tmp_path, picture):
    picture("s/train/a/1.png")
    picture("s/train/b/1.png")
    note, said = prepared(tmp_path, tmp_path / "s")
    assert note["left_out"] == {} and "left out" not in said


def test_a_class_without_training_images_is_refused(tmp_path, picture):
    picture("s/train/a/1.png")
    (tmp_path / "s/train/b").mkdir()
    with pytest.raises(UserError, match="s/train/b: no images here; each class needs images in the training split"):
        prepared(tmp_path, tmp_path / "s")
    (tmp_path / "s/train/b").rmdir()
    with pytest.raises(UserError, match="s: all train images are of the class a; at least two classes are needed"):
        prepared(tmp_path, tmp_path / "s")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("share, said", [
    (0.001, "hold-out 0.001: too small to hold out any of 8 train images; give a larger share"),
    (0.95, "hold-out 0.95: no train image is left of a, b; give a smaller share")])
def test_hold_out_of_nothing_or_everything_is_refused(tmp_path, picture, share, said):
    for number in range(4):
        picture(f"s/train/a/{number}.png", number)
        picture(f"s/train/b/{number}.png", 9 + number)
    with pytest.raises(UserError) as error:
        prepared(tmp_path, tmp_path / "s", hold_out=share)
    assert str(error.value) == said
    assert not list(tmp_path.glob("out*"))


def test_a_link_that_leads_nowhere(tmp_path, picture):
    """Beside the images it does not matter; among them it is named."""
    for path in ("s/train/no/1.png", "s/train/yes/1.png"):
        picture(path)
    (tmp_path / "s/notes.txt").symlink_to(tmp_path / "gone")
    note, _ = prepared(tmp_path, tmp_path / "s")
    assert note["records"]["train"] == 2
    (tmp_path / "s/train/no/2.png").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="train/no/2.png: no such file"):
        prepare.prepare(prepare.Settings("folder", str(tmp_path / "s"), features=[]), str(tmp_path / "other"), 1)
