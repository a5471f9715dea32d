"""A net that was trained on photographs sees other photographs as those of its training."""
import os

import cv2
import numpy as np

from common import experiment, files
from data_prep import alignment, lmdb_io, prepare, prepared_folder, records
from data_prep.datasets import synthetic
from data_prep.images import read_image
from tests.tools import hand_made
from tools.evaluation import predict
from tools.training import run


def test_predict_shows_the_net_what_detect_has_recorded(tmp_path):
    """Crop by crop, of both faces of a photograph."""
    for split in ("train", "test"):
        for number, name in enumerate(("happy", "surprise")):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            scene = np.full((800, 1250, 3), 150, np.uint8)
            for x, side in ((30, 340), (500, 700)):
                drawn = synthetic.draw_face(700 + number + side, 3 + number, 4)[0]
                scene[50:50 + side, x:x + side] = cv2.resize(drawn, (side, side))
            cv2.imwrite(str(tmp_path / "photos" / split / name / "0.png"), scene)
    out = str(tmp_path / "out")
    note = prepare.prepare(prepare.Settings("folder", str(tmp_path / "photos"), features=[], crops="xie2019a",
                                            detect="all"), out, 1)
    trained = run.Run(str(tmp_path / "run"))
    files.write_json(trained.path("run.json"), hand_made.info(
        experiment.load("xie2019a/fer2013-softmax"), data="gone"))
    files.write_json(trained.path(run.DATA), note)
    prepared = predict.preparation(trained)
    assert prepared.registration == "template"
    faces, images = prepared_folder.faces(out), lmdb_io.Reader(os.path.join(out, "test", "images"))
    recorded = {}
    for record in records.read(out, "test"):
        recorded.setdefault(faces[record.row].source, []).append(lmdb_io.decode(images[record.key])[0])
    assert len(recorded) == 4
    for name in ("happy", "surprise"):
        path = os.path.join("test", name, "0.png")
        image = read_image(str(tmp_path / "photos" / path))
        found = alignment.Detector(predict.SMALLEST_SHARE).faces(image)
        for number, face in enumerate(found, start=1):
            shown = predict.face_crops(prepared, image, face.landmarks, "x")
            np.testing.assert_array_equal(shown, recorded[f"{path}:{number}"])
        assert len(found) == 2
