"""The faces that tell runs apart, and what their nets make of them ([xie2019a] Fig. 8 to 10)."""
import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

import cv2
import numpy as np

from data_prep import lmdb_io, prepared_folder, records
from data_prep.features import GEOMETRIES, gabor
from prototxt.builders import xie2019a
from tools.analysis import activations, svm
from tools.evaluation import forward, predictions
from tools.evaluation.predictions import Decision
from tools.training.run import Run

MAPS = 15
SHARE = 0.2
# Of the Gabor filters: every second or third orientation, and all wavelengths but the shortest.
SHOWN_ORIENTATIONS = (0, 2, 3, 5, 6)
SHOWN_SCALES = (1, 2, 3)


class Pair(NamedTuple):
    """A run without any feature loss and one with, on the same images.

    gained: the decisions of `ours` that are right where those of `baseline` are wrong; lost: how many are the
    other way round; before: unit -> class that `baseline` decided on; svm: row -> class by the untuned SVM on
    GABOR, None where it is not known.
    """

    baseline: Run
    ours: Run
    gained: list[Decision]
    lost: int
    before: dict[str, int]
    svm: Optional[dict[int, int]]

    @property
    def gained_from_both(self) -> list[Decision]:
        """Those gained that the SVM gets wrong as well."""
        return wrong_by(self.svm, self.gained) if self.svm else []


def pair(runs: Sequence[Run], split: str) -> Optional[Pair]:
    """Of the first run with a feature loss, and the first one without that has decided on the same images."""
    for ours in (run for run in runs if _feature_losses(run)):
        for baseline in (run for run in runs if not _feature_losses(run)):
            if baseline.info["manifest"] == ours.info["manifest"]:
                return _pair(baseline, ours, split)
    return None


def _pair(baseline: Run, ours: Run, split: str) -> Pair:
    before, after = decided(baseline, split), decided(ours, split)
    kept = svm.handcrafted(ours).get("gabor") if split == "test" else None
    return Pair(baseline, ours, gained(before, after), len(gained(after, before)),
                {decision.unit: decision.predicted for decision in before},
                dict(zip(kept.rows, kept.untuned.predicted)) if kept else None)


def _feature_losses(run: Run) -> list[str]:
    return [name for name in xie2019a.FEATURES if name in run.info["experiment"]["losses"]]


def decided(run: Run, split: str) -> list[Decision]:
    """Empty where the run has not been evaluated."""
    path = run.path(f"decisions-{split}.csv")
    return predictions.read(path) if os.path.exists(path) else []


def gained(before: Sequence[Decision], after: Sequence[Decision]) -> list[Decision]:
    """Those of `after` that are right where the decision before on the same unit was wrong."""
    wrong = {decision.unit for decision in before if not decision.right}
    return [decision for decision in after if decision.right and decision.unit in wrong]


def wrong_by(predicted: dict[int, int], given: Sequence[Decision]) -> list[Decision]:
    """Those on units whose shown frame another classifier takes for another class. predicted: row -> class."""
    return [decision for decision in given if predicted[shown(decision)] != decision.label]


def shown(decision: Decision) -> int:
    """The row whose face stands for a unit: of a sequence the last, its peak."""
    return decision.rows[-1]


def spread(given: Sequence[Decision], count: int) -> list[Decision]:
    """`count` decisions, the surest of each true class first."""
    ranks: dict[int, int] = {}
    keyed = []
    for decision in sorted(given, key=lambda d: -d.probabilities[d.predicted]):
        rank = ranks[decision.label] = ranks.get(decision.label, -1) + 1
        keyed.append((rank, decision.label, len(keyed), decision))
    return [entry[-1] for entry in sorted(keyed)[:count]]


def faces(data: str, split: str, rows: Sequence[int]) -> list[np.ndarray]:
    """The images, uint8 (channels, height, width), that the net sees first of rows of the manifest."""
    key_of = {record.row: record.key for record in records.read(data, split) if record.crop == 0}
    images = lmdb_io.Reader(os.path.join(data, split, "images"))
    found = [lmdb_io.decode(images[key_of[row]])[0] for row in rows]
    images.close()
    return found


def grey(image: np.ndarray) -> np.ndarray:
    """(channels, height, width) -> (height, width), uint8."""
    return image[0] if len(image) == 1 else cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)),
                                                         cv2.COLOR_BGR2GRAY)


def gabor_responses(image: np.ndarray, data: str) -> np.ndarray:
    """Magnitudes of MAPS filters, as the data's features are made from: float32 (15, side, side), the rows of a
    mosaic the wavelengths, its columns the orientations."""
    geometry = GEOMETRIES[prepared_folder.read_note(data)["asked"]["geometry"]]
    scaled = cv2.resize(grey(image), (geometry.face, geometry.face), interpolation=cv2.INTER_LINEAR)
    found = gabor.magnitudes(scaled, geometry).reshape(gabor.ORIENTATIONS, gabor.SCALES, *scaled.shape)
    return np.stack([found[orientation, scale] for scale in SHOWN_SCALES for orientation in SHOWN_ORIENTATIONS])


class FaceMaps(NamedTuple):
    """What a net makes of faces. first: maps of the first convolution, float32 (faces, channels, h, w); z: FC1's
    input, likewise; place: of z's cells."""

    first: np.ndarray
    z: np.ndarray
    place: activations.Grid


def face_maps(run: Run, images: Sequence[np.ndarray]) -> FaceMaps:
    deploy = run.path("deploy.prototxt")
    names = activations.blobs(deploy)
    found = forward.outputs(deploy, run.caffemodel(), images, [names.first, names.z])
    return FaceMaps(found[names.first], found[names.z], activations.grid(deploy, names.z))
