"""One's own images in a CSV."""
import pytest

from common.errors import UserError
from data_prep import manifest, prepare
from data_prep.datasets import folder
from data_prep.manifest import Face

PATHS = ("p/1.jpg", "p/2.jpg", "q/1.jpg", "q/2.png")


def read(path):
    return folder.read(str(path), "plain", "", 1)


@pytest.fixture
def pictures(picture):
    for number, path in enumerate(PATHS):
        picture(path, 50 * number)


def test_path_and_label(tmp_path, pictures, text):
    text("labels.csv", "path,label\nq/1.jpg,yes\np/1.jpg,no\n./q/2.png,yes\n")
    dataset = read(tmp_path)
    assert dataset.name == "folder" and dataset.classes == ("no", "yes")
    assert dataset.faces == [Face("q/1.jpg", None, 1, "yes"), Face("p/1.jpg", None, 0, "no"),
                             Face("q/2.png", None, 1, "yes")]
    assert int(dataset.load(dataset.faces[2])[0, 0, 0]) == 150
    assert read(tmp_path / "labels.csv").faces == dataset.faces


def test_all_columns_in_another_order_from_a_spreadsheet(tmp_path, pictures, text):
    text("my list.csv", "Split, Subject ,label,path\r\nTraining,S 1,no,p/1.jpg\r\n\r\n"
                        "test, S2 ,\"no\",\"p/2.jpg\"\r\nVAL,S3,no,{}\r\n".format(tmp_path / "q/1.jpg"), "utf-8-sig")
    assert read(tmp_path / "my list.csv").faces == [
        Face("p/1.jpg", None, 0, "no", "S 1", split="train"), Face("p/2.jpg", None, 0, "no", "S2", split="test"),
        Face(str(tmp_path / "q/1.jpg"), None, 0, "no", "S3", split="val")]


@pytest.mark.parametrize("content, said", [
    ("", ":1: the columns are '', expected path,label[,subject][,split]"),
    ("file,label\n", ":1: the columns are 'file,label', expected path,label[,subject][,split]"),
    ("path,label,age\n", ":1: the columns are 'path,label,age', expected path,label[,subject][,split]"),
    ("path,label,label\n", ":1: the columns are 'path,label,label', expected path,label[,subject][,split]"),
    ("p/1.jpg,no\n", ":1: the columns are 'p/1.jpg,no', expected path,label[,subject][,split]"),
    ("path;label;subject\np/1.jpg;no;S1\n", ":1: the columns are separated by ';', expected ','"),
    ("path\tlabel\np/1.jpg\tno\n", ":1: the columns are separated by a tab, expected ','"),
    ("path,label\n", ": no rows"),
    ("path,label\np/1.jpg,no\np/2.jpg\n", ":3: 1 fields, expected 2 (path,label)"),
    ("path,label\np/1.jpg,no\np/2.jpg,\n", ":3: the label is missing, which each row needs"),
    ("path,label\n,no\n", ":2: the path is missing"),
    ("path,label,subject\np/1.jpg,no,S1\np/2.jpg,no, \n", ":3: the subject is missing"),
    ("path,label,split\np/1.jpg,no,train\np/2.jpg,no,\n", ":3: the split is missing"),
    ("path,label,split\np/1.jpg,no,train\np/2.jpg,no,dev\n", ":3: unknown split 'dev', expected one of train, "),
    ("path,label\np/1.jpg,no\np/3.jpg,no\n", ":3: no image 'p/3.jpg' in {}"),
    ("path,label\np\\1.jpg,no\n", ":2: no image 'p\\\\1.jpg' in {}; folders are joined by /"),
    ("path,label\np/1.jpg,no\np,no\n", ":3: no image 'p' in {}"),
    ("path,label\np/1.jpg,no\np/2.jpg,no\n./p/1.jpg,yes\n", ":4: ./p/1.jpg is also in line 2"),
    ("path,label\np/1.jpg,Anger\np/2.jpg,Anger\nq/1.jpg,angry\n",
     ":4: class 'angry' is spelled 'Anger' in {}/labels.csv:2; give each class one spelling"),
    ("path,label,split\np/1.jpg,no,test\n", ": no row has the split train"),
    ("path,label,split\np/1.jpg,no,train\np/2.jpg,nope,test\n",
     ":3: label 'nope' is in no row of the training split, which has no")])
def test_refused(tmp_path, pictures, text, content, said):
    text("labels.csv", content)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/labels.csv" + said.format(tmp_path)), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"path,label\np/1.jpg,fr\xf6hlich\n", "path,label\n".encode("utf-16")])
def test_another_encoding_is_named(tmp_path, pictures, content):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match="labels.csv: not a readable CSV: expected text in UTF-8"):
        read(tmp_path)


def test_a_file_that_is_no_table_is_named(tmp_path, pictures):
    with pytest.raises(UserError, match="2.png: not a readable CSV: "):
        read(tmp_path / "q/2.png")


def prepared(source, out):
    return prepare.prepare(prepare.Settings("folder", str(source), features=[]), str(out), 1)


def test_prepared_with_splits_and_what_is_not_listed(tmp_path, pictures, text):
    for path in PATHS:
        (tmp_path / "s" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).rename(tmp_path / "s" / path)
    text("s/labels.csv", "path,label,split\np/1.jpg,no,train\np/2.jpg,yes,train\nq/1.jpg,yes,test\n")
    note = prepared(tmp_path / "s", tmp_path / "out")
    assert note["class_counts"] == {"train": [1, 1], "test": [0, 1]}
    assert note["left_out"] == {"images": {"count": 1, "example": "q/2.png"}}
    # Another label of as many letters.
    text("s/labels.csv", "path,label,split\np/1.jpg,no,train\np/2.jpg,yes,train\nq/1.jpg,no,test \n")
    with pytest.raises(UserError, match="out: holds a preparation with labels_digest "):
        prepared(tmp_path / "s", tmp_path / "out")
    assert "left_out" not in prepared(tmp_path / "s/labels.csv", tmp_path / "other")
    faces = manifest.read(str(tmp_path / "other/manifest.csv"))
    assert [face.path for face in faces] == ["p/1.jpg", "p/2.jpg", "q/1.jpg"]


def test_a_subject_in_two_splits_is_named_with_its_line(tmp_path, pictures, text):
    text("s.csv", "path,label,subject,split\np/1.jpg,no,S1,train\np/2.jpg,yes,S1,train\nq/1.jpg,no,S1,test\n")
    with pytest.raises(UserError, match="s.csv:4: subject S1 is in test here and in train above"):
        prepared(tmp_path / "s.csv", tmp_path / "out")
