"""A folder of parts and classes of any names."""
import pytest
from PIL import Image

from common.errors import UserError
from data_prep import manifest, prepare, prepared_folder
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
    (["train/happy/a.jpg", "vall/happy/b.jpg"], "/vall: unknown split beside train, expected train, training, val, "),
    (["S01/happy/a.jpg", "S02/fear/b.jpg"], "/S01: unknown split, expected train, training, val, "),
    (["happy/a.jpg", "Happy/b.jpg"], "/happy: class 'happy' is spelled 'Happy' in {}/Happy; give each class one"),
    (["train/anger/a.jpg", "train/angry/b.jpg"], "/train/angry: class 'angry' is spelled 'anger' in {}/train/anger"),
    (["a.jpg", "b.jpg"], ": no images, expected train/<class>/*.jpg, <class>/*.jpg or labels.csv"),
    (["val/happy/a.jpg"], ": no folder train here, expected train/<class>/*.jpg"),
    (["train/happy/a.jpg", "training/happy/a.jpg"], ": train and training are both the train split"),
    (["train/happy/a.jpg", "test/glad/a.jpg"], "/test/glad: not a class of the training split, which has happy"),
    (["train/a.jpg"], ": no images, expected train/<class>/*.jpg")])
def test_refused(tmp_path, picture, paths, said):
    for path in paths:
        picture(path)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(str(tmp_path) + said.format(tmp_path))


def test_classes_without_splits(tmp_path, picture, any_listing):
    for path in ("yes/b.jpg", "yes/a.png", "no/c.jpg", "d.jpg"):
        picture(path)
    dataset = read(tmp_path)
    assert dataset.classes == ("no", "yes")
    assert dataset.faces == [Face("no/c.jpg", None, 0, "no"), Face("yes/a.png", None, 1, "yes"),
                             Face("yes/b.jpg", None, 1, "yes")]
    (tmp_path / "maybe").mkdir()
    with pytest.raises(UserError, match="/maybe: no images here; each class needs images$"):
        read(tmp_path)


def test_folders_below_a_class(tmp_path, picture, any_listing):
    for path in ("s/train/yes/S2/x/3.jpg", "s/train/yes/S10/2.jpg", "s/train/yes/1.jpg", "s/train/no/S2/4.jpg",
                 "s/train/no/.hidden/5.jpg", "s/test/yes/S3/6.jpg", "linked/7.jpg"):
        picture(path)
    (tmp_path / "s/train/no/S4").symlink_to(tmp_path / "linked")
    assert [(face.path, face.class_name) for face in read(tmp_path / "s").faces] == [
        ("test/yes/S3/6.jpg", "yes"), ("train/no/S2/4.jpg", "no"), ("train/no/S4/7.jpg", "no"),
        ("train/yes/1.jpg", "yes"), ("train/yes/S10/2.jpg", "yes"), ("train/yes/S2/x/3.jpg", "yes")]


def test_a_link_that_leads_back_is_named(tmp_path, picture):
    for path in ("yes/S1/1.jpg", "no/S1/1.jpg"):
        picture(path)
    (tmp_path / "yes/S1/all").symlink_to(tmp_path / "no")
    (tmp_path / "no/all").symlink_to(tmp_path / "yes")
    with pytest.raises(UserError, match="/no/all/S1/all: a link to a folder that holds it"):
        read(tmp_path)


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
    for path in ("s/train/0.jpg", "s/train/1.jpg", "s/2.png", "s/train/a b/._1.JPG",
                 "s/__MACOSX/train/a b/1.JPG", "s/train/a b/3.HEIC", "s/train/a b/Thumbs.db", "s/train/.DS_Store",
                 "s/notes.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    (tmp_path / "s/train/a b/4.png").mkdir()
    note, said = prepared(tmp_path, tmp_path / "s")
    assert note["counts"] == {"train": 4, "test": 1}
    assert note["left_out"] == {"images": {"count": 3, "example": "2.png"},
                                "kinds": {"count": 1, "example": "train/a b/3.HEIC"},
                                "hidden": {"count": 2, "example": "__MACOSX/train/a b/1.JPG"}}
    assert ("note: 3 images lie in places that this data set and protocol do not use and are left out, e.g. 2.png"
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
    (0.001, "--hold-out 0.001: too small to hold out any of 8 train images; give a larger share"),
    (0.95, "--hold-out 0.95: no train image is left of a, b; give a smaller share")])
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


def own(picture, subjects=5):
    """Of each subject two images of each class, S1_a.png ..., with another subject first in each class."""
    for subject in range(subjects):
        for label, name in enumerate(("no", "yes")):
            for letter in "ab":
                picture(f"s/{name}/S{subject}_{letter}.png", 40 * subject + 10 * label + ord(letter) - 97, (6, 6))


def test_folds_of_ones_own_data(tmp_path, picture):
    own(picture)
    note, said = prepared(tmp_path, tmp_path / "s", fold_count=5, subject_pattern="^(S.)_")
    assert note["folds"] == ["fold01", "fold02", "fold03", "fold04", "fold05"]
    tested = []
    for name in note["folds"]:
        faces = manifest.read(str(tmp_path / "out" / name / "manifest.csv"))
        subjects = {split: {face.subject for face in faces if face.split == split} for split in manifest.SPLITS}
        assert {split: len(found) for split, found in subjects.items()} == {"train": 3, "val": 1, "test": 1}
        assert set.union(*subjects.values()) == {"S0", "S1", "S2", "S3", "S4"}
        assert all(face.subject == face.path.split("/")[1][:2] for face in faces)
        tested += subjects["test"]
    assert sorted(tested) == ["S0", "S1", "S2", "S3", "S4"]
    assert "20 images in 5 folds, 100 records of 1x48x48" in said
    for settings, said in (({"fold_count": 4, "subject_pattern": "^(S.)_"}, "fold_count 5, not 4"),
                           ({"subject_pattern": "^(S.)_"}, "fold_count 5, not None"),
                           ({"fold_count": 5}, r"subject_pattern \^\(S.\)_, not None")):
        with pytest.raises(UserError, match="holds a preparation with " + said):
            prepared(tmp_path, tmp_path / "s", **settings)


def test_folds_by_the_subjects_of_tables(tmp_path, picture):
    """A table beside the data, or a column of the labels, gives the same folds as the names of the files."""
    own(picture)
    paths = [f"{name}/S{subject}_{letter}.png" for name in ("no", "yes") for subject in range(5) for letter in "ab"]
    (tmp_path / "who.csv").write_text("subject,path\n" + "".join(f"S{path[-7]},{path}\n" for path in paths))
    for out, settings in (("names", {"subject_pattern": r"/S(\d)_"}),
                          ("table", {"subjects": str(tmp_path / "who.csv")})):
        prepare.prepare(prepare.Settings("folder", str(tmp_path / "s"), features=[], fold_count=4, validation="none",
                                         **settings), str(tmp_path / out), 1)
    (tmp_path / "s/labels.csv").write_text("label,path,subject\n" + "".join(
        f"{path.split('/')[0]},{path},S{path[-7]}\n" for path in paths))
    prepare.prepare(prepare.Settings("folder", str(tmp_path / "s"), features=[], fold_count=4, validation="none"),
                    str(tmp_path / "column"), 1)
    table = [(face.path, face.subject[-1], face.split) for face in manifest.read(
        str(tmp_path / "table/fold03/manifest.csv"))]
    for out in ("names", "column"):
        assert [(face.path, face.subject[-1], face.split) for face in manifest.read(
            str(tmp_path / out / "fold03/manifest.csv"))] == table
    assert {split for _, _, split in table} == {"train", "test"}


@pytest.mark.parametrize("settings, said", [
    ({"fold_count": 6, "subject_pattern": "^(S.)_"}, "{}: 5 subjects, fewer than 6 folds"),
    ({"fold_count": 5}, "{}: no/S0_a.png has no subject, which person-independent folds need (--subjects, or for data "
                        "of your own --subject-pattern)"),
    ({"fold_count": 5, "subject_pattern": "^(S[0-3])_"}, "--subject-pattern ^(S[0-3])_: finds no subject in the names "
                                                         "of 4 of 20 images, e.g. no/S4_a.png"),
    ({"fold_count": 5, "subject_pattern": "^(no)"}, "--subject-pattern ^(no): finds no subject in the names of 20 of "
                                                    "20 images, e.g. no/S0_a.png"),
    ({"subject_pattern": "^S(4?)"}, "--subject-pattern ^S(4?): finds no subject in the names of 16 of 20 images, e.g. "
                                    "no/S0_a.png"),
    ({"fold_count": 5, "subject_pattern": "^S._"}, "--subject-pattern ^S._: has 0 groups (...), expected one, around "
                                                   "the subject"),
    ({"subject_pattern": ""}, "--subject-pattern : has 0 groups (...), expected one, around the subject"),
    ({"subject_pattern": "^(S"}, "--subject-pattern ^(S: not a regular expression: missing ), unterminated subpattern "
                                 "at position 1"),
    ({"subject_pattern": "^(S.)", "subjects": "{}"}, "--subject-pattern ^(S.): the subjects come from {}; give one of "
                                                     "both"),
    ({"fold_count": 2, "subject_pattern": "^(S.)"}, "--folds 2: expected at least 3 with --validation fold, so that "
                                                    "there are images for training"),
    ({"fold_count": 5, "hold_out": 0.1}, "--hold-out: --folds makes folds; --validation fold makes one of them the "
                                         "validation split"),
    ({"fold_count": 5, "folds": [6]}, "--fold 6: protocol plain of folder has folds 1 to 5"),
    ({"folds": [1]}, "--fold 1: protocol plain of folder has no folds; --folds makes them"),
    ({"validation": "fold"}, "--validation fold: protocol plain of folder has no folds; --hold-out makes a validation "
                             "split, and --folds makes folds")])
def test_folds_that_are_refused(tmp_path, picture, settings, said):
    own(picture)
    source = str(tmp_path / "s")
    with pytest.raises(UserError) as error:
        prepared(tmp_path, source, **{key: source if value == "{}" else value for key, value in settings.items()})
    assert str(error.value) == said.format(source)
    assert not list(tmp_path.glob("*out*"))


def test_folds_of_data_with_splits_are_refused(tmp_path, picture):
    for path in ("s/train/no/S1.png", "s/train/yes/S2.png", "s/test/no/S3.png"):
        picture(path)
    for pattern in (None, "(S.)"):
        with pytest.raises(UserError, match="s: test/no/S3.png is in the split test, and folds are made of data"):
            prepared(tmp_path, tmp_path / "s", fold_count=3, subject_pattern=pattern)


def test_folds_of_another_data_set_are_its_own(tmp_path):
    for settings, said in (({"fold_count": 5}, "--folds 5"), ({"subject_pattern": "(.)"}, r"--subject-pattern \(.\)")):
        with pytest.raises(UserError, match=said + ": only for images of your own .*, not for ckplus"):
            prepare.prepare(prepare.Settings("ckplus", str(tmp_path), **settings), str(tmp_path.parent / "o"), 1)


def test_without_folds_and_hold_out_all_is_for_training_and_that_is_said(tmp_path, picture):
    own(picture)
    note, said = prepared(tmp_path, tmp_path / "s")
    assert note["counts"] == {"train": 20} and not {"fold_count", "subject_pattern"} & set(note["asked"])
    assert ("note: all images are for training; there is no validation split (--hold-out makes one) and no test split"
            in said)
    again = prepare.Settings("folder", str(tmp_path / "s"), features=[], hold_out=0.2, subject_pattern="(S.)")
    held_out = prepare.prepare(again, str(tmp_path / "held"), 1)
    assert held_out["counts"] == {"train": 16, "val": 4}
    assert "note:" not in prepared_folder.summary(str(tmp_path / "held"), held_out)


def test_a_class_that_a_fold_does_not_train_is_named(tmp_path, picture):
    own(picture, 3)
    picture("s/rare/S1_a.png", 200, (6, 6))
    _, said = prepared(tmp_path, tmp_path / "s", fold_count=3, subject_pattern="(S.)")
    fold_of = {face.subject: face.fold for face in manifest.read(str(tmp_path / "out/manifest.csv"))}
    # It is for the test in its own fold, and for the validation in the one before.
    without = sorted(f"fold{fold:02d}" for fold in (fold_of["S1"], (fold_of["S1"] - 2) % 3 + 1))
    assert said.splitlines()[-1] == "note: no training image of rare in " + ", ".join(without)
