"""AffectNet's two releases: lists beside whole images, and a NumPy file beside each face."""
import cv2
import numpy as np
import pytest

from common.errors import UserError
from data_prep.datasets import affectnet
from data_prep.manifest import Face

HEADER = ("subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal")
# Points (n, 100 + n), with n from 0, in the image.
POINTS = ";".join(f"{n};{100 + n}" for n in range(68))
EYES_NOSE_MOUTH = (38.5, 138.5, 44.5, 144.5, 30.0, 130.0, 48.0, 148.0, 54.0, 154.0)


def read(path):
    return affectnet.read(str(path), "farzaneh2021", "", 1)


def row(name="1/a.jpg", box=(2, 1, 5, 4), points=POINTS, expression=0):
    return "{},{},{},{},-0.1,0.5".format(name, ",".join(map(str, box)), points, expression)


@pytest.fixture
def lists(text, picture):
    def write(training, validation=(), folder="Manually_Annotated_file_lists/", header=True,
              images=("1/a.jpg", "1/b.jpg", "22/c.jpg")):
        for name, rows in (("training", training), ("validation", validation)):
            text(f"{folder}{name}.csv", "".join(line + "\n" for line in [HEADER] * header + list(rows)))
        for name in images:
            picture("Manually_Annotated_Images/" + name, shape=(8, 9))
    return write


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("folder", ["Manually_Annotated_file_lists/", ""])
def test_lists(tmp_path, lists, header, folder):
    lists([row("1/b.jpg", expression=6), row(), row("1/none.jpg", (0, 0, 0, 0), "", 8),
           row("1/none.jpg", ("NULL",) * 4, "NULL", 10), row("1/none.jpg", expression=7)],
          [row("22/c.jpg", (-3, -1, 9, 5), expression=3)], folder, header)
    dataset = read(tmp_path)
    assert dataset.faces == [
        Face("Manually_Annotated_Images/1/b.jpg", None, 0, "angry", split="train", landmarks=tuple(
            value - shift for value, shift in zip(EYES_NOSE_MOUTH, (2, 1) * 5))),
        Face("Manually_Annotated_Images/1/a.jpg", None, 6, "neutral", split="train", landmarks=tuple(
            value - shift for value, shift in zip(EYES_NOSE_MOUTH, (2, 1) * 5))),
        Face("Manually_Annotated_Images/22/c.jpg", None, 5, "surprise", split="test", landmarks=EYES_NOSE_MOUTH)]
    assert [dataset.load(face).shape for face in dataset.faces] == [(4, 5, 3), (4, 5, 3), (4, 6, 3)]


def test_load_gives_what_the_box_holds(tmp_path, lists):
    lists([row(box=(2, 1, 5, 4))])
    image = np.arange(8 * 9, dtype=np.uint8).reshape(8, 9)
    assert cv2.imwrite(str(tmp_path / "Manually_Annotated_Images/1/a.png"), image)
    (tmp_path / "Manually_Annotated_Images/1/a.png").rename(tmp_path / "Manually_Annotated_Images/1/a.jpg")
    dataset = read(tmp_path)
    np.testing.assert_array_equal(dataset.load(dataset.faces[0])[..., 0], image[1:5, 2:7])


@pytest.mark.parametrize("expression, name", list(enumerate(
    ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"))))
def test_numbers_of_the_expressions(tmp_path, lists, expression, name):
    lists([row(expression=expression)])
    face, = read(tmp_path).faces
    assert face.class_name == name == affectnet.PROTOCOLS["farzaneh2021"].classes[face.label]


@pytest.mark.parametrize("line, said", [
    (row().rsplit(",", 1)[0], "8 fields, expected 9 (subDirectory_filePath,"),
    (row(expression=11), "unknown expression '11', expected 0 to 10"), (row(expression=""), "unknown expression ''"),
    (row(box=("", 1, 2, 3)), "expected a box of four integers and 68 landmarks"),
    (row(points=POINTS + ";1"), "expected a box"), (row(points="x"), "expected a box"),
    (row(box=(2, 1, 0, 4)), "empty face box 2,1,0,4"), (row(box=(-9, 1, 9, 4)), "empty face box -9,1,9,4"),
    (row("1/x.jpg"), "{}/Manually_Annotated_Images/1/x.jpg: no such file"),
    (row("1/empty.jpg"), "{}/Manually_Annotated_Images/1/empty.jpg: empty file")])
def test_wrong_row_is_named_with_its_line(tmp_path, lists, text, line, said):
    lists([row(), line])
    text("Manually_Annotated_Images/1/empty.jpg", "")
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/Manually_Annotated_file_lists/training.csv:3: "
                                       f"{said.format(tmp_path)}")


def test_box_outside_of_the_image(tmp_path, lists):
    lists([row(box=(20, 1, 5, 4))])
    dataset = read(tmp_path)
    with pytest.raises(UserError, match="1/a.jpg: the face box .* of the list is outside of the image"):
        dataset.load(dataset.faces[0])


def test_missing_and_unreadable_lists(tmp_path, lists):
    with pytest.raises(UserError, match="no folder Manually_Annotated_Images or Manually_Annotated/"):
        read(tmp_path)
    lists([row(expression=9)])
    with pytest.raises(UserError, match="no images, expected rows in training.csv"):
        read(tmp_path)
    (tmp_path / "Manually_Annotated_file_lists/training.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="training.csv: not a readable CSV: expected text in UTF-8"):
        read(tmp_path)
    (tmp_path / "Manually_Annotated_file_lists/training.csv").unlink()
    with pytest.raises(UserError, match="training.csv: no such file"):
        read(tmp_path)


@pytest.fixture
def annotated(tmp_path, picture):
    def write(part, number, value):
        picture(f"{part}/images/{number}.jpg", number)
        path = tmp_path / part / "annotations" / f"{number}_exp.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(str(path), value, allow_pickle=True)
        np.save(str(path).replace("_exp", "_val"), np.array("0.5"))
    return write


@pytest.fixture
def parts(annotated):
    annotated("train_set", 10, np.array("1"))
    annotated("train_set", 9, np.array(4))
    annotated("train_set", 11, np.array(["7"]))
    annotated("val_set", 2, np.array(["0"]))


def test_one_file_for_each_label(tmp_path, parts, any_listing):
    dataset = read(tmp_path)
    assert dataset.faces == [
        Face("train_set/images/9.jpg", None, 2, "fear", split="train"),
        Face("train_set/images/10.jpg", None, 3, "happy", split="train"),
        Face("val_set/images/2.jpg", None, 6, "neutral", split="test")]
    assert abs(int(dataset.load(dataset.faces[1])[0, 0, 0]) - 10) < 3


@pytest.mark.parametrize("value, said", [
    (np.array("happy"), "unknown expression 'happy', expected 0 to 10"), (np.array([1, 2]), "not a readable label"),
    (np.array([{"a": 1}], dtype=object), "not a readable label, expected an array of one number")])
def test_wrong_label_file_is_named(tmp_path, parts, annotated, value, said):
    annotated("train_set", 12, value)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/train_set/annotations/12_exp.npy: {said}")


def test_incomplete_parts(tmp_path, parts):
    (tmp_path / "val_set/annotations/2_exp.npy").write_bytes(b"")
    with pytest.raises(UserError, match="2_exp.npy: not a readable label"):
        read(tmp_path)
    (tmp_path / "train_set/images/9.jpg").unlink()
    with pytest.raises(UserError, match="annotations/9_exp.npy: .*train_set/images/9.jpg: no such file"):
        read(tmp_path)
