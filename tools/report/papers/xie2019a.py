"""The faces that tell the runs of [xie2019a] apart, beside what their nets make of them (Fig. 8 to 10)."""
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from data_prep import prepared_folder
from tools.analysis import activations
from tools.evaluation.predictions import Decision
from tools.report import figures, pictures
from tools.report.papers import comparison
from tools.report.papers.comparison import Pair
from tools.training.run import Run

# As many as [xie2019a] Fig. 9 and 10 have.
COMPARED_FACES = 5
# Runs whose maps are shown, so that the page stays small.
COMPARED_RUNS = 4
TILE_PIXELS = 56


class Strip(NamedTuple):
    title: str
    pictures: list[str]


class Maps(NamedTuple):
    """Of one face, in a mosaic each. first: of the first convolution; z: FC1's input."""

    title: str
    first: str
    z: str


class ComparedFace(NamedTuple):
    """others: who decided on which other class."""

    picture: str
    label: str
    others: list[str]


class FaceComparison(NamedTuple):
    """heat: a strip for each run, of the same faces; face: the first one; gabor, maps: of it."""

    pair: Optional[Pair]
    faces: list[ComparedFace]
    heat: list[Strip]
    face: str
    gabor: str
    maps: list[Maps]


class Found(NamedTuple):
    """What the figures show. images: of the decisions' shown faces, uint8 (channels, height, width); maps: title of a
    run -> what its net makes of them; gabor: of the first face."""

    pair: Optional[Pair]
    classes: Sequence[str]
    decisions: list[Decision]
    images: list[np.ndarray]
    gabor: np.ndarray
    maps: dict[str, comparison.FaceMaps]


def find(titles: dict[Run, str]) -> Optional[Found]:
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
    images = comparison.faces(data, "test", [comparison.shown(decision) for decision in chosen])
    return Found(found, prepared_folder.read_note(data)["classes"], chosen, images,
                 comparison.gabor_responses(images[0], data),
                 {titles[run]: comparison.face_maps(run, images) for run in ready})


def compared(titles: dict[Run, str]) -> Optional[FaceComparison]:
    """As the page shows it."""
    found = find(titles)
    if not found:
        return None
    return FaceComparison(
        found.pair, [ComparedFace(pictures.png(comparison.grey(image)), found.classes[decision.label],
                                  others(decision, found, titles))
                     for image, decision in zip(found.images, found.decisions)],
        [Strip(title, [pictures.jpeg(picture) for picture, _ in heat(found, maps)])
         for title, maps in found.maps.items()],
        pictures.png(comparison.grey(found.images[0])), pictures.encoded(mosaic(found.gabor)),
        [Maps(title, *(pictures.encoded(mosaic(varied(blob))) for blob in (maps.first, maps.z)))
         for title, maps in found.maps.items()])


def others(decision: Decision, found: Found, titles: dict[Run, str]) -> list[str]:
    """Who decided on which other class."""
    pair, said = found.pair, []
    if pair:
        said.append(f"{titles[pair.baseline]}: {found.classes[pair.before[decision.unit]]}")
        if pair.svm:
            said.append(f"GABOR, SVM: {found.classes[pair.svm[comparison.shown(decision)]]}")
    return said


def heat(found: Found, maps: comparison.FaceMaps) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each face the picture and the responses that it shows."""
    strip = []
    for image, z in zip(found.images, maps.z):
        response = activations.average_over_face(z, maps.place, image.shape[1:])
        strip.append((figures.heat_map(comparison.grey(image), response, activations.largest(
            response, comparison.SHARE)), response))
    return strip


def varied(blob: np.ndarray) -> np.ndarray:
    """The maps of the first face that are shown."""
    return activations.most_varied(blob[0], comparison.MAPS)


def mosaic(maps: np.ndarray) -> np.ndarray:
    return figures.mosaic(maps, comparison.MAPS // 3, TILE_PIXELS)
