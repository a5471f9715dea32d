"""The faces that tell the runs of [xie2019a] apart, and what their nets make of them (Fig. 8 to 10)."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np

from data_prep import prepared_folder
from data_prep.features import GEOMETRIES, gabor
from prototxt.builders import xie2019a
from tools.analysis import activations, svm
from tools.evaluation import forward
from tools.evaluation.predictions import Prediction
from tools.report import faces, figures
from tools.report.entries import Entry
from tools.training.run import DEPLOY, Run

# As many as Fig. 9 and 10 have.
FACES = 5
# The name of the last maps of a net, on which the feature losses are.
Z = "FC1's input"
# Runs whose maps are shown, so that the page stays small.
RUNS = 4
# Maps in a mosaic, side by side, and the side of each in pixels.
MAPS, COLUMNS, TILE_PIXELS = 15, 5, 56
# Of a face's pixels, those in colour in a heat map.
SHARE = 0.2
# Of the Gabor filters: every second or third orientation, and all wavelengths but the shortest.
SHOWN_ORIENTATIONS = (0, 2, 3, 5, 6)
SHOWN_SCALES = (1, 2, 3)


@dataclass(frozen=True)
class Pair:
    """A run without any feature loss and one with, on the same images."""

    baseline: Run
    ours: Run
    # Predictions of `ours` that are right where those of `baseline` are wrong.
    gained: list[Prediction]
    # How many are the other way round.
    lost: int
    # Unit -> class that `baseline` predicts.
    before: dict[str, int]
    # Row -> class by the untuned SVM on GABOR, None where that was not measured.
    svm: Optional[dict[int, int]]

    @property
    def gained_from_both(self) -> list[Prediction]:
        """Those gained that the SVM gets wrong as well."""
        return wrong_by(self.svm, self.gained) if self.svm else []


@dataclass(frozen=True)
class FaceMaps:
    """What a net makes of faces."""

    # Maps of the first convolution, float32 (faces, channels, height, width).
    first: np.ndarray
    # FC1's input, likewise; where that has one cell, the nearest maps before it that have more.
    last: np.ndarray
    # Where the cells of `last` lie in the image.
    grid: activations.Grid
    # What `last` is, in words.
    name: str


@dataclass(frozen=True)
class Comparison:
    """What Fig. 8 to 10 show."""

    # None where there are no two runs to compare.
    pair: Optional[Pair]
    # Run -> its title.
    titles: dict[Run, str]
    classes: Sequence[str]
    # Whose faces are shown.
    predictions: list[Prediction]
    # Their faces, uint8 (channels, height, width).
    images: list[np.ndarray]
    # Gabor responses of the first face, float32 (MAPS, side, side).
    gabor: np.ndarray
    # Title of a run -> what its net makes of the faces.
    maps: dict[str, FaceMaps]


def compare(entries: Sequence[Entry]) -> Optional[Comparison]:
    """Compares the runs that are evaluated on the test split of the same images; None where there is no such run."""
    titles = {entry.run: entry.title for entry in entries}
    runs = [run for run in titles if faces.predicted(run, "test")]
    compared = pair(runs, "test")
    if compared:
        runs = [compared.ours, compared.baseline] + [
            run for run in runs if run not in (compared.ours, compared.baseline)]
    choices = compared and (compared.gained_from_both or compared.gained) or [
        prediction for run in runs[:1] for prediction in faces.predicted(run, "test") if prediction.right]
    predictions = faces.spread(choices, FACES)
    if not predictions:
        return None
    data, manifest = runs[0].info["data"], runs[0].info["manifest"]
    runs = [run for run in runs if run.info["manifest"] == manifest][:RUNS]
    runs.sort(key=list(titles).index)
    images = faces.images(data, "test", [faces.row_of(prediction) for prediction in predictions])
    return Comparison(compared, titles, prepared_folder.read_note(data)["classes"], predictions, images,
                      gabor_responses(images[0], data), {titles[run]: face_maps(run, images) for run in runs})


def pair(runs: Sequence[Run], split: str) -> Optional[Pair]:
    """Of the first run with a feature loss, and the first one without that was trained on the same images."""
    for ours in (run for run in runs if _feature_losses(run)):
        for baseline in (run for run in runs if not _feature_losses(run)):
            if baseline.info["manifest"] == ours.info["manifest"]:
                return _pair(baseline, ours, split)
    return None


def _pair(baseline: Run, ours: Run, split: str) -> Pair:
    before, after = faces.predicted(baseline, split), faces.predicted(ours, split)
    results = svm.handcrafted(ours).get("gabor") if split == "test" else None
    return Pair(baseline, ours, gained(before, after), len(gained(after, before)),
                {prediction.unit: prediction.predicted for prediction in before},
                dict(zip(results.rows, results.untuned.predicted)) if results else None)


def _feature_losses(run: Run) -> list[str]:
    return [name for name in xie2019a.FEATURES if name in run.info["experiment"]["losses"]]


def gained(before: Sequence[Prediction], after: Sequence[Prediction]) -> list[Prediction]:
    """Those of `after` that are right where the prediction before on the same unit was wrong."""
    wrong = {prediction.unit for prediction in before if not prediction.right}
    return [prediction for prediction in after if prediction.right and prediction.unit in wrong]


def wrong_by(predicted: dict[int, int], predictions: Sequence[Prediction]) -> list[Prediction]:
    """Those on units whose shown frame another classifier takes for another class. predicted: row -> class."""
    return [prediction for prediction in predictions if predicted[faces.row_of(prediction)] != prediction.label]


def gabor_responses(image: np.ndarray, data: str) -> np.ndarray:
    """Magnitudes of MAPS filters, as the data's features are made from: float32 (15, side, side), the rows of a
    mosaic the wavelengths, its columns the orientations."""
    geometry = GEOMETRIES[prepared_folder.read_note(data)["asked"]["geometry"]]
    scaled = cv2.resize(faces.grey(image), (geometry.face, geometry.face), interpolation=cv2.INTER_LINEAR)
    responses = gabor.magnitudes(scaled, geometry).reshape(gabor.ORIENTATIONS, gabor.SCALES, *scaled.shape)
    return np.stack([responses[orientation, scale] for scale in SHOWN_SCALES for orientation in SHOWN_ORIENTATIONS])


def face_maps(run: Run, images: Sequence[np.ndarray]) -> FaceMaps:
    deploy = run.path(DEPLOY)
    names = activations.blobs(deploy)
    last = activations.maps_of(deploy, names.z)
    outputs = forward.outputs(deploy, run.caffemodel(), images, [names.first, last])
    return FaceMaps(outputs[names.first], outputs[last], activations.grid(deploy, last),
                    Z if last == names.z else last)


def other_classes(prediction: Prediction, compared: Comparison) -> list[str]:
    """Who predicts which other class, a line each."""
    if not compared.pair:
        return []
    before, svm_classes = compared.pair.before, compared.pair.svm
    lines = [f"{compared.titles[compared.pair.baseline]}: {compared.classes[before[prediction.unit]]}"]
    if svm_classes:
        lines.append(f"GABOR, SVM: {compared.classes[svm_classes[faces.row_of(prediction)]]}")
    return lines


def heat_maps(compared: Comparison, maps: FaceMaps) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each face the picture, uint8 (height, width, 3) BGR, and the responses that it shows, float32
    (height, width)."""
    pairs = []
    for image, last in zip(compared.images, maps.last):
        response = activations.average_over_face(last, maps.grid, image.shape[1:])
        pairs.append((figures.heat_map(faces.grey(image), response, activations.largest(response, SHARE)), response))
    return pairs


def most_varied(blob: np.ndarray) -> np.ndarray:
    """The maps of the first face that are shown."""
    return activations.most_varied(blob[0], MAPS)


def mosaic(maps: np.ndarray) -> np.ndarray:
    return figures.mosaic(maps, COLUMNS, TILE_PIXELS)


def tile(single: np.ndarray) -> np.ndarray:
    """A map, no larger than it is in a mosaic."""
    if max(single.shape) <= TILE_PIXELS:
        return single
    return cv2.resize(single, (TILE_PIXELS, TILE_PIXELS), interpolation=cv2.INTER_AREA)
