"""RAF-DB: the list and the aligned faces."""
import pytest

from common.errors import UserError
from data_prep.datasets import raf_db
from data_prep.manifest import Face


def read(path):
    return raf_db.read(str(path), "wu2023", "", 1)


@pytest.fixture
def aligned(picture):
    def write(*names):
        for value, name in enumerate(names):
            picture("basic/Image/aligned/" + name, value, (100, 100))
    return write


def test_list_and_aligned_faces(tmp_path, text, aligned):
    aligned("train_00001_aligned.jpg", "train_00002_aligned.jpg", "test_0001_aligned.jpg", "test_0002_aligned.jpg")
    text("basic/EmoLabel/list_patition_label.txt",
         "train_00001.jpg 5\ntrain_00002.jpg 1\r\ntest_0001.jpg 7\n\ntest_0002_aligned.jpg 4\n")
    dataset = read(tmp_path)
    assert dataset.faces == [
        Face("basic/Image/aligned/train_00001_aligned.jpg", None, 4, "sad", split="train"),
        Face("basic/Image/aligned/train_00002_aligned.jpg", None, 5, "surprise", split="train"),
        Face("basic/Image/aligned/test_0001_aligned.jpg", None, 6, "neutral", split="test"),
        Face("basic/Image/aligned/test_0002_aligned.jpg", None, 3, "happy", split="test")]
    assert dataset.load(dataset.faces[0]).shape == (100, 100, 3)
    assert read(tmp_path / "basic").faces[0].path == "Image/aligned/train_00001_aligned.jpg"


@pytest.mark.parametrize("code, name", list(enumerate(
    ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), start=1)))
def test_numbers_of_the_expressions(tmp_path, text, aligned, code, name):
    aligned("train_00001_aligned.jpg")
    text("basic/EmoLabel/list_patition_label.txt", f"train_00001.jpg {code}\n")
    face, = read(tmp_path).faces
    assert face.class_name == name and face.label == raf_db.PROTOCOLS["wu2023"].classes.index(name)


@pytest.mark.parametrize("line, said", [
    ("train_00002.jpg", "1 fields, expected 2 (name and label)"),
    ("train_00002.jpg 8", "unknown label '8', expected 1 to 7"),
    ("train_00002.jpg 0", "unknown label '0'"), ("train_00002.jpg happy", "unknown label 'happy'"),
    ("val_00002.jpg 1", "name 'val_00002.jpg', expected train_... or test_..."),
    ("train_00002.jpg 1", "{}/basic/Image/aligned/train_00002_aligned.jpg: no such file")])
def test_wrong_line_is_named(tmp_path, text, aligned, line, said):
    aligned("train_00001_aligned.jpg")
    path = "basic/EmoLabel/list_patition_label.txt"
    text(path, f"train_00001.jpg 5\n{line}\n")
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/{path}:2: {said.format(tmp_path)}")


def test_list_that_is_none(tmp_path, text):
    with pytest.raises(UserError, match="list_patition_label.txt: no such file"):
        read(tmp_path)
    text("basic/EmoLabel/list_patition_label.txt", "\n")
    with pytest.raises(UserError, match="no images, expected lines in EmoLabel/list_patition_label.txt"):
        read(tmp_path)
    text("basic/EmoLabel/list_patition_label.txt", "tr\xe4in 1\n", "latin-1")
    with pytest.raises(UserError, match="not a readable list"):
        read(tmp_path)
