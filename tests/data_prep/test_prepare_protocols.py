"""What protocols ask of the preparation: folds, pairs, registration, crops, copies, faces that are not found."""
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from common import files, locks
from common.errors import UserError
from data_prep import (
    alignment,
    crops,
    datasets,
    descriptions,
    features,
    lmdb_io,
    manifest,
    prepare,
    prepared_folder,
    records,
)
from data_prep.datasets import Protocol
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face
from data_prep.settings import completed
from tests.data_prep.test_contact_sheet import Page
from tests.data_prep.test_prepare import same

CLASSES = ("angry", "happy")
SUBJECTS = 4
LANDMARKS = (20.0, 25.0, 44.0, 25.0, 32.0, 38.0, 24.0, 48.0, 40.0, 48.0)
PROTOCOLS = {
    "folds": Protocol(CLASSES, {"images": 16, "units": 8, "subjects": 5}, "template", folds=4),
    "pairs": Protocol(CLASSES, {}, "box", "wu2023", folds=4, pairs=True, unit="image"),
    "ten": Protocol(CLASSES, {}, "template", "xie2019a", folds=4),
    "whole": Protocol(CLASSES, {"images": 16, "units": 9}, "template"),
    "cut": Protocol(CLASSES, {}, "template", "liu2017", folds=4),
}


def picture(subject, label, frame):
    image = np.full((64, 64, 3), 40 + 10 * subject, np.uint8)
    cv2.circle(image, (32, 34), 22, (90, 130 + frame * 20, 160), -1)
    cv2.putText(image, f"{subject}{label}", (18, 40), cv2.FONT_HERSHEY_SIMPLEX, .6, (0, 0, 0), 1)
    return image


def read(source, protocol, folder, processes):
    """Sequences of a neutral frame and two peaks; subject 3's last picture is a copy of subject 0's first."""
    faces = []
    for subject in range(SUBJECTS):
        for label, name in enumerate(CLASSES):
            for frame in range(3):
                if frame or PROTOCOLS[protocol].pairs:
                    faces.append(Face(f"{subject}_{name}_{frame}.png", None, label, name,
                                      f"S{subject}", f"S{subject}_{name}", frame,
                                      "peak" if frame else "neutral", landmarks=LANDMARKS))
    return Dataset("tiny", CLASSES, faces, lambda face: read_image(os.path.join(source, face.path)))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    for subject in range(SUBJECTS):
        for label, name in enumerate(CLASSES):
            for frame in range(3):
                cv2.imwrite(str(source / f"{subject}_{name}_{frame}.png"), picture(subject, label, frame))
    cv2.imwrite(str(source / "3_happy_2.png"), picture(0, 0, 1))
    monkeypatch.setattr(datasets, "module", lambda name: SimpleNamespace(PROTOCOLS=PROTOCOLS, read=read))
    return str(source)


def run(source, out, protocol, **settings):
    settings.setdefault("features", ())
    return prepare.prepare(prepare.Settings("tiny", source, protocol, **settings), str(out), 1)


def images(folder, split, name="images"):
    reader = lmdb_io.Reader(os.path.join(str(folder), split, name))
    return [lmdb_io.decode(reader[i]) for i in range(len(reader))]


def test_a_set_without_parts_is_all_for_training(tmp_path, tiny):
    note = run(tiny, tmp_path / "out", "whole", hold_out=0.25)
    assert note["folds"] == [] and note["counts"] == {"train": 12, "val": 4}
    assert "note: 8 units, published 9" in prepared_folder.summary("out", note)
    faces = manifest.read(str(tmp_path / "out" / "manifest.csv"))
    subjects = {split: {face.subject for face in faces if face.split == split} for split in ("train", "val")}
    assert len(subjects["val"]) == 1 and not subjects["val"] & subjects["train"]
    assert len(images(tmp_path / "out", "train")) == 12 and not (tmp_path / "out" / "test").exists()


def test_a_folder_for_each_fold(tmp_path, tiny):
    note = run(tiny, tmp_path / "out", "folds")
    assert note["folds"] == ["fold01", "fold02", "fold03", "fold04"] and note["counts"] == {
        name: 4 for name in note["folds"]}
    said = prepared_folder.summary(str(tmp_path / "out"), note)
    assert "note: 4 subjects, published 5" in said and "images, published" not in said
    tested = []
    for name in note["folds"]:
        folder = str(tmp_path / "out" / name)
        assert prepared_folder.read_note(folder)["counts"] == {"train": 8, "val": 4, "test": 4}
        faces = manifest.read(os.path.join(folder, "manifest.csv"))
        tested += [faces[record.row].source for record in records.read(folder, "test")]
    assert len(set(tested)) == len(tested) == 16
    with pytest.raises(UserError, match="holds several folds; give one of them: .*fold01"):
        prepared_folder.read_note(str(tmp_path / "out"))


def test_folds_without_a_validation_part(tmp_path, tiny):
    note = run(tiny, tmp_path / "out", "folds", folds=[2], validation="none")
    assert prepared_folder.read_note(str(tmp_path / "out" / "fold02"))["counts"] == {"train": 12, "test": 4}
    assert note["asked"]["validation"] == "none"
    assert not (tmp_path / "out" / "fold02" / "val").exists()
    with pytest.raises(UserError, match="holds a preparation with validation none, not fold"):
        run(tiny, tmp_path / "out", "folds", folds=[2])
    with pytest.raises(UserError, match="validation none: protocol whole of tiny has no folds; --hold-out makes"):
        run(tiny, tmp_path / "other", "whole", validation="none")
    with pytest.raises(UserError, match="hold-out: protocol folds has folds; --validation fold makes one of them"):
        run(tiny, tmp_path / "other", "folds", hold_out=0.1)


def test_what_the_protocol_decides_stands_back_behind_what_is_asked_for(tmp_path, tiny, monkeypatch):
    protocol = replace(PROTOCOLS["whole"], features=("gabor",), geometry="literal", hold_out=0.25)
    monkeypatch.setitem(PROTOCOLS, "own", protocol)
    asked = prepare.Settings("tiny", tiny, "own")
    settled = completed(asked)
    assert (settled.features, settled.geometry, settled.hold_out) == (["gabor"], "literal", 0.25)
    other = completed(replace(asked, features=(), geometry="compact", hold_out=0.0))
    assert (other.features, other.geometry, other.hold_out) == ([], "compact", 0.0)


def write_template(path, **margins):
    files.write_json(str(path), {"made_by": files.SIGNATURE, "dataset": "other", "protocol": "paper", "faces": 3,
                                 "margins": margins})
    return str(path)


def test_faces_come_to_the_given_template(tmp_path, tiny):
    """Its eyes are at (.2, .1) and (.8, .1) of the region; its triangle has the proportions of LANDMARKS."""
    height = .6 * (np.mean(LANDMARKS[5::2]) - 25) / 24
    given = write_template(tmp_path / "t.json", left=.2, right=.2, top=.1, bottom=.9 - height)
    for name in os.listdir(tiny):
        image = np.zeros((64, 64, 3), np.uint8)
        for x in (20, 44):
            cv2.circle(image, (x, 25), 2, (255, 255, 255), -1)
        cv2.imwrite(os.path.join(tiny, name), image)
    note = run(tiny, tmp_path / "out", "folds", template=given, folds=[1])
    assert "aligned to the template of other-paper, 3 faces" in prepared_folder.summary(str(tmp_path / "out"), note)
    inner = prepared_folder.read_note(str(tmp_path / "out" / "fold01"))
    assert note["template"] == inner["template"] == prepared_folder.template(inner)
    assert note["template"]["margins"]["top"] == .1
    for split in manifest.SPLITS:
        for image, _ in images(tmp_path / "out" / "fold01", split):
            side = image.shape[1]
            yy, xx = np.indices((side, side))
            for part, x in ((xx < side / 2, .2), (xx >= side / 2, .8)):
                weight = image[0].astype(float) * part
                place = (weight * xx).sum() / weight.sum(), (weight * yy).sum() / weight.sum()
                assert np.hypot(place[0] - x * side, place[1] - .1 * side) < .5


def test_a_preparation_belongs_to_one_template(tmp_path, tiny):
    given = write_template(tmp_path / "t.json", left=.2, right=.2, top=.1, bottom=.4)
    run(tiny, tmp_path / "out", "whole", template=given)
    run(tiny, tmp_path / "out", "whole", template=given)
    with pytest.raises(UserError, match="out: holds a preparation with template .*t.json, not None"):
        run(tiny, tmp_path / "out", "whole")
    write_template(given, left=.3, right=.2, top=.1, bottom=.4)
    with pytest.raises(UserError, match="out: holds a preparation with template_digest"):
        run(tiny, tmp_path / "out", "whole", template=given)
    # One of before there were templates to give is one of the shipped.
    run(tiny, tmp_path / "shipped", "whole")
    path = str(tmp_path / "shipped" / "prepare.json")
    note = files.read_json(path)
    shipped = note.pop("template")
    for key in ("template", "template_digest"):
        assert note["asked"].pop(key) is None
    files.write_json(path, note)
    assert prepared_folder.template(run(tiny, tmp_path / "shipped", "whole"))["margins"] == shipped["margins"]
    with pytest.raises(UserError, match="shipped: holds a preparation with template None, not .*t.json"):
        run(tiny, tmp_path / "shipped", "whole", template=given)


def test_a_template_that_does_not_fit_leaves_nothing(tmp_path, tiny, monkeypatch):
    given = write_template(tmp_path / "t.json", left=.2, right=.2, top=.1, bottom=.4)
    monkeypatch.setitem(PROTOCOLS, "none", Protocol(CLASSES, {}))
    for protocol, said in (("pairs", "the box of each face"), ("none", "the faces as they are")):
        with pytest.raises(UserError, match=f"template .*t.json: protocol {protocol} of tiny takes {said}"):
            run(tiny, tmp_path / "out", protocol, template=given)
    with pytest.raises(UserError, match="none.json: no such file or folder"):
        run(tiny, tmp_path / "out", "whole", template=str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="0_angry_0.png: not JSON"):
        run(tiny, tmp_path / "out", "whole", template=os.path.join(tiny, "0_angry_0.png"))
    assert sorted(os.listdir(str(tmp_path))) == ["source", "t.json"]


def test_one_fold_alone(tmp_path, tiny):
    note = run(tiny, tmp_path / "out", "folds", folds=[2])
    assert sorted(os.listdir(str(tmp_path / "out"))) == [
        ".caffe-fer", "faces.html", "fold02", "manifest.csv", "prepare.json"]
    assert note["folds"] == ["fold02"]
    with pytest.raises(UserError, match="fold 5: protocol folds of tiny has folds 1 to 4"):
        run(tiny, tmp_path / "other", "folds", folds=[5])


def test_copies_of_training_images_are_noted_in_each_fold(tmp_path, tiny):
    run(tiny, tmp_path / "out", "folds")
    found = {}
    for fold in range(1, 5):
        for face in manifest.read(str(tmp_path / "out" / f"fold0{fold}" / "manifest.csv")):
            if face.copy_of:
                found[fold, face.source] = face.copy_of
    # Fold k tests subject k - 1 and validates on the next one: with 2 and 4, none of the two is trained on, or both.
    assert found == {(1, "0_angry_1.png"): "3_happy_2.png", (3, "3_happy_2.png"): "0_angry_1.png"}


def test_pairs_come_with_the_neutral_frame_of_their_sequence(tmp_path, tiny):
    run(tiny, tmp_path / "out", "pairs", folds=[1])
    folder = str(tmp_path / "out" / "fold01")
    faces = manifest.read(os.path.join(folder, "manifest.csv"))
    for split in manifest.SPLITS:
        found = records.read(folder, split)
        assert found and all(faces[record.row].role == "peak" for record in found)
        for record, (image, label), (reference, same_label) in zip(
                found, images(folder, split), images(folder, split, "references")):
            face = faces[record.row]
            assert label == same_label == face.label and image.shape == reference.shape == (3, 224, 224)
            neutral = read_image(os.path.join(tiny, face.path[:-5] + "0.png"))
            np.testing.assert_array_equal(reference.transpose(1, 2, 0),
                                          alignment.box(neutral, face.landmarks, 224, "x"))


def test_one_page_for_all_folds_has_pairs_with_their_neutral_faces(tmp_path, tiny):
    run(tiny, tmp_path / "out", "pairs", folds=[2, 3])
    assert list((tmp_path / "out").rglob("*.html")) == [tmp_path / "out/faces.html"]
    page = Page(tmp_path / "out/faces.html")
    assert "(fold02, train)" in page.text and "box around its landmarks" in page.text
    # Fold 2 trains on subjects 0 and 3.
    assert [[name for name, _ in row] for row in page.rows] == [
        [f"{subject}_{name}_{frame}.png" for subject in (0, 3) for frame in (1, 2)] for name in CLASSES] + [
        ["224x224", "neutral, 224x224"]]
    (_, shown), (_, neutral) = page.rows[-1]
    reference, image = (alignment.box(read_image(os.path.join(tiny, f"0_angry_{frame}.png")), LANDMARKS, 96, "x")
                        for frame in (0, 1))
    assert np.abs(shown.astype(int) - image).mean() < 4 > np.abs(neutral.astype(int) - reference).mean()
    assert np.abs(neutral.astype(int) - image).mean() > 6


def test_ten_crops_have_shuffled_keys_and_are_those_of_their_image(tmp_path, tiny):
    run(tiny, tmp_path / "out", "ten", folds=[1])
    folder = str(tmp_path / "out" / "fold01")
    faces = manifest.read(os.path.join(folder, "manifest.csv"))
    train = records.read(folder, "train")
    assert [record.key for record in train] == list(range(80))
    assert [(record.row, record.crop) for record in train] != sorted((record.row, record.crop) for record in train)
    assert len({(record.row, record.crop) for record in train}) == 80
    for record, (image, label) in zip(train, images(folder, "train")):
        face = faces[record.row]
        grey = cv2.cvtColor(read_image(os.path.join(tiny, face.path)), cv2.COLOR_BGR2GRAY)
        region = crops.stretch(alignment.align(grey, face.landmarks, 256, "x"))
        window = crops.SETS["xie2019a"].train[record.crop]
        plain = region[window.y:window.y + 227, window.x:window.x + 227]
        np.testing.assert_array_equal(image[0], plain[:, ::-1] if window.mirrored else plain)
        assert label == face.label
    assert [record.crop for record in records.read(folder, "test")] == list(range(10)) * 4


def test_what_training_cuts_is_stored_whole_and_what_is_tested_as_normalised_floats(tmp_path, tiny):
    run(tiny, tmp_path / "out", "cut", folds=[1])
    folder = tmp_path / "out" / "fold01"
    train, test = images(folder, "train"), images(folder, "test")
    assert len(train) == 8 and len(test) == 4
    faces = manifest.read(str(folder / "manifest.csv"))
    for split, found in (("train", train), ("test", test)):
        for record, (image, _) in zip(records.read(str(folder), split), found):
            grey = cv2.cvtColor(read_image(os.path.join(tiny, faces[record.row].path)), cv2.COLOR_BGR2GRAY)
            region = alignment.align(grey, LANDMARKS, 60, "x")
            np.testing.assert_array_equal(image[0], region if split == "train" else crops.even_illumination(
                region[6:54, 6:54].copy()))
            assert image.dtype == (np.uint8 if split == "train" else np.float32)


def test_what_training_cuts_has_no_features(tmp_path, tiny):
    with pytest.raises(UserError, match="crops liu2017 are cut in each training step.*give --features without a name"):
        run(tiny, tmp_path / "out", "cut", features=["gabor"])


def test_subjects_of_a_table_take_the_place_of_the_data_sets(tmp_path, tiny):
    paths = [face.path for face in read("", "folds", "", 1).faces]
    table = tmp_path / "subjects.csv"
    # Subjects 0 and 1 change places.
    swapped = {"0": "S1", "1": "S0"}
    # As Excel writes it: with a byte order mark.
    table.write_text("\ufeffpath,subject\n" + "".join("{},{}\n".format(
        path, swapped.get(path[0], "S" + path[0])) for path in paths))
    run(tiny, tmp_path / "out", "folds", subjects=str(table))
    found = {face.path: face.subject for face in manifest.read(str(tmp_path / "out" / "manifest.csv"))}
    assert found["0_angry_1.png"] == "S1" and found["1_angry_1.png"] == "S0" and found["2_happy_1.png"] == "S2"
    with pytest.raises(UserError, match="holds a preparation with subjects"):
        run(tiny, tmp_path / "out", "folds")


@pytest.mark.parametrize("text, said", [
    ("path,who\n", "subjects.csv:1: the columns are 'path,who', expected path,subject"),
    ("path;subject\n0_angry_1.png;a\n", "subjects.csv:1: the columns are separated by ';', expected ','"),
    ("path,subject\n0_angry_1.png\n", "subjects.csv:2: 1 fields, expected 2 (path,subject)"),
    ("path,subject\n0_angry_1.png,\n", "subjects.csv:2: '0_angry_1.png,', expected a path and a subject"),
    ("path,subject\nnone.png,S1\n", "subjects.csv:2: no image 'none.png' in the data set"),
    ("path,subject\n0_angry_1.png,a\n0_angry_1.png,a\n", "subjects.csv:3: '0_angry_1.png' is there twice"),
    ("path,subject\n0_angry_1.png,a\n", "no subject for 15 of 16 images, e.g. 0_angry_2.png")])
def test_wrong_tables_of_subjects_are_named(tmp_path, tiny, text, said):
    (tmp_path / "subjects.csv").write_text(text)
    with pytest.raises(UserError) as error:
        run(tiny, tmp_path / "out", "folds", subjects=str(tmp_path / "subjects.csv"))
    assert said in str(error.value)
    assert sorted(os.listdir(str(tmp_path))) == ["source", "subjects.csv"]


def test_png_holds_the_same_pixels_in_less_space(tmp_path, tiny):
    for encoding in ("raw", "png"):
        run(tiny, tmp_path / encoding, "ten", folds=[1], encoding=encoding)
    for (raw, _), (png, _) in zip(*(images(tmp_path / name / "fold01", "train") for name in ("raw", "png"))):
        np.testing.assert_array_equal(raw, png)
    sizes = [files.size(str(tmp_path / name / "fold01" / "train" / "images")) for name in ("raw", "png")]
    assert sizes[1] < sizes[0] / 2


def test_faces_that_are_not_found_are_listed_and_counted(tmp_path, tiny, monkeypatch):
    found = {"0_angry_1.png": None, "2_happy_2.png": None}

    def without_landmarks(source, protocol, folder, processes):
        dataset = read(source, protocol, folder, processes)
        return replace(dataset, faces=[face._replace(landmarks=found.get(face.path, LANDMARKS))
                                       for face in dataset.faces])
    monkeypatch.setattr(datasets, "module", lambda name: SimpleNamespace(PROTOCOLS=PROTOCOLS, read=without_landmarks))
    note = run(tiny, tmp_path / "out", "folds")
    said = prepared_folder.summary(str(tmp_path / "out"), note)
    assert "note: no face found in 2 images, listed in no_face.csv" in said
    assert "note: 14 images, published 16" in said
    assert [face.path for face in manifest.read(str(tmp_path / "out" / "no_face.csv"))] == sorted(found)


def test_a_subject_in_two_splits_is_refused(tmp_path, tiny, monkeypatch):
    def wrong(source, protocol, folder, processes):
        dataset = read(source, protocol, folder, processes)
        return replace(dataset, faces=[face._replace(split="train" if face.label else "test")
                                       for face in dataset.faces])
    monkeypatch.setattr(datasets, "module", lambda name: SimpleNamespace(PROTOCOLS=PROTOCOLS, read=wrong))
    with pytest.raises(UserError, match="subject S0 is in train here and in test above"):
        run(tiny, tmp_path / "out", "folds")
    assert os.listdir(str(tmp_path)) == ["source"]


def test_fewer_subjects_than_folds_is_refused(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "folds", replace(PROTOCOLS["folds"], folds=9))
    with pytest.raises(UserError, match="4 subjects, fewer than 9 folds"):
        run(tiny, tmp_path / "out", "folds")
    assert os.listdir(str(tmp_path)) == ["source"]


def test_two_at_once(tmp_path, tiny):
    with locks.exclusive(str(tmp_path / ".out.caffe-fer-lock"), ""), pytest.raises(
            UserError, match="another preparation is at work"):
        run(tiny, tmp_path / "out", "folds")


def test_unknown_protocol(tmp_path, tiny):
    with pytest.raises(UserError, match="tiny: there is no protocol 'ckplus'; expected one of folds, pairs, ten, "
                                        "whole, cut"):
        run(tiny, tmp_path / "out", "ckplus")


KILLED = """
import sys
import tests.data_prep.test_prepare_protocols as t
t.datasets.module = lambda name: t.SimpleNamespace(PROTOCOLS=t.PROTOCOLS, read=t.read)
t.run(sys.argv[1], sys.argv[2], "ten", features=("gabor", "sift"))
"""


@pytest.mark.parametrize("moment", [
    "survey.csv", "fold01/projections", "fold01/train/gabor/data.mdb", "fold02/manifest.csv",
    "fold03/test/records.csv"])
def test_killed_in_any_step_it_goes_on_to_the_same_bytes(tmp_path, tiny, moment):
    out = str(tmp_path / "out")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), tiny, out]
    process = subprocess.Popen(command)
    while not os.path.exists(os.path.join(files.hidden(out, "partial"), moment)):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not os.path.exists(out) and os.path.exists(files.hidden(out, "partial"))
    run(tiny, out, "ten", features=("gabor", "sift"))
    run(tiny, tmp_path / "undisturbed", "ten", features=("gabor", "sift"))
    same(out, tmp_path / "undisturbed")
    assert sorted(os.listdir(str(tmp_path))) == ["out", "source", "undisturbed"]


@pytest.mark.parametrize("protocol, features_of", [("ten", "crop"), ("ten", "face"), ("whole", "crop")])
def test_each_image_is_filtered_once_and_the_bytes_are_the_same(tmp_path, tiny, monkeypatch, protocol, features_of):
    log, blocks = tmp_path / "log", features.Extractor.blocks

    def logged(self, *arguments):
        with open(str(log), "a") as stream:  # by all processes
            stream.write("x")
        return blocks(self, *arguments)
    monkeypatch.setattr(features.Extractor, "blocks", logged)
    settings = {"features": ("gabor", "gsf", "sift"), "features_of": features_of}
    run(tiny, tmp_path / "out", protocol, **settings)
    assert log.read_text() == "x" * 16
    monkeypatch.setattr(descriptions, "MOST_BYTES", 0)
    log.unlink()
    run(tiny, tmp_path / "by itself", protocol, **settings)
    # Four folds of 8 training images and 8 others, the former twice; of the whole set all are for training.
    assert log.read_text() == "x" * (4 * 24 if protocol == "ten" else 32)
    same(tmp_path / "out", tmp_path / "by itself")


def test_blocks_take_the_disk_that_is_reckoned_with(tmp_path):
    names, windows = ("gabor", "gsf", "sift"), features.upright(crops.SETS["xie2019a"].train)
    assert len(windows) == 5
    face = np.random.RandomState(0).randint(0, 256, (256, 256)).astype(np.uint8)
    blocks = features.Extractor(names, "compact", 227).blocks(face, windows)
    descriptions.save(str(tmp_path), 3, blocks)
    kept = descriptions.load(str(tmp_path), 3)
    for name in names:
        np.testing.assert_array_equal(kept[name], blocks[name])
        assert kept[name].dtype == blocks[name].dtype
    assert os.listdir(str(tmp_path)) == ["00000003.npz"] and descriptions.load(str(tmp_path), 4) == {}
    size = files.size(str(tmp_path))
    assert size <= descriptions.size(names, 1, len(windows)) < size + 16384


def test_survey_goes_on_behind_half_a_line(tmp_path, tiny):
    from data_prep.survey import survey
    dataset, path = read(tiny, "folds", "", 1), tmp_path / "survey.csv"
    whole = survey(dataset, str(path), True, 1)
    text = path.read_text()
    path.write_text(text[:len(text) // 2])
    assert survey(dataset, str(path), True, 1) == whole
    assert path.read_text() == text
