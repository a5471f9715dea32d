"""Predictions for photographs. Faces are detected with MTCNN, then aligned and cropped as in training.

    RUN/framing.json     position of the faces in registered training images, measured once, see `framing`
"""
import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np

from common import files
from common.errors import UserError
from data_prep import alignment, crops, lmdb_io, prepared_folder, records
from data_prep.alignment import SMALLEST_SHARE, Detection, Detector
from data_prep.crops import CropSet
from data_prep.images import read_image
from data_prep.settings import of_note
from tools.evaluation import forward, predictions
from tools.training import groups, snapshots
from tools.training.caffe_process import all_cores
from tools.training.groups import Group
from tools.training.run import DATA, DEPLOY, Run, require_same_data
from tools.training.snapshots import Snapshot

FRAMING = "framing.json"
# Number of training images in which faces are detected, and the minimum number of faces that must be found.
LOOKED_AT, ENOUGH = 60, 10


@dataclass(frozen=True)
class FacePrediction:
    """The prediction for one face of a photograph."""

    # x, y, width, height in pixels of the photograph.
    box: tuple[float, ...]
    # x1, y1, ... in pixels, as in the manifest; None if the whole image is the face.
    landmarks: Optional[tuple[float, ...]]
    # For each class, the probability: the experiment's vote over the crops, averaged over the nets.
    probabilities: tuple[float, ...]

    @property
    def label(self) -> int:
        """The index of the predicted class."""
        return int(np.argmax(self.probabilities))

    def ranked(self) -> list[int]:
        """The indices of the classes, the most probable first."""
        return np.argsort(-np.array(self.probabilities), kind="stable").tolist()


@dataclass(frozen=True)
class Preparation:
    """How the data of a run were prepared."""

    # Names of the classes.
    classes: Sequence[str]
    # How faces are cropped.
    crops: CropSet
    # How faces are registered; see datasets.Protocol.
    registration: str
    # Margins of the template that the faces were aligned to; see alignment.target_of.
    margins: dict[str, float]


def preparation(run: Run) -> Preparation:
    """How a run's data were prepared. Raises UserError if neither the run nor its unchanged data tell it."""
    note = _note(run)
    return Preparation(note["classes"], crops.SETS[note["asked"]["crops"]], of_note(note).registration,
                       prepared_folder.template(note)["margins"])


def _note(run: Run) -> dict:
    info = run.info
    if os.path.exists(run.path(DATA)):
        return files.read_json(run.path(DATA))
    if not prepared_folder.is_prepared(info["data"]):
        raise UserError("{}: its data, {}, are gone, and the run has no {} with its classes and crops; prepare the "
                        "data again".format(run.folder, info["data"], DATA))
    return require_same_data(run)


def framing(run: Run, prepared: Preparation) -> np.ndarray:
    """The position of the faces in data that came as registered faces: the mean triangle (`alignment.triangle`) of the
    training images in which MTCNN finds a face, float64 (3, 2), in sides of the region.

    If the data are gone, or MTCNN finds few faces, it is the shipped template, the mean triangle of FER2013.
    """
    if os.path.exists(run.path(FRAMING)):
        return np.array(files.read_json(run.path(FRAMING))["triangle"])
    try:
        require_same_data(run)
        triangles = _triangles(run.info["data"], prepared.crops)
    except UserError as error:
        print(f"fer: faces are cropped as in FER2013, because {error}", file=sys.stderr)
        return alignment.template()
    triangle = np.mean(triangles, axis=0) if len(triangles) >= ENOUGH else alignment.template()
    with contextlib.suppress(OSError):  # in a read-only run the triangle is measured each time
        files.write_json(run.path(FRAMING), {"faces": len(triangles), "of": LOOKED_AT, "triangle": triangle.tolist()})
    return triangle


def _triangles(data: str, crop_set: CropSet) -> list[np.ndarray]:
    first = [record for record in records.read(data, "train") if record.crop == 0]
    window, images, detector = crop_set.train[0], lmdb_io.Reader(os.path.join(data, "train", "images")), Detector()
    triangles = []
    for record in first[::max(1, len(first) // LOOKED_AT)][:LOOKED_AT]:
        image = lmdb_io.decode(images[record.key])[0]
        if image.dtype == np.uint8:
            landmarks = detector.find(np.ascontiguousarray(image.transpose(1, 2, 0).squeeze()))
            if landmarks:
                triangles.append((alignment.triangle(landmarks) + (window.x, window.y)) / crop_set.region)
    images.close()
    return triangles


def face_crops(prepared: Preparation, image: np.ndarray, landmarks: Optional[tuple[float, ...]], where: str,
               target: Optional[np.ndarray] = None) -> list[np.ndarray]:
    """The crops of a face for a net, each uint8 or float32 (channels, side, side), as in the test split's records.

    landmarks: of the face; None if the image is a registered face; where: the image's name in error messages; target:
    `framing`, for data that came registered.
    """
    registration = "none" if landmarks is None else prepared.registration if target is None else "template"
    target = alignment.target_of(prepared.margins) if target is None else target
    region = records.registered(prepared.crops, registration, image, landmarks, where, target)
    return [lmdb_io.planes(records.pixels(prepared.crops, region, window))
            for window in prepared.crops.windows("test", "")]


class Predictor:
    """The nets of a run, or of all runs of a group, loaded once.

    whole: whether the images are registered faces, as in the data; reference: path of the image of the neutral face,
    for a net of pairs; snapshot: which weights, see `snapshots`. Raises UserError if a training is not complete or has
    no such snapshot, if the runs of a group have different classes or crops, and if a reference is missing, has no face
    or is not used.
    """

    def __init__(self, run_or_group: Union[Run, Group], whole: bool = False, reference: Optional[str] = None,
                 snapshot: Snapshot = None):
        self.runs = groups.runs(run_or_group)
        # The iteration of each net's weights.
        self.iterations = [snapshots.iteration(run, snapshot) for run in self.runs]
        self._prepared = preparation(self.runs[0])
        for other in self.runs[1:]:
            if preparation(other) != self._prepared:
                raise UserError(f"{other.folder}: its classes or crops are not those of {self.runs[0].folder}; give "
                                "one of the two")
        self._experiments = [run.experiment for run in self.runs]
        trained = [run.caffemodel(iteration) for run, iteration in zip(self.runs, self.iterations)]
        self._nets = [forward.open_net(run.path(DEPLOY), weights, all_cores())
                      for run, weights in zip(self.runs, trained)]
        paired = "reference" in self._nets[0].inputs
        if paired and not reference:
            raise UserError(f"{self.runs[0].folder}: compares a face with the same person's neutral face; give its "
                            "image with --reference")
        if reference and not paired:
            raise UserError(f"{self.runs[0].folder}: does not compare with a neutral face; leave --reference out")
        self._detector = None if whole else Detector(SMALLEST_SHARE)
        self._framing = framing(self.runs[0], self._prepared) if (
            self._detector and self._prepared.registration == "none") else None
        self._reference: Sequence[np.ndarray] = ()
        if reference:
            image = read_image(reference)
            detections = self._find(image)
            if not detections:
                raise UserError(f"{reference}: no face found")
            self._reference = face_crops(self._prepared, image, detections[0].landmarks, reference, self._framing)

    @property
    def classes(self) -> Sequence[str]:
        return self._prepared.classes

    def predict(self, path: str) -> tuple[np.ndarray, list[FacePrediction], list[str]]:
        """The image (BGR), the predictions for its faces, the largest face first, and an error message for each face
        that cannot be registered.

        Raises UserError, which names the file, if it is not an image or shows no face.
        """
        image = read_image(path)
        detections = self._find(image)
        if not detections:
            raise UserError(f"{path}: no face found")
        predictions, problems = [], []
        for face in detections:
            try:
                crops_of_face = face_crops(self._prepared, image, face.landmarks, path, self._framing)
            except UserError as error:
                problems.append(str(error))
            else:
                predictions.append(FacePrediction(face.box, face.landmarks, self._probabilities(crops_of_face)))
        return image, predictions, problems

    def _find(self, image: np.ndarray) -> list[Detection]:
        if self._detector:
            return self._detector.faces(image)
        return [Detection((0.0, 0.0, float(image.shape[1]), float(image.shape[0])), None)]

    def _probabilities(self, crops_of_face: Sequence[np.ndarray]) -> tuple[float, ...]:
        votes = []
        for experiment, net in zip(self._experiments, self._nets):
            values = forward.batch(net, crops_of_face, ["prob"], forward.transform(experiment),
                                   self._reference)["prob"]
            votes.append(predictions.RULES[experiment.decision](values.astype(np.float64), axis=0))
        return tuple(np.mean(votes, axis=0).tolist())


# ---------------------------------------------------------------- output

def line(path: str, number: int, count: int, prediction: FacePrediction, classes: Sequence[str]) -> str:
    """The prediction for a face as text. number: the number of the face, from 1; count: of all faces of the image."""
    shares = [f"{classes[label]} {100 * prediction.probabilities[label]:.1f} %"
              for label in prediction.ranked()]
    return f"{path}{f' face {number} of {count}' if count > 1 else ''}: {', '.join(shares)}"


def described(prediction: FacePrediction, classes: Sequence[str]) -> dict:
    """The prediction for a face for JSON."""
    points = prediction.landmarks and np.reshape(prediction.landmarks, (5, 2)).tolist()
    return {"box": dict(zip(("x", "y", "width", "height"), prediction.box)),
            "landmarks": points and dict(zip(alignment.POINTS, points)),
            "label": classes[prediction.label], "probability": prediction.probabilities[prediction.label],
            "probabilities": dict(zip(classes, prediction.probabilities))}


def pictures(folder: str, paths: Iterable[str]) -> dict[str, str]:
    """The path of an image -> the path of its picture, FOLDER/<name>.jpg, with a number if names repeat.

    Raises UserError if a picture would replace an image, or any other file that is not ours.
    """
    paths = list(dict.fromkeys(paths))
    taken, targets = set(), {}
    for path in paths:
        stem, number = os.path.splitext(os.path.basename(path))[0], 1
        name = stem
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        targets[path] = os.path.join(folder, name + ".jpg")
    images = {os.path.realpath(path) for path in paths}
    for target in targets.values():
        if os.path.realpath(target) in images:
            raise UserError(f"{target}: is an image to predict on; give another folder to --draw")
        files.require_replaceable(target, alone=True)
    return targets
