"""Predictions for a video: rows, tracks, the marked video and the picture; and what is said of what is wrong."""
import csv
import json
import os

import cv2
import numpy as np
import pytest

from data_prep import alignment
from data_prep.datasets import synthetic
from tests.tools import small_faces
from tests.tools.small_faces import CLASSES
from tools.cli import main
from tools.evaluation import draw_predictions, predict, predict_video
from tools.evaluation.predict_video import Sighting
from tools.evaluation.predicted_faces import FacePrediction
from tools.evaluation.video import Video

FRAMES, RATE, SIDE = 12, 10.0, 220
# Pixels that the face moves to the right from frame to frame.
STEP = 6


def written(path, images):
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), RATE, images[0].shape[1::-1])
    for image in images:
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="module")
def faces_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return small_faces.trained(str(folder), small_faces.source(str(folder / "faces"))).folder


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A face that moves to the right; in frames 4 to 7 a second one stands below it."""
    first, second = (cv2.resize(synthetic.draw_face(subject, 3, 4)[0], (side, side))
                     for subject, side in ((701, SIDE), (730, 160)))
    images = [np.full((400, 480, 3), 140, np.uint8) for _ in range(FRAMES)]
    for number, image in enumerate(images):
        image[10:10 + SIDE, 20 + STEP * number:20 + STEP * number + SIDE] = first
        if 4 <= number < 8:
            image[235:395, 300:460] = second
    return written(str(tmp_path_factory.mktemp("film") / "talk.avi"), images)


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_row_for_each_face_and_frame(faces_run, film, tmp_path, capsys):
    out = str(tmp_path / "talk.csv")
    assert main.main(["predict", faces_run, film, "--every", "2", "--csv", out, "--top", "1"]) == 0
    found = rows(out)
    assert [(row["frame"], row["time"], row["track"]) for row in found] == [
        ("0", "0.000", "1"), ("2", "0.200", "1"), ("4", "0.400", "1"), ("4", "0.400", "2"), ("6", "0.600", "1"),
        ("6", "0.600", "2"), ("8", "0.800", "1"), ("10", "1.000", "1")]
    predictor = predict.Predictor(predict.groups.open_(faces_run))
    for row in found:
        assert row["video"] == film and row["run (caffe-fer:generated)"] == faces_run
        # The same as of the frame as a photograph.
        image = next(one.image for one in Video(film).frames() if one.number == int(row["frame"]))
        [seen] = predictor.each([("frame", lambda image=image: image)])
        face = seen.faces[int(row["track"]) - 1]
        assert [float(row[name]) for name in ("x", "y", "width", "height")] == list(face.box)
        assert (float(row["size"]), float(row["score"])) == (min(face.box[2:]), face.score)
        assert [float(row["p_" + name]) for name in CLASSES] == pytest.approx(face.probabilities, abs=2e-6)
        assert row["label"] == CLASSES[face.label] and float(row["probability"]) == pytest.approx(
            max(face.probabilities), abs=2e-6)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{film} track 1, 0.00 to 1.00 s, 6 frames",
                                                       f"{film} track 2, 0.40 to 0.60 s, 2 frames"]
    best = max(CLASSES, key=lambda name: sum(float(row["p_" + name]) for row in found if row["track"] == "1"))
    mean = np.mean([float(row["p_" + best]) for row in found if row["track"] == "1"])
    assert lines[0].endswith(f": {best} {100 * mean:.1f} %")


def test_json_has_the_same(faces_run, film, capsys):
    assert main.main(["predict", faces_run, film, "--every", "5", "--json", "--min-size", "90"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"run", "nets", "iterations", "classes", "video", "every", "faces"}
    # The second face is smaller.
    assert [(face["frame"], face["time"], face["track"]) for face in found["faces"]] == [
        (0, 0, 1), (5, .5, 1), (10, 1, 1)]
    assert all(set(face["landmarks"]) == set(alignment.POINTS) and face["size"] >= 90 for face in found["faces"])


def test_the_marked_video(faces_run, film, tmp_path):
    """All frames, in their size; the box moves with the face, also between the frames with predictions."""
    out, table = str(tmp_path / "marked.mp4"), str(tmp_path / "talk.csv")
    asked = ["predict", faces_run, film, "--every", "5", "--csv", table, "--draw", out]
    assert [main.main(asked) for _ in range(2)] == [0, 0]  # a video of ours is replaced
    marked = Video(out)
    assert (marked.rate, marked.count) == (RATE, FRAMES)
    boxes = {int(row["frame"]): [float(row[name]) for name in ("x", "y", "width", "height")] for row in rows(table)
             if row["track"] == "1"}
    colour = np.array(draw_predictions.COLOURS[0][::-1], int)
    for frame in marked.frames():
        assert frame.image.shape == (400, 480, 3)
        before, after = frame.number // 5 * 5, min(frame.number // 5 * 5 + 5, 10)
        share = frame.number % 5 / 5
        x, y, _, height = ((1 - share) * one + share * other for one, other in zip(boxes[before], boxes[after]))
        left = frame.image[int(y + height / 2), int(x) - 3:int(x) + 5].astype(int)
        assert np.abs(left - colour).max(axis=1).min() < 60, frame.number
    assert sorted(os.listdir(str(tmp_path))) == ["marked.mp4", "talk.csv"]


def test_the_picture(faces_run, film, tmp_path):
    out = str(tmp_path / "talk.png")
    assert [main.main(["predict", faces_run, film, "--every", "4", "--plot", out]) for _ in range(2)] == [0, 0]
    picture = cv2.imread(out)
    # Two panels, one below the other.
    assert picture.shape[0] == pytest.approx(2 * predict_video.PANEL[1] * predict_video.DPI, abs=2)


def sighting(frame, track, *probabilities):
    return Sighting(frame, frame / 10, track, FacePrediction((0.0,) * 4, None, probabilities))


def test_panels(tmp_path, monkeypatch):
    """A line is interrupted where the face was unseen; with top, the classes of the largest means are shown; all panels
    show the same seconds."""
    figures, side_by_side = [], predict_video.figures.side_by_side
    monkeypatch.setattr(predict_video.figures, "side_by_side",
                        lambda *arguments: figures.append(side_by_side(*arguments)) or figures[0])
    seen = [sighting(0, 1, .2, .5, .3), sighting(2, 1, .2, .7, .1), sighting(2, 2, 1., 0., 0.),
            sighting(6, 1, .5, .3, .2)]
    assert predict_video.plot(str(tmp_path / "a.png"), 2, seen, ("a", "b", "c"), 2) is None
    first, second = figures[0].axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["track 1", "track 2"]
    assert [line.get_label() for line in first.lines] == ["a", "b"]
    np.testing.assert_array_equal(first.lines[0].get_xdata(), [0, .2, .2, .6])
    np.testing.assert_allclose(first.lines[1].get_ydata(), [50, 70, np.nan, 30])
    assert first.get_xlim() == second.get_xlim() == pytest.approx((-.1, .7))


def test_of_many_tracks_the_longest_are_shown(tmp_path):
    seen = [sighting(frame, track, .4, .6) for frame in range(3) for track in range(1, 15)
            if track not in (3, 5) or frame == 0]
    path = str(tmp_path / "a.png")
    assert predict_video.plot(path, 1, seen, CLASSES) == f"{path}: shows the 12 longest of 14 tracks"


def test_wrong_usage(faces_run, film, tmp_path, capsys, monkeypatch):
    """One line, and nothing is written or changed."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.csv", "mine.mp4", "mine.png"):
        (tmp_path / name).write_text("years of work")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "notes.txt").write_text("no image")
    here = sorted(os.listdir("."))
    for words, said in (
            ([film, "a.png"], "talk.avi: is a video; give it without other images"),
            (["text.mp4"], "text.mp4: not a readable video"), (["none.mp4"], "none.mp4: no such file"),
            (["notes.txt"], "notes.txt: neither an image nor a video (names of videos end in .mp4,"),
            ([film, "--csv", "mine.csv"], "mine.csv: exists and was not made by caffe-fer"),
            ([film, "--draw", "mine.mp4"], "mine.mp4: exists and was not made by caffe-fer"),
            ([film, "--plot", "mine.png"], "mine.png: exists and was not made by caffe-fer"),
            ([film, "--draw", "marked"], "marked: expected the name of a video to write, which ends in .mp4"),
            ([film, "--plot", "a.jpg"], "a.jpg: expected the name of a picture to write, which ends in .png"),
            ([film, "--plot", "a.png", "--csv", "a.png"], "a.png: is named twice on the command line"),
            ([film, "--draw", film], "talk.avi: is named twice on the command line"),
            ([film, "--csv", "a", "--draw", "a/b.mp4"], "a/b.mp4: cannot be a file beside a, one of which lies in"),
            ([film, "--min-score", "1", "--min-size", "399", "--csv", "a.csv", "--draw", "a.mp4", "--plot", "a.png"],
             "talk.avi: no face found with --min-score 1.0 and --min-size 399")):
        assert main.main(["predict", faces_run, *words]) == 1
        caught = capsys.readouterr()
        assert caught.out == "" and len(caught.err.splitlines()) == 1 and said in caught.err
    assert sorted(os.listdir(".")) == here and (tmp_path / "mine.mp4").read_text() == "years of work"
    for words in (["a.png", "--every", "2"], ["a.png", "--plot", "b.png"], [film, "--every", "0"]):
        with pytest.raises(SystemExit) as end:
            main.main(["predict", faces_run, *words])
        assert end.value.code == 2


def test_a_video_that_is_cut_leaves_nothing(faces_run, film, tmp_path, capsys):
    with open(film, "rb") as stream:
        content = stream.read()
    (tmp_path / "cut.avi").write_bytes(content[:len(content) // 3])
    out = [str(tmp_path / ("cut." + end)) for end in ("csv", "mp4", "png")]
    assert main.main(["predict", faces_run, str(tmp_path / "cut.avi"), "--every", "2", "--csv", out[0],
                      "--draw", out[1], "--plot", out[2]]) == 1
    caught = capsys.readouterr()
    assert caught.out == "" and len(caught.err.splitlines()) == 1 and "the file is cut or damaged" in caught.err
    assert os.listdir(str(tmp_path)) == ["cut.avi"]


def test_a_face_that_cannot_be_registered_is_counted(film):
    class Odd:
        def each(self, sources):
            for name, _ in sources:
                yield predict.Seen(name, problems=[f"{name}: odd"])
    problems = []
    assert list(predict_video.sightings(Odd(), Video(film), 6, problems)) == []
    assert problems == [f"{film}: frame 0: odd", f"{film}: frame 6: odd"]


@pytest.mark.parametrize("box, left", [((300.0, 10.0, 150.0, 150.0), False), ((10.0, 10.0, 150.0, 150.0), True)])
def test_the_chart_stands_beside_its_face(box, left):
    """On the side with room, and inside the frame."""
    face = FacePrediction(box, None, (.9, .1))
    marked = draw_predictions.draw_frame(np.zeros((240, 480, 3), np.uint8), [(1, face)], CLASSES)
    assert marked.shape == (240, 480, 3)
    columns = np.flatnonzero((marked.min(axis=2) > 120).sum(axis=0) > 20)
    assert columns.size > 40
    assert columns.min() > 160 if left else columns.max() < 300
