"""The faces that tell the runs of [xie2019a] apart, beside what their nets make of them (Fig. 8 to 10)."""
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from data_prep import prepare
from tools import comparison, deep_features, figures
from tools.comparison import Pair
from tools.decisions import Decision
from tools.report import pictures
from tools.run import Run

# As many as [xie2019a] Fig. 9 and 10 have.
COMPARED_FACES = 5
# Runs whose maps are shown, so that the page stays small.
COMPARED_RUNS = 4
TILE_PIXELS = 56


class Strip(NamedTuple):
    title: str
    pictures: List[str]


class Maps(NamedTuple):
    """Of one face, in a mosaic each. first: of the first convolution; z: FC1's input."""

    title: str
    first: str
    z: str


class ComparedFace(NamedTuple):
    """others: who decided on which other class."""

    picture: str
    label: str
    others: List[str]


class FaceComparison(NamedTuple):
    """heat: a strip for each run, of the same faces; face: the first one; gabor, maps: of it."""

    pair: Optional[Pair]
    faces: List[ComparedFace]
    heat: List[Strip]
    face: str
    gabor: str
    maps: List[Maps]


def compared(titles: Dict[Run, str]) -> Optional[FaceComparison]:
    """Of the runs of [xie2019a] that have decided on the test part of the same images."""
    ready = [run for run in titles if run.experiment.paper == "xie2019a" and comparison.decided(run, "test")]
    found = comparison.pair(ready, "test")
    if found:
        ready = [found.ours, found.baseline] + [run for run in ready if run not in (found.ours, found.baseline)]
    candidates = found and (found.gained_from_both or found.gained) or [
        one for run in ready[:1] for one in comparison.decided(run, "test") if one.right]
    chosen = comparison.spread(candidates, COMPARED_FACES)
    if not chosen:
        return None
    data, images_of = ready[0].info["data"], ready[0].info["manifest"]
    ready = [run for run in ready if run.info["manifest"] == images_of][:COMPARED_RUNS]
    ready.sort(key=list(titles).index)
    classes = prepare.read_note(data)["classes"]
    images = comparison.faces(data, "test", [comparison.shown(decision) for decision in chosen])
    made = [(titles[run], comparison.face_maps(run, images)) for run in ready]
    return FaceComparison(
        found, [_compared_face(image, decision, found, classes, titles) for image, decision in zip(images, chosen)],
        [_heat(title, images, maps) for title, maps in made], pictures.png(comparison.grey(images[0])),
        _mosaic(comparison.gabor_responses(images[0], data)),
        [Maps(title, *(_mosaic(deep_features.most_varied(blob[0], comparison.MAPS))
                       for blob in (maps.first, maps.z))) for title, maps in made])


def _compared_face(image: np.ndarray, decision: Decision, pair: Optional[Pair], classes: Sequence[str],
                   titles: Dict[Run, str]) -> ComparedFace:
    others = []
    if pair:
        others.append("{}: {}".format(titles[pair.baseline], classes[pair.before[decision.unit]]))
        if pair.svm:
            others.append("GABOR, SVM: {}".format(classes[pair.svm[comparison.shown(decision)]]))
    return ComparedFace(pictures.png(comparison.grey(image)), classes[decision.label], others)


def _heat(title: str, images: Sequence[np.ndarray], maps: comparison.FaceMaps) -> Strip:
    strip = []
    for image, z in zip(images, maps.z):
        response = deep_features.average_over_face(z, maps.place, image.shape[1:])
        strip.append(pictures.jpeg(figures.heat_map(
            comparison.grey(image), response, deep_features.largest(response, comparison.SHARE))))
    return Strip(title, strip)


def _mosaic(maps: np.ndarray) -> str:
    return pictures.encoded(figures.mosaic(maps, comparison.MAPS // 3, TILE_PIXELS))
