"""Predictions for the faces in images. Faces are detected with MTCNN, then aligned and cropped as in training.

    RUN/framing.json     position of the faces in registered training images, measured once, see `framing`
"""
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional, Union

import numpy as np

from common import children, files
from common.errors import UserError
from data_prep import alignment, crops, lmdb_io, prepared_folder, records
from data_prep.alignment import SMALLEST_SHARE, Detection, Detector
from data_prep.crops import CropSet
from data_prep.images import read_image
from data_prep.settings import of_note
from tools.evaluation import forward, predictions
from tools.evaluation.predicted_faces import FacePrediction
from tools.training import groups, snapshots
from tools.training.caffe_process import all_cores
from tools.training.groups import Group
from tools.training.run import DEPLOY, Run, data_note, require_same_data
from tools.training.snapshots import Snapshot

FRAMING = "framing.json"
# Number of training images in which faces are detected, and the minimum number of faces that must be found.
LOOKED_AT, ENOUGH = 60, 10
# Most bytes of the images that are kept until the nets have seen their faces.
HELD = 256 * 10 ** 6

# The name of an image, and what reads it, uint8 (height, width, 3) BGR; it may raise UserError.
Source = tuple[str, Callable[[], np.ndarray]]


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
    note = data_note(run)
    return Preparation(note["classes"], crops.SETS[note["asked"]["crops"]], of_note(note).registration,
                       prepared_folder.template(note)["margins"])


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


@dataclass
class Seen:
    """What a predictor has seen in an image."""

    name: str
    # The predictions for its faces, the largest face first.
    faces: list[FacePrediction] = field(default_factory=list)
    # What went wrong: the image cannot be read, or a face cannot be registered.
    problems: list[str] = field(default_factory=list)
    # uint8 (height, width, 3) BGR, if it was asked for and can be read.
    image: Optional[np.ndarray] = None


class Predictor:
    """The nets of a run, or of all runs of a group, loaded once.

    whole: whether the images are registered faces, as in the data; reference: path of the image of the neutral face,
    for a net of pairs; snapshot: which weights, see `snapshots`; min_score, min_size: detected faces with a smaller
    score or size are left out. Raises UserError if a training is not complete or has no such snapshot, if the runs of a
    group have different classes or crops, and if a reference is missing, has no face or is not used.
    """

    def __init__(self, run_or_group: Union[Run, Group], whole: bool = False, reference: Optional[str] = None,
                 snapshot: Snapshot = None, min_score: float = 0, min_size: float = 0):
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
        engine = all_cores()
        self._nets = [forward.open_net(run.path(DEPLOY), weights, engine) for run, weights in zip(self.runs, trained)]
        self._batch = forward.batch_size(engine)
        paired = "reference" in self._nets[0].inputs
        if paired and not reference:
            raise UserError(f"{self.runs[0].folder}: compares a face with the same person's neutral face; give its "
                            "image with --reference")
        if reference and not paired:
            raise UserError(f"{self.runs[0].folder}: does not compare with a neutral face; leave --reference out")
        self._detector = None if whole else Detector(SMALLEST_SHARE)
        self._least = (min_score, min_size)
        self._framing = framing(self.runs[0], self._prepared) if (
            self._detector and self._prepared.registration == "none") else None
        self._reference: list[np.ndarray] = []
        if reference:
            image = read_image(reference)
            detections = self._find(image)
            if not detections:
                raise UserError(f"{reference}: no face found")
            self._reference = face_crops(self._prepared, image, detections[0].landmarks, reference, self._framing)

    @property
    def classes(self) -> Sequence[str]:
        return self._prepared.classes

    def each(self, sources: Iterable[Source], keep: bool = False, processes: int = 1) -> Iterator[Seen]:
        """What is seen in each image, in their order. keep: whether the images are kept, for drawing; processes: how
        many read the images and look for faces. If there are several, they need all sources at the start.

        The faces of several images go through the nets together, so an image may be read before those before it are
        yielded. The memory for that does not depend on the number of images.
        """
        def look(source: Source) -> tuple[Seen, list[_Face]]:
            return self._look(source, keep)
        waiting: list[Seen] = []
        faces: list[_Face] = []
        held = 0
        for seen, found in (map(look, sources) if processes == 1 else
                            children.in_order(processes, lambda: None, (), look, list(sources))):
            waiting.append(seen)
            held += 0 if seen.image is None else seen.image.nbytes
            for face in found:
                faces.append(face)
                if (len(faces) + 1) * len(face.crops) > self._batch:
                    self._run(faces)
            if not faces or len(waiting) >= self._batch or held > HELD:
                self._run(faces)
                yield from waiting
                waiting, held = [], 0
        self._run(faces)
        yield from waiting

    def _look(self, source: Source, keep: bool) -> "tuple[Seen, list[_Face]]":
        """An image, not yet with predictions, and its faces."""
        name, read = source
        seen = Seen(name)
        faces: list[_Face] = []
        try:
            image = read()
        except UserError as error:
            seen.problems.append(str(error))
            return seen, faces
        seen.image = image if keep else None
        for detection in self._wanted(image):
            try:
                crops_of_face = face_crops(self._prepared, image, detection.landmarks, name, self._framing)
            except UserError as error:
                seen.problems.append(str(error))
                continue
            faces.append(_Face(seen, detection, crops_of_face))
        return seen, faces

    def _find(self, image: np.ndarray) -> list[Detection]:
        if self._detector:
            return self._detector.faces(image)
        return [Detection((0.0, 0.0, float(image.shape[1]), float(image.shape[0])), None)]

    def _wanted(self, image: np.ndarray) -> Iterator[Detection]:
        score, size = self._least
        return (face for face in self._find(image)
                if (face.score is None or face.score >= score) and min(face.box[2:]) >= size)

    def _run(self, faces: "list[_Face]") -> None:
        """Predicts faces in one batch, adds the predictions to their images, and empties the list."""
        if not faces:
            return
        votes = []
        for experiment, net in zip(self._experiments, self._nets):
            values = forward.batch(net, [crop for face in faces for crop in face.crops], ["prob"],
                                   forward.transform(experiment), self._reference * len(faces))["prob"]
            by_face = values.astype(np.float64).reshape(len(faces), -1, len(self.classes))
            votes.append(predictions.RULES[experiment.decision](by_face, axis=1))
        for face, probabilities in zip(faces, np.mean(votes, axis=0).tolist()):
            face.seen.faces.append(FacePrediction(face.detection.box, face.detection.landmarks, tuple(probabilities),
                                                  face.detection.score))
        faces.clear()


class _Face(NamedTuple):
    """A face that waits for the nets."""

    seen: Seen
    detection: Detection
    # As `face_crops` returns them.
    crops: list[np.ndarray]
