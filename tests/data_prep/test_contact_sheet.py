"""The page of a prepared folder: which faces it shows, that they are those of their names, and that it stands alone."""
import base64
import html.parser
import re

import cv2
import numpy as np
import pytest

from data_prep import contact_sheet, prepare


class Page(html.parser.HTMLParser):
    """The pictures of each heading, (alt, uint8 pixels), and all text."""

    def __init__(self, path):
        super().__init__()
        self.rows, self.text, self.tags, self.source = [], "", set(), path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        if tag == "h2":
            self.rows.append([])
        elif tag == "img":
            kind, _, data = values["src"].partition(",")
            assert kind == "data:image/jpeg;base64"
            pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
            self.rows[-1].append((values["alt"], pixels))
            assert values.get("title", values["alt"]) == values["alt"]

    def handle_data(self, data):
        self.text += data


def grey(root, path, value, side=48):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), np.full((side, side), value, np.uint8))


def run(source, out, **settings):
    return prepare.prepare(prepare.Settings("folder", str(source), features=(), **settings), str(out), 1)


@pytest.mark.parametrize("count, most, numbers", [
    (0, 30, []), (1, 30, [0]), (3, 30, [0, 1, 2]), (5, 3, [0, 2, 4]), (101, 5, [0, 25, 50, 75, 100]), (9, 1, [0])])
def test_evenly_spread(count, most, numbers):
    assert contact_sheet.spread(count, most) == numbers


def test_thirty_faces_of_each_class_under_their_names(tmp_path):
    source = tmp_path / "source"
    for number in range(59):
        grey(source, f"train/many/{number:02d}.png", 4 * number)
    for number in range(2):
        grey(source, f"train/a<b> \"c\" & d/{number}.png", 100 + number)
    grey(source, "test/many/t.png", 255)
    run(source, tmp_path / "out")
    page = Page(tmp_path / "out/faces.html")
    few, many, of_one = page.rows
    assert [name for name, _ in many] == [f"train/many/{2 * number:02d}.png" for number in range(30)]
    assert [name for name, _ in few] == [f"train/a<b> \"c\" & d/{number}.png" for number in range(2)]
    for name, pixels in many:
        assert pixels.shape == (48, 48) and np.abs(pixels.astype(int) - 4 * int(name[-6:-4])).max() <= 1
    assert [text for text, _ in of_one] == ["48x48"]
    for words in ("Faces of folder-plain", "30 of 59 faces", "2 of 2 faces", "(train)", "taken as faces",
                  "a<b> \"c\" & d", "train split, train/a<b> \"c\" & d/0.png"):
        assert words in page.text
    assert not {"script", "link", "iframe", "object"} & page.tags
    assert not re.search("https?:|@import|url\\(", page.source)


def test_many_classes_share_the_faces(tmp_path):
    for number in range(40):
        for label in range(14):
            grey(tmp_path / "source", f"train/c{label:02d}/{number}.png", 6 * number + label)
    run(tmp_path / "source", tmp_path / "out")
    page = Page(tmp_path / "out/faces.html")
    assert [len(row) for row in page.rows] == [300 // 14] * 14 + [1]


def test_faces_are_shown_by_their_middle_crop_and_one_by_all(tmp_path):
    """A ramp of grey values from left to right: a window's mean tells its place."""
    for name in ("a", "b"):
        path = tmp_path / f"source/train/{name}/1.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.tile(np.arange(256, dtype=np.uint8), (256, 1)))
    run(tmp_path / "source", tmp_path / "out", crops="xie2019b-ckplus")
    row, _, of_one = Page(tmp_path / "out/faces.html").rows
    (_, pixels), = row
    assert pixels.shape == (56, 56) and abs(pixels.mean() - (14 + 113)) < 1 and pixels[0, 0] < pixels[0, -1]
    assert [text for text, _ in of_one] == [
        f"227x227 at {x},{y}{mirrored}" for mirrored in ("", ", mirrored") for y in (0, 14, 29) for x in (0, 14, 29)]
    for text, pixels in of_one:
        left = int(re.search("at ([0-9]+)", text).group(1))
        assert pixels.shape == (96, 96) and abs(pixels.mean() - (left + 113)) < 1
        assert (pixels[0, 0] > pixels[0, -1]) == text.endswith("mirrored")


def test_windows_of_the_test_that_are_others_are_shown_too(tmp_path):
    """Of liu2017: 60x60 in training, of which the steps cut 48x48; floats in the test."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            grey(tmp_path / "source", f"{split}/{name}/1.png", 90, 60)
    noise = np.random.RandomState(0).randint(0, 256, (60, 60)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "source/test/a/1.png"), noise)
    run(tmp_path / "source", tmp_path / "out", crops="liu2017")
    *_, trained, tested = Page(tmp_path / "out/faces.html").rows
    assert [text for text, _ in trained] == ["60x60"] and [text for text, _ in tested] == ["48x48 at 6,6"]
    assert np.ptp(tested[0][1]) > 200 and "test split, test/a/1.png" in Page(tmp_path / "out/faces.html").text


def test_data_without_a_training_part(tmp_path):
    source = tmp_path / "fer"
    grey(source, "test/happy/1.png", 80)
    prepare.prepare(prepare.Settings("fer2013", str(source), features=()), str(tmp_path / "out"), 1)
    page = Page(tmp_path / "out/faces.html")
    assert [len(row) for row in page.rows] == [0, 0, 0, 1, 0, 0, 0, 1] and "(test)" in page.text
