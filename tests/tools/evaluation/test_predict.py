"""Predictions on photographs: the same as an evaluation's on the same pixels, and what is said of what is wrong."""
import csv
import json
import os
import shutil
import weakref

import cv2
import numpy as np
import pytest

from common import experiment, files
from common.errors import UserError
from common.expressions import SEVEN
from data_prep import alignment, datasets, lmdb_io, prepare, records
from data_prep.datasets import Protocol, synthetic
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face
from tests.tools import hand_made, small_faces, small_pairs
from tests.tools.small_faces import CLASSES, COUNTS
from tools.cli import main
from tools.evaluation import draw_predictions, evaluate, forward, predict, predicted_faces, predictions
from tools.evaluation.predicted_faces import FacePrediction
from tools.training import pretrained, run
from tools.training.caffe_process import Engine


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return small_faces.source(str(tmp_path_factory.mktemp("faces")))


@pytest.fixture(scope="module")
def faces_run(tmp_path_factory, source):
    return small_faces.trained(str(tmp_path_factory.mktemp("run")), source)


@pytest.fixture(scope="module")
def pairs_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    name = next(name for name in experiment.names() if name.startswith("wu2023/") and
                experiment.load(name).head["subtracted"] == "reference" and
                experiment.load(name).data == "synthetic-wu2023" and not experiment.load(name).pacing)
    return run.train(experiment.load(name, ["solver.batch_size=4", "solver.max_iter=1", "solver.snapshot=1",
                                            "solver.test_interval=1"]),
                     small_pairs.prepared(folder), str(folder / "run"), None, Engine(1))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """two.png, of two faces, the one on the right the larger; nobody.png; empty.jpg; text.jpg."""
    folder = tmp_path_factory.mktemp("photographs")
    small, large = (cv2.resize(synthetic.draw_face(subject, 3, 4)[0], (side, side)) for subject, side in (
        (700, 200), (701, 400)))
    scene = np.full((400, 640, 3), 150, np.uint8)
    scene[100:300, 20:220], scene[:, 240:] = small, large
    cv2.imwrite(str(folder / "two.png"), scene)
    cv2.imwrite(str(folder / "nobody.png"), np.random.RandomState(0).randint(0, 255, (240, 320, 3)).astype(np.uint8))
    (folder / "empty.jpg").write_text("")
    (folder / "text.jpg").write_text("no image")
    return folder


def faces_of(predictor, path):
    [seen] = predictor.each([(path, lambda: read_image(path))])
    return seen.faces


def test_the_same_as_the_evaluation_of_the_same_images(faces_run, source):
    evaluate.evaluate(faces_run, "test")
    predictor = predict.Predictor(faces_run, whole=True)
    decided = predictions.read(faces_run.path("decisions-test.csv"))
    assert len(decided) == 2 * COUNTS["test"]
    for decision in decided:
        [prediction] = faces_of(predictor, os.path.join(source, decision.unit))
        assert prediction.box == (0, 0, 256, 256) and prediction.landmarks is None
        assert prediction.label == decision.predicted
        np.testing.assert_allclose(prediction.probabilities, decision.probabilities, atol=2e-6)


@pytest.mark.parametrize("registration, crop_set, margins", [
    ("template", "xie2019a", None), ("box", "wu2023", None), ("template", "liu2017", None),
    ("template", "liu2017", {"left": .2, "right": .35, "top": .3, "bottom": .3})])
def test_shows_the_net_what_prepare_records(registration, crop_set, margins, source, tmp_path, monkeypatch):
    """Of photographs whose landmarks MTCNN finds: the same bytes, crop by crop."""
    def read(folder, name, out, processes):
        return Dataset("tiny", CLASSES, [
            Face(f"{split}/{name}/{name}0.png", None, label, name, split=split)
            for split in COUNTS for label, name in enumerate(CLASSES)],
            lambda face: read_image(os.path.join(folder, face.path)))
    module = type("Tiny", (), {"PROTOCOLS": {"paper": Protocol(CLASSES, {}, registration, crop_set)},
                               "read": staticmethod(read)})
    monkeypatch.setattr(datasets, "module", lambda name: module)
    out = str(tmp_path / "out")
    own = str(tmp_path / "template.json")
    files.write_json(own, {"dataset": "tiny", "protocol": "paper", "faces": 3, "margins": margins})
    note = prepare.prepare(prepare.Settings("tiny", source, features=[], template=margins and own), out, 1)
    trained = run.Run(str(tmp_path / "run"))
    files.write_json(trained.path("run.json"), hand_made.info(
        experiment.load("xie2019a/fer2013-softmax"), data="gone"))
    files.write_json(trained.path(run.DATA), note)
    prepared = predict.preparation(trained)
    images = lmdb_io.Reader(os.path.join(out, "test", "images"))
    rows = {}
    for record in records.read(out, "test"):
        rows.setdefault(record.row, []).append(lmdb_io.decode(images[record.key])[0])
    assert len(rows) == 2
    for name, recorded in zip(CLASSES, (rows[row] for row in sorted(rows))):
        image = read_image(os.path.join(source, "test", name, name + "0.png"))
        shown = predict.face_crops(prepared, image, alignment.Detector(predict.SMALLEST_SHARE).find(image), "x")
        assert len(shown) == len(recorded)
        for ours, theirs in zip(shown, recorded):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_faces_are_cut_as_those_of_registered_training_images(faces_run):
    landmarks = [synthetic.draw_face(501 + number, SEVEN.index(CLASSES[number // 12]), 4)[1]
                 for number in range(2 * COUNTS["train"])]
    expected = np.mean([alignment.triangle(points.ravel()) / 256 for points in landmarks], axis=0)
    files.remove(faces_run.path(predict.FRAMING))
    measured = predict.framing(faces_run, predict.preparation(faces_run))
    assert np.abs(measured - expected).max() < .02 < np.abs(alignment.template() - expected).max()
    assert files.read_json(faces_run.path(predict.FRAMING))["faces"] >= predict.ENOUGH
    np.testing.assert_array_equal(predict.framing(faces_run, predict.preparation(faces_run)), measured)


def test_several_faces_the_largest_first(faces_run, photographs, capsys):
    assert main.main(["predict", faces_run.folder, str(photographs / "two.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(photographs / "two.png") + f" face {number} of 2" for number in (1, 2)]
    found = faces_of(predict.Predictor(faces_run), str(photographs / "two.png"))
    assert found[0].box[0] > 240 > found[1].box[0] and found[0].box[2] > found[1].box[2]
    first, second = found[0].ranked()
    assert lines[0].endswith(f": {CLASSES[first]} {100 * max(found[0].probabilities):.1f} %, {CLASSES[second]} "
                             f"{100 * min(found[0].probabilities):.1f} % (score {found[0].score:.4f}, "
                             f"{found[0].box[2]:.0f} pixels)")


def test_what_shows_no_face_is_named_and_the_others_go_on(faces_run, photographs, capsys):
    names = [str(photographs / name) for name in ("nobody.png", "empty.jpg", "text.jpg", "missing.png", "two.png")]
    assert main.main(["predict", faces_run.folder] + names) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"fer: {name}: {problem}" for name, problem in zip(
        names, ("no face found", "empty file", "not a readable image", "no such file"))]
    assert len(said.out.splitlines()) == 2


def test_json_is_one_document(faces_run, photographs, capsys):
    two, nobody = str(photographs / "two.png"), str(photographs / "nobody.png")
    assert main.main(["predict", faces_run.folder, two, nobody, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"run", "nets", "iterations", "classes", "images"} and found["classes"] == list(CLASSES)
    assert (found["run"], found["nets"], found["iterations"]) == (faces_run.folder, [faces_run.folder], [6])
    assert found["images"][1] == {"image": nobody, "faces": [], "problems": [nobody + ": no face found"]}
    assert found["images"][0]["image"] == two and found["images"][0]["problems"] == []
    for face in found["images"][0]["faces"]:
        assert set(face["box"]) == {"x", "y", "width", "height"}
        assert set(face["landmarks"]) == set(alignment.POINTS)
        for x, y in face["landmarks"].values():
            assert face["box"]["x"] < x < face["box"]["x"] + face["box"]["width"]
            assert face["box"]["y"] < y < face["box"]["y"] + face["box"]["height"]
        assert list(face["probabilities"]) == list(CLASSES)
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert face["probability"] == face["probabilities"][face["label"]] == max(face["probabilities"].values())


def test_the_same_in_batches_as_one_by_one(faces_run, source, photographs, monkeypatch):
    """Also where the faces of an image go into two batches, where images without faces or pixels stand between, and
    where several processes look for the faces."""
    alone = {str(photographs / name): None for name in ("two.png", "nobody.png", "empty.jpg")}
    alone.update({os.path.join(source, "test", name, f"{name}{number}.png"): None
                  for name in CLASSES for number in range(4)})
    predictor = predict.Predictor(faces_run)
    for path in alone:
        [alone[path]] = predictor.each([(path, lambda path=path: read_image(path))])
    order = list(alone)[3:5] + [str(photographs / name) for name in ("nobody.png", "two.png", "empty.jpg")] * 2 + list(
        alone)[5:] + list(alone)[:3]
    sizes, batch = [], forward.batch
    monkeypatch.setattr(forward, "batch", lambda net, images, *rest: sizes.append(len(images)) or batch(
        net, images, *rest))
    for most, held, processes in ((3, predict.HELD, 1), (64, predict.HELD, 1), (64, 1, 1), (64, predict.HELD, 3)):
        sizes.clear()
        predictor._batch = most
        monkeypatch.setattr(predict, "HELD", held)
        together = list(predictor.each(((path, lambda path=path: read_image(path)) for path in order), True, processes))
        assert [seen.name for seen in together] == order
        for path, seen in zip(order, together):
            assert seen.problems == alone[path].problems and len(seen.faces) == len(alone[path].faces)
            assert (seen.image is None) == (path.endswith("empty.jpg"))
            for face, expected in zip(seen.faces, alone[path].faces):
                assert (face.box, face.landmarks, face.score) == (expected.box, expected.landmarks, expected.score)
                np.testing.assert_allclose(face.probabilities, expected.probabilities, atol=1e-6)
        # 8 images of one face, 3 of two, of one crop each. With HELD of a byte, no image waits for the next one.
        assert sum(sizes) == 14 and (max(sizes) <= 3 and len(sizes) < 8 if most == 3 else
                                     sizes == [14] if held > 1 else sizes.count(2) == 3 and max(sizes) == 2)


def test_several_processes_read_the_images(faces_run, source, tmp_path):
    image = read_image(os.path.join(source, "test", "happy", "happy0.png"))

    def reading():
        (tmp_path / str(os.getpid())).touch()
        return image
    predictor = predict.Predictor(faces_run, whole=True)
    assert len(list(predictor.each([("face.png", reading)] * 6, processes=2))) == 6
    readers = os.listdir(str(tmp_path))
    assert len(readers) == 2 and str(os.getpid()) not in readers


def test_each_face_has_the_mean_of_its_own_crops(faces_run, monkeypatch):
    """Three faces of two crops each in a batch: image k has the crops of .1 k and .1 k + .2. Each crop has its own
    reference."""
    predictor = predict.Predictor(faces_run, whole=True)
    predictor._reference = ["first", "second"]
    monkeypatch.setattr(predict, "face_crops", lambda prepared, image, *_: [image[0, 0, 0] / 10,
                                                                          image[0, 0, 0] / 10 + .2])

    def batch(net, crops, blobs, transform, references):
        assert references == ["first", "second"] * 3
        return {"prob": np.array([(share, 1 - share) for share in crops], np.float32)}
    monkeypatch.setattr(forward, "batch", batch)
    seen = list(predictor.each((str(k), lambda k=k: np.full((9, 9, 3), k, np.uint8)) for k in (1, 4, 7)))
    np.testing.assert_allclose([one.faces[0].probabilities for one in seen], [(.2, .8), (.5, .5), (.8, .2)], atol=1e-6)


def test_few_images_wait(faces_run, source, monkeypatch):
    """However many there are: when image k is read, all but a batch of those before it were yielded and are gone."""
    predictor = predict.Predictor(faces_run, whole=True)
    predictor._batch = 4
    image, read, alive = read_image(os.path.join(source, "test", "happy", "happy0.png")), [], []

    def reading():
        read.append(weakref.ref(own := image.copy()))
        alive.append(sum(one() is not None for one in read))
        return own
    seen = predictor.each(((str(number), reading) for number in range(50)), keep=True)
    for number, one in enumerate(seen):
        assert one.name == str(number) and len(read) <= number + 4
        del one
    assert len(read) == 50 and max(alive) <= 6


def test_faces_are_left_out_by_score_and_size(faces_run, photographs, capsys):
    two = str(photographs / "two.png")
    large, small = faces_of(predict.Predictor(faces_run), two)
    assert small.size < 150 < large.size == min(large.box[2:])
    for options, count in (([], 2), (["--min-size", "150"], 1), (["--min-size", str(int(large.size))], 1),
                           (["--min-score", "0.5"], 2), (["--min-size", "399"], 0)):
        assert main.main(["predict", faces_run.folder, two, *options]) == (0 if count else 1)
        caught = capsys.readouterr()
        assert len(caught.out.splitlines()) == count
        assert caught.err == ("" if count else f"fer: {two}: no face found with --min-size 399\n")
    limit = (large.score + small.score) / 2
    assert large.score != small.score
    for least, score in ((limit, max(large.score, small.score)), (max(large.score, small.score),) * 2):
        [face] = faces_of(predict.Predictor(faces_run, min_score=least), two)
        assert face.score == score
    with pytest.raises(SystemExit) as end:
        main.main(["predict", faces_run.folder, two, "--whole", "--min-score", ".5"])
    assert end.value.code == 2 and "--whole detects no faces" in capsys.readouterr().err


def test_the_most_probable_classes_only(faces_run, photographs, tmp_path, capsys):
    two, out = str(photographs / "two.png"), str(tmp_path / "faces.csv")
    asked = ["predict", faces_run.folder, two, "--top", "1", "--csv", out]
    assert main.main(asked) == 0
    for text, face in zip(capsys.readouterr().out.splitlines(), faces_of(predict.Predictor(faces_run), two)):
        assert f": {CLASSES[face.label]} {100 * max(face.probabilities):.1f} % (score" in text
    assert main.main([*asked, "--json"]) == 0
    for face in json.loads(capsys.readouterr().out)["images"][0]["faces"]:
        assert face["probabilities"] == {face["label"]: face["probability"]}
    with open(out, newline="") as stream:
        assert all(float(row["p_happy"]) + float(row["p_surprise"]) == pytest.approx(1, abs=1e-5)
                   for row in csv.DictReader(stream))


def test_a_folder_and_its_table(faces_run, photographs, tmp_path, monkeypatch, capsys):
    """Its images by name; one of our tables is replaced, and no other file."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("in/inner.png")
    for name in ("b.png", "A.PNG", ".hidden.png"):
        shutil.copy(str(photographs / "two.png"), os.path.join("in", name))
    shutil.copy(str(photographs / "nobody.png"), "in/c.png")
    for name in ("notes.txt", "talk.mp4"):
        (tmp_path / "in" / name).write_text("no image")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("no image")
    (tmp_path / "mine.csv").write_text("image,face\n")
    (tmp_path / "torn").mkdir()
    shutil.copy(str(photographs / "two.png"), "torn/a\nb.png")
    for _ in range(2):
        assert main.main(["predict", faces_run.folder, "in", "--csv", "faces.csv"]) == 1
        caught = capsys.readouterr()
        assert caught.err.splitlines() == ["fer: in: 3 images; 4 others are skipped (hidden, or no images)",
                                           "fer: in/c.png: no face found"]
        with open("faces.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [(row["image"], row["face"], row["faces"]) for row in rows] == [
            ("in/A.PNG", "1", "2"), ("in/A.PNG", "2", "2"), ("in/b.png", "1", "2"), ("in/b.png", "2", "2")]
        assert len(caught.out.splitlines()) == 4
    for words, said in ((["none"], "none: holds no image (other files: 1); expected names that end in .jpg,"),
                        (["in", "--csv", "mine.csv"], "mine.csv: exists and was not made by caffe-fer"),
                        (["in", "--csv", "in/b.png"], "in/b.png: is named twice on the command line"),
                        (["in", "--csv", "none"], "none: is a folder, expected a file"),
                        (["in", "--csv", "new", "--draw", "new"], "new: cannot be a file beside new/A.jpg, one of"),
                        (["in", "--csv", "new/A.jpg/x", "--draw", "new"], "new/A.jpg/x: cannot be a file beside"),
                        (["in", "--draw", "mine.csv"], f"mine.csv/A.jpg: {os.getcwd()}/mine.csv is not a folder; give "
                                                       "another name"),
                        (["torn"], "'torn/a\\nb.png': expected a name without a line break")):
        assert main.main(["predict", faces_run.folder, *words]) == 1
        caught = capsys.readouterr()
        assert len(caught.err.splitlines()) == 1 and said in caught.err and caught.out == ""
    assert (tmp_path / "mine.csv").read_text() == "image,face\n"
    assert sorted(os.listdir(".")) == ["faces.csv", "in", "mine.csv", "none", "torn"]


@pytest.mark.parametrize("entries", [[], [{"a": 1}], [{"a": [1, "ü\n"], "b": {}}, {}]])
def test_json_that_is_written_bit_by_bit(entries):
    head = {"run": "r", "classes": ["x", "y"]}
    assert "".join(predicted_faces.document(head, "images", iter(entries))) == json.dumps(
        {**head, "images": entries}, indent=2)


def test_the_weights_are_those_of_the_snapshot(faces_run, source, tmp_path, capsys):
    """Two folds, whose best snapshot is not the last one. There fc2 has a bias alone: 1/4 and 3/4, and 1/2 and 1/2."""
    for name, odds in (("fold01", 3), ("fold02", 1)):
        one = run.Run(shutil.copytree(faces_run.folder, str(tmp_path / name)))
        model = pretrained.read(one.caffemodel())
        weights, bias = next(layer for layer in model.layer if layer.name == "fc2").blobs
        weights.data[:] = [0] * len(weights.data)
        bias.data[:] = [0, np.log(odds)]
        with open(one.weights_of(3), "wb") as stream:
            stream.write(model.SerializeToString())
        hand_made.log(one.folder, [1.0], {3: .9, 6: .8})
    hand_made.group(tmp_path, "folds")
    image = os.path.join(source, "test", "happy", "happy0.png")
    for words in ([str(tmp_path) + "@3"], [str(tmp_path) + "@best"]):
        assert main.main(["predict", *words, image, "--whole", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["run"], found["iterations"]) == (str(tmp_path), [3, 3])
        [face] = found["images"][0]["faces"]
        assert face["probabilities"] == pytest.approx({"happy": 3 / 8, "surprise": 5 / 8}, abs=1e-6)


def test_draws_a_picture_of_each_image_with_faces(faces_run, photographs, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    shutil.copy(str(photographs / "two.png"), str(tmp_path / "other" / "two.png"))
    out = tmp_path / "marked"
    assert main.main(["predict", faces_run.folder, str(photographs / "two.png"), str(tmp_path / "other" / "two.png"),
                     str(photographs / "nobody.png"), "--draw", str(out)]) == 1
    assert sorted(os.listdir(str(out))) == ["two-2.jpg", "two.jpg"]
    marked = read_image(str(out / "two.jpg"))
    scale = 420 / 400
    # The photograph itself, away from the faces, is at the left; the colour of the first face is on its box.
    assert np.abs(marked[:80, :200].astype(int) - 150).max() < 12
    x, y, _, height = (value * scale for value in faces_of(
        predict.Predictor(faces_run), str(photographs / "two.png"))[0].box)
    blue = np.array(draw_predictions.COLOURS[0][::-1])
    assert np.abs(marked[int(y + height / 2), int(x) - 3:int(x) + 4].astype(int) - blue).max(axis=1).min() < 40


def test_never_draws_over_an_image(faces_run, photographs, tmp_path, capsys):
    shutil.copy(str(photographs / "two.png"), str(tmp_path / "two.jpg"))
    assert main.main(["predict", faces_run.folder, str(tmp_path / "two.jpg"), "--draw", str(tmp_path)]) == 1
    assert "is an image to predict on" in capsys.readouterr().err
    assert (tmp_path / "two.jpg").read_bytes() == (photographs / "two.png").read_bytes()
    # Nor over another picture, as of the same name in the images' own folder; a drawn one may be drawn anew.
    shutil.copy(str(photographs / "two.png"), str(tmp_path / "two.png"))
    asked = ["predict", faces_run.folder, str(tmp_path / "two.png"), "--draw"]
    assert main.main([*asked, str(tmp_path)]) == 1
    assert "two.jpg: exists and was not made by caffe-fer" in capsys.readouterr().err
    assert (tmp_path / "two.jpg").read_bytes() == (photographs / "two.png").read_bytes()
    assert [main.main([*asked, str(tmp_path / "marked")]) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("shape", [(30, 30), (48, 200), (2000, 100), (700, 900), (1, 4000)])
def test_pictures_of_any_size(shape):
    """A class name that is longer than its place, and more faces than fit beside the photograph."""
    names = ["überraschung und freude zugleich"] + [f"c{number}" for number in range(11)]
    found = [FacePrediction((2.0, 3.0, 20.0, 20.0), None if number % 2 else (5.0,) * 10, (0.5,) + (0.5 / 11,) * 11)
             for number in range(9)]
    picture = draw_predictions.draw(np.zeros(shape + (3,), np.uint8), found, names)
    assert picture.dtype == np.uint8
    assert picture.shape[0] >= min(shape[0], 1400) and picture.shape[1] > draw_predictions.WIDTH
    for number in range(9):
        colour = np.array(draw_predictions.COLOURS[number][::-1])
        assert (picture[:, -3 * draw_predictions.WIDTH - draw_predictions.MARGIN:] == colour).all(axis=2).any()


def test_a_group_predicts_by_the_mean(faces_run, source, tmp_path, capsys):
    group = tmp_path / "group"
    for name in ("seed01", "seed02"):
        shutil.copytree(faces_run.folder, str(group / name))
    # Another net: its classes are the other way round.
    second = str(group / "seed02" / "snapshots" / "iter_6.caffemodel")
    model = run.pretrained.read(second)
    last = [layer for layer in model.layer if layer.name == "fc2"][0]
    for blob in last.blobs:
        values = np.array(blob.data).reshape(2, -1)[::-1].ravel()
        del blob.data[:]
        blob.data.extend(values.tolist())
    with open(second, "wb") as stream:
        stream.write(model.SerializeToString())
    files.write_json(str(group / "group.json"), {"kind": "seeds", "members": ["seed01", "seed02"]})
    image = os.path.join(source, "test", "happy", "happy0.png")
    [one] = faces_of(predict.Predictor(faces_run, whole=True), image)
    assert abs(one.probabilities[0] - .5) > 1e-4
    assert main.main(["predict", str(group), image, "--whole", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == "fer: probabilities are the mean of 2 nets\n"
    found = json.loads(said.out)
    assert len(found["nets"]) == 2
    assert list(found["images"][0]["faces"][0]["probabilities"].values()) == pytest.approx([.5, .5], abs=1e-6)
    files.write_json(str(group / "seed02" / "data.json"), dict(
        files.read_json(str(group / "seed02" / "data.json")), classes=["a", "b"]))
    assert main.main(["predict", str(group), image]) == 1
    assert "its classes or crops are not those of" in capsys.readouterr().err


def test_predicts_where_the_data_are_gone(faces_run, source, tmp_path, capsys):
    copy = str(tmp_path / "run")
    shutil.copytree(faces_run.folder, copy)
    files.remove(os.path.join(copy, predict.FRAMING))
    files.write_json(os.path.join(copy, "run.json"), dict(faces_run.info, data=str(tmp_path / "gone")))
    image = os.path.join(source, "test", "happy", "happy0.png")
    assert main.main(["predict", copy, image]) == 0
    assert "faces are cropped as in FER2013, because" in capsys.readouterr().err
    os.unlink(os.path.join(copy, "data.json"))
    assert main.main(["predict", copy, image]) == 1
    assert "are gone, and the run has no data.json" in capsys.readouterr().err


def test_an_older_run_asks_its_data(faces_run, tmp_path):
    copy = run.Run(str(tmp_path / "run"))
    shutil.copytree(faces_run.folder, copy.folder)
    os.unlink(copy.path("data.json"))
    assert predict.preparation(copy) == predict.preparation(faces_run)
    files.write_json(copy.path("run.json"), dict(faces_run.info, manifest="other"))
    with pytest.raises(UserError, match="was prepared anew since"):
        predict.preparation(copy)


def test_a_net_of_pairs_wants_a_reference(pairs_run, source, photographs, capsys):
    happy, neutral = (os.path.join(source, "test", "happy", f"happy{number}.png") for number in (0, 1))
    assert main.main(["predict", pairs_run.folder, happy]) == 1
    assert "with the same person's neutral face; give its image with --reference" in capsys.readouterr().err
    assert main.main(["predict", pairs_run.folder, happy, "--reference", str(photographs / "nobody.png")]) == 1
    assert "nobody.png: no face found" in capsys.readouterr().err
    assert main.main(["predict", pairs_run.folder, happy, "--reference", str(photographs / "empty.jpg")]) == 1
    assert "empty.jpg: empty file" in capsys.readouterr().err
    probabilities = []
    for reference in (neutral, happy):
        assert main.main(["predict", pairs_run.folder, happy, "--reference", reference, "--json"]) == 0
        probabilities.append(json.loads(capsys.readouterr().out)["images"][0]["faces"][0]["probabilities"])
    assert set(probabilities[0]) == {"class0", "class1", "class2"}
    # Against itself a face differs in nothing: what is left is the softmax of the biases.
    fc = next(layer for layer in pretrained.read(pairs_run.caffemodel()).layer if layer.name == "fc")
    expected = np.exp(fc.blobs[1].data) / np.exp(fc.blobs[1].data).sum()
    assert list(probabilities[1].values()) == pytest.approx(list(expected), rel=1e-5)
    assert probabilities[0] != pytest.approx(probabilities[1], abs=.02)


def test_a_reference_is_refused_where_it_is_of_no_use(faces_run, photographs, capsys):
    assert main.main(["predict", faces_run.folder, str(photographs / "two.png"), "--reference", "x.png"]) == 1
    assert "leave --reference out" in capsys.readouterr().err
