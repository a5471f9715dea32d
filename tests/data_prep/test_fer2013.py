"""FER2013 in the layouts in circulation, and what is refused."""
import gzip
import shutil

import cv2
import numpy as np
import pytest

from common.errors import UserError
from data_prep.datasets import fer2013
from tests import small_data


def read(path, protocol="plain"):
    return fer2013.read(str(path), protocol, "", 1)


def test_csv(tmp_path):
    table = list(small_data.rows((3, 2, 1)))
    dataset = read(small_data.write_csv(tmp_path / "fer2013.csv", table))
    assert [face.split for face in dataset.faces] == ["train"] * 3 + ["val"] * 2 + ["test"]
    assert [face.label for face in dataset.faces] == [int(row[0]) for row in table]
    assert dataset.faces[4].source == "fer2013.csv:6"
    assert dataset.faces[1].class_name == "disgust"
    for face, row in zip(dataset.faces, table):
        image = dataset.load(face)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image.ravel(), list(map(int, row[1].split())))


def test_public_test_as_the_test_split(tmp_path):
    table = list(small_data.rows((3, 2, 2)))
    table = [table[5], *table[:5], table[6]]  # what is left out may stand anywhere
    dataset = read(small_data.write_csv(tmp_path / "fer2013.csv", table), "public")
    assert [(face.split, face.row) for face in dataset.faces] == [
        ("train", 3), ("train", 4), ("train", 5), ("test", 6), ("test", 7)]
    for face in dataset.faces:
        np.testing.assert_array_equal(dataset.load(face).ravel(), list(map(int, table[face.row - 2][1].split())))
    alone = small_data.write_csv(tmp_path / "private.csv", small_data.rows((0, 0, 2)))
    with pytest.raises(UserError, match="private.csv: no rows of Training and PublicTest"):
        read(alone, "public")


def test_compressed_csv_and_byte_order_mark(tmp_path):
    plain = tmp_path / "fer2013.csv"
    small_data.write_csv(plain, small_data.rows((2, 0, 0)))
    with gzip.open(str(plain) + ".gz", "wb") as stream:
        stream.write(b"\xef\xbb\xbf" + plain.read_bytes())
    assert len(read(str(plain) + ".gz").faces) == 2


@pytest.mark.parametrize("header, order, separator", [
    ("emotion, Usage, pixels", (0, 2, 1), ","), ("emotion, Usage, pixels", (0, 2, 1), ", "),
    ("Usage,pixels,emotion", (2, 1, 0), ","), (" EMOTION ,pixels,usage", (0, 1, 2), " , ")])
def test_columns_are_known_by_their_names(tmp_path, header, order, separator):
    """The first is the header of Kaggle's later file, icml_face_data.csv."""
    table = list(small_data.rows((2, 1, 1)))
    small_data.write_csv(tmp_path / "fer2013.csv", table)
    (tmp_path / "icml_face_data.csv").write_text(
        "\n".join([header, *(separator.join(row[column] for column in order) for row in table)]) + "\n")
    usual, other = read(tmp_path / "fer2013.csv"), read(tmp_path / "icml_face_data.csv")
    assert [face._replace(path="") for face in other.faces] == [face._replace(path="") for face in usual.faces]
    for face, same in zip(usual.faces, other.faces):
        np.testing.assert_array_equal(usual.load(face), other.load(same))


def replaced(row, column, value):
    return row[:column] + [value] + row[column + 1:]


@pytest.mark.parametrize("change, said", [
    (lambda row: replaced(row, 0, "7"), ":3: unknown label '7', expected 0 to 6"),
    (lambda row: replaced(row, 0, "happy"), ":3: unknown label 'happy'"),
    (lambda row: replaced(row, 2, "Test"), ":3: unknown Usage 'Test', expected Training, PublicTest, PrivateTest"),
    (lambda row: replaced(row, 1, row[1].rsplit(" ", 1)[0]), ":3: 2303 pixels, expected 2304"),
    (lambda row: replaced(row, 1, row[1] + " 0"), ":3: 2305 pixels, expected 2304"),
    (lambda row: replaced(row, 1, ""), ":3: 0 pixels, expected 2304"),
    (lambda row: replaced(row, 1, row[1] + " x"), ":3: the pixels are not integers"),
    (lambda row: replaced(row, 1, "256 " + row[1].split(" ", 1)[1]), ":3: pixel 256, expected 0 to 255"),
    (lambda row: replaced(row, 1, "-1 " + row[1].split(" ", 1)[1]), ":3: pixel -1, expected 0 to 255"),
    (lambda row: row[:2], ":3: 2 fields, expected 3")])
def test_wrong_row_is_named_with_its_line(tmp_path, change, said):
    table = list(small_data.rows((3, 0, 0)))
    table[1] = change(table[1])
    path = small_data.write_csv(tmp_path / "fer2013.csv", table)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(path + said)


@pytest.mark.parametrize("content, said", [
    (b"", ":1: the columns are ''"), (b"emotion,pixels\n", ":1: the columns are 'emotion,pixels'"),
    (b"emotion;pixels;Usage\n", ":1: the columns are separated by ';', expected ','"),
    (b"emotion\tUsage\tpixels\n", ":1: the columns are separated by a tab, expected ','"),
    (b"emotion,pixels,Usage,emotion\n", ":1: the columns are 'emotion,pixels,Usage,emotion', expected emotion,pixels,"),
    (b"0,1 2 3,Training\n", ":1: the columns are '0,1 2 3,Training', expected emotion,pixels,Usage"),
    (b"emotion,pixels,Usage\n", ": no rows"), (b"\xff\xfe\x00", ": not a readable CSV")])
def test_file_that_is_no_fer2013(tmp_path, content, said):
    path = tmp_path / "fer2013.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(str(path) + said)


def image_file(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((48, 48), value, np.uint8))


def test_folder_with_parts(tmp_path):
    image_file(tmp_path / "train" / "happy" / "b.jpg", 10)
    image_file(tmp_path / "train" / "angry" / "a.png", 20)
    image_file(tmp_path / "val" / "sad" / "c.jpg", 30)
    image_file(tmp_path / "test" / "surprise" / "d.jpg", 40)
    (tmp_path / "train" / "happy" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "README.txt").write_text("")
    dataset = read(tmp_path)
    assert [(face.path, face.label, face.split) for face in dataset.faces] == [
        ("test/surprise/d.jpg", 5, "test"), ("train/angry/a.png", 0, "train"),
        ("train/happy/b.jpg", 3, "train"), ("val/sad/c.jpg", 4, "val")]
    assert abs(int(dataset.load(dataset.faces[1])[0, 0, 0]) - 20) < 3


def test_folder_that_merges_both_test_parts(tmp_path):
    for name, part in (("Training_1", "train"), ("PublicTest_2", "test"), ("PrivateTest_3", "test")):
        image_file(tmp_path / part / "neutral" / (name + ".jpg"), 9)
    assert {face.path.split("/")[-1]: face.split for face in read(tmp_path).faces} == {
        "Training_1.jpg": "train", "PublicTest_2.jpg": "val", "PrivateTest_3.jpg": "test"}


def test_public_test_of_folders(tmp_path):
    for part, name in (("train", "a"), ("val", "b"), ("test", "PublicTest_1"), ("test", "PrivateTest_1"),
                       ("test", "c")):
        image_file(tmp_path / part / "happy" / (name + ".png"), 7)
    splits = {face.path: face.split for face in read(tmp_path, "public").faces}
    assert splits == {"train/happy/a.png": "train", "val/happy/b.png": "test", "test/happy/PublicTest_1.png": "test"}


def test_folders_with_unknown_names(tmp_path):
    image_file(tmp_path / "train" / "bored" / "a.jpg", 1)
    with pytest.raises(UserError, match="train/bored: unknown label, expected one of angry"):
        read(tmp_path)
    shutil.move(str(tmp_path / "train"), str(tmp_path / "learn"))
    with pytest.raises(UserError, match="learn: unknown split, expected one of train"):
        read(tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(UserError, match="no images"):
        read(tmp_path)


@pytest.mark.parametrize("content, said", [(b"", "empty file"), (b"no image", "not a readable image")])
def test_broken_image_is_named(tmp_path, content, said):
    path = tmp_path / "train" / "sad" / "a.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    dataset = read(tmp_path)
    with pytest.raises(UserError) as error:
        dataset.load(dataset.faces[0])
    assert str(error.value) == f"{path}: {said}"


def test_broken_gzip_is_named(tmp_path):
    whole = gzip.compress(("emotion,pixels,Usage\n" + 50 * "0,{},Training\n".format(" ".join(["7"] * 2304))).encode())
    path = tmp_path / "FER.CSV.GZ"
    path.write_bytes(whole)
    assert len(fer2013.read(str(path), "plain", "", 1).faces) == 50
    for content in (whole[:-20], whole[:60] + b"\xff\xff\xff" + whole[63:], whole[:-6] + bytes(6), b"emotion,pixels"):
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            fer2013.read(str(path), "plain", "", 1)
        assert str(error.value).startswith(f"{path}: not a readable CSV: ")
