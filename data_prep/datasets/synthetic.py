"""Parametric faces: a stand-in for a facial expression data set in the demo and the tests.

A face is an identity (proportions, skin, hair, glasses, resting brows and mouth) plus action units (AU), by
their numbers in the Facial Action Coding System. Which units make an expression follows the prototypes of
Ekman & Friesen (FACS, 1978; FACS Investigator's Guide, 2002). People differ in the variant they show, how
strongly, and on which side. At rest they differ by more than an expression moves them (brows that look angry,
mouths that droop), which is what makes unseen persons hard.

Coordinates here are face units: a pixel of the image at scale 1, x to the image's right, y down, the origin
between the eyes. What comes in pairs is given for the image's right side; side 0 is the left, 1 the right.
Colours are BGR.
"""
import functools
import os
from types import SimpleNamespace
from typing import Optional

import cv2
import numpy as np
from numpy.random import RandomState

from common import children, progress
from common.errors import UserError
from common.expressions import SEVEN, SIX
from data_prep.datasets import Protocol
from data_prep.datasets import synthetic_drawing as drawing
from data_prep.datasets.synthetic_drawing import mix
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

# The last three frames of each sequence take part.
COUNTS = {"train": 840, "val": 210, "test": 210}
# The same without the neutral sequences; what serves as a reference is no sample.
FOLDED = {"images": 1080, "subjects": 60}
PROTOCOLS = {"plain": Protocol(SEVEN, COUNTS, features=("gabor",)),
             "xie2019a": Protocol(SEVEN, COUNTS, "template", "xie2019a"),
             "liu2017": Protocol(SEVEN, {"images": 1260, "units": 420, "subjects": 60}, "template", "liu2017",
                                 folds=6),
             "farzaneh2021": Protocol(SIX, FOLDED, "box", "farzaneh2021-small", folds=5, unit="image"),
             "wu2023": Protocol(SIX, FOLDED, "box", "wu2023-small", folds=5, pairs=True, unit="image")}
# For each class the variants, of which a person shows one: {action unit: intensity}.
VARIANTS = (
    ({4: 1, 5: .6, 7: .7, 23: .9}, {4: .9, 7: .9, 17: .5, 23: 1},
     {4: 1, 5: .4, 7: .6, 10: .5, 23: .3, 25: .9}),
    ({4: .3, 9: 1, 10: .7, 15: .5, 17: .4}, {9: .7, 10: 1, 15: .3, 25: .6},
     {7: .5, 9: .9, 10: .5, 15: .7, 17: .8}),
    ({1: .9, 2: .6, 4: .6, 5: 1, 20: .8, 25: 1, 26: .6}, {1: .8, 2: .7, 4: .7, 5: .9, 20: 1, 25: .9}),
    ({6: .9, 12: 1, 25: 1}, {6: .6, 12: .9}, {6: 1, 12: 1, 25: 1, 26: .6}),
    ({1: .9, 4: .6, 15: .9}, {1: .8, 4: .6, 15: .8, 17: .8}, {1: 1, 4: .5, 7: .3, 15: 1}),
    ({1: 1, 2: 1, 5: .8, 25: 1, 26: 1}, {1: 1, 2: 1, 5: 1, 25: 1, 26: .3, 27: .9},
     {1: .8, 2: .9, 5: .7, 25: .8, 26: .6}),
    ({},),
)
# Identity: trait -> (mean, deviation) of a normal distribution, cut at two deviations.
TRAITS = {
    "face": (80, 4.5), "temple": (.95, .04), "jaw": (.84, .07), "chin": (36, 7), "chin_y": (115, 5),
    "top_y": (-80, 5), "ear_y": (12, 4), "eye_x": (34, 2.6), "eye_width": (15.5, 1.6), "eye_open": (6.8, 1.2),
    "eye_tilt": (.05, .09), "iris": (7.2, .5), "lid": (4, 1.6), "lash": (1.5, .6), "brow_y": (-22, 3),
    "brow_gap": (15, 2.5), "brow_width": (20, 2), "brow_thick": (5.4, 1.5), "brow_tilt": (-.03, .1),
    "brow_arch": (4, 2), "nose_y": (41, 3.5), "nose_width": (15, 2.3), "nose_bridge": (6, 1.2),
    "mouth_y": (73, 3), "mouth": (29, 2.8), "mouth_curve": (-.8, 2), "upper_lip": (5.5, 1.5),
    "lower_lip": (7.5, 1.8), "cheek": (.3, .3), "age": (.35, .25), "gain": (1, .17),
}
LIPS = (70, 60, 175)
SKINS = ((205, 222, 246), (180, 205, 240), (160, 190, 228), (140, 172, 214), (112, 150, 198), (85, 120, 172),
         (62, 92, 140), (48, 70, 108))
HAIRS = ((24, 24, 28), (30, 38, 52), (36, 58, 88), (54, 92, 138), (100, 160, 206), (40, 78, 160),
         (165, 168, 172))
IRISES = ((30, 48, 70), (40, 75, 110), (150, 120, 80), (110, 130, 90), (120, 115, 105), (30, 40, 55))
RIMS = ((30, 30, 34), (40, 52, 90), (120, 120, 125))
# Quick: noise repeats nothing that a search could find.
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY)
STYLES_OF = (("bald", "buzz", "short", "short", "side", "fringe", "receding", "curly"),
             ("side", "fringe", "bun", "curly", "bob", "long"))


def draw_face(subject: int, expression: int, frame: int, frames: int = 5, seed: int = 0
              ) -> tuple[np.ndarray, np.ndarray]:
    """One frame of a sequence from neutral to the peak. subject, expression, frame: indices from 0.

    Returns the image, uint8 (256, 256, 3) BGR, and the landmarks, float32 (5, 2): x, y in pixels of the left
    eye's centre, the right eye's, the nose's tip, the mouth's left and right corner (left in the image). The
    same arguments always give the same bytes. Raises ValueError on what is out of range.
    """
    if subject < 0 or not 0 <= expression < len(SEVEN) or not 0 <= frame < frames or frames < 2:
        raise ValueError(f"subject {subject}, expression {expression}, frame {frame} of {frames}; expected subject "
                         ">= 0, 0 <= expression "
                         f"< {len(SEVEN)}, 0 <= frame < frames, frames >= 2")
    person = _person(seed, subject)
    sequence = RandomState([seed, subject, expression])
    instant = RandomState([seed, subject, expression, frame])
    units = _units(person, expression, _intensity(frame, frames), sequence, instant)
    return drawing.draw(person, units, sequence, instant)


def _intensity(frame: int, frames: int) -> float:
    """0 in the first frame, .75 to 1 in the last three."""
    peak = max(1, frames - 3)
    return .75 * frame / peak if frame < peak else 1 - .25 * (frames - 1 - frame) / max(1, frames - 1 - peak)


@functools.lru_cache(maxsize=64)
def _person(seed: int, subject: int) -> SimpleNamespace:
    rng = RandomState([seed, subject])
    person = SimpleNamespace(**{trait: mean + deviation * np.clip(rng.normal(), -2, 2)
                                for trait, (mean, deviation) in TRAITS.items()})
    woman, tone = rng.randint(2), rng.uniform(0, len(SKINS) - 1)
    person.age = np.clip(person.age, 0, 1)
    person.skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
    person.lips = mix(person.skin, LIPS, rng.uniform(.2, .38) + .25 * woman)
    grey = person.age > .65 and rng.uniform() < .6
    person.hair = np.array(HAIRS[6 if grey else rng.randint(2 if tone > 4 else 6)])
    person.iris_colour = IRISES[5 * rng.randint(2) if tone > 4 else rng.randint(5)]
    person.style = STYLES_OF[woman][rng.randint(len(STYLES_OF[woman]))]
    person.beard = "" if woman else ("", "stubble", "moustache", "full")[rng.choice(4, p=(.45, .2, .15, .2))]
    person.glasses = ("", "", "", "square", "round")[rng.randint(5)]
    person.rim = RIMS[rng.randint(len(RIMS))]
    if woman:
        person.brow_thick *= .75
        person.lash += 1
        person.jaw -= .05
    person.backdrop, person.shirt = rng.uniform(60, 215) + rng.normal(0, 14, 3), rng.uniform(25, 220, 3)
    person.parting = rng.choice((-1, 1))
    person.strands = rng.uniform(0, 1, (4, 70))
    person.freckles = rng.uniform(-1, 1, (24, 2)) if rng.uniform() < .25 else ()
    person.variants = [variants[rng.randint(len(variants))] for variants in VARIANTS]
    # How strongly a unit answers, and how unevenly on the two sides.
    person.answers = (person.gain * np.clip(rng.normal(1, .22, 28), .5, 1.4)
                      * np.clip(rng.normal(1, .08, (2, 28)), .8, 1.2))
    return person


def _units(person, expression: int, intensity: float, sequence, instant) -> np.ndarray:
    """(2, 28): the intensity on each side of each action unit, by its number."""
    units = np.zeros((2, 28))
    for unit, strength in person.variants[expression].items():
        units[:, unit] = strength
    # Nobody holds quite still: a little of everything, all the time.
    idle = np.abs(sequence.normal(0, .07, 28)) + np.abs(instant.normal(0, .02, 28))
    idle[25:] *= .3
    return np.clip(units * person.answers * intensity * sequence.normal(1, .08) + idle, 0, 1.25)


def split_of(subject: int, subjects: int) -> str:
    """"train", "val" or "test" (4/6, 1/6 and 1/6 of the subjects) for the subject's index, from 0."""
    held_out = min(max(1, (subjects + 3) // 6), (subjects - 1) // 2)
    if subject < subjects - 2 * held_out:
        return "train"
    return "val" if subject < subjects - held_out else "test"


def write(folder: str, subjects: int = 60, frames: int = 5, seed: int = 0,
          processes: int = os.cpu_count() or 1, classes: int = len(SEVEN)) -> list[Face]:
    """Draws the set into folder/S001/angry/000.png ... and returns the manifest's rows, in a fixed order.

    classes: the first so many expressions are drawn.
    Only the last three frames of a sequence have a split: those before show too little of its expression.
    Raises OSError that names the file where an image can't be written.
    """
    jobs = [(folder, subject, expression, frames, seed, split_of(subject, subjects))
            for subject in range(subjects) for expression in range(classes)]
    faces = []
    with progress.bar("drawing", len(jobs) * frames) as bar:
        for rows in children.in_order(processes, lambda: None, (), _write_sequence, jobs):
            faces += rows
            bar.update(frames)
    return faces


def _write_sequence(job) -> list[Face]:
    folder, subject, expression, frames, seed, split = job
    name, class_name = f"S{subject + 1:03d}", SEVEN[expression]
    os.makedirs(os.path.join(folder, name, class_name), exist_ok=True)
    faces = []
    for frame in range(frames):
        image, landmarks = draw_face(subject, expression, frame, frames, seed)
        relative = "/".join((name, class_name, f"{frame:03d}.png"))
        path = os.path.join(folder, relative)
        if not cv2.imwrite(path, image, PNG):
            raise OSError(f"{path}: could not write the image")
        role = "neutral" if frame == 0 or class_name == "neutral" else "peak" if frame >= frames - 3 else ""
        faces.append(Face(relative, None, expression, class_name, name, name + "_" + class_name, frame, role,
                          split if frame >= frames - 3 else "",
                          landmarks=tuple(round(float(value), 2) for value in landmarks.ravel())))
    return faces


def read(source: Optional[str], protocol: str, folder: str, processes: int) -> Dataset:
    """Draws the default set into folder/faces; there is no source.

    With folds, no frame has a split, and only those are rows that a fold takes: peaks, and in pairs the neutral
    first frames.
    """
    if source is not None:
        raise UserError(f"{source}: the synthetic faces are drawn, not read; leave the source out")
    chosen = PROTOCOLS[protocol]
    faces = [face._replace(path="faces/" + face.path) for face in write(
        os.path.join(folder, "faces"), processes=processes, classes=len(chosen.classes))]
    if chosen.folds:
        faces = [face._replace(split="") for face in faces if face.split or (chosen.pairs and face.role == "neutral")]
    return Dataset("synthetic", chosen.classes, faces, lambda face: read_image(os.path.join(folder, face.path)))
