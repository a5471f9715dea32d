"""Synthetic faces: a stand-in for a facial expression data set in the demo and the tests.

A face is a person (`synthetic_person`) with action units, drawn by `synthetic_drawing`. At rest, people differ by more
than an expression moves their faces (brows that look angry, mouths that droop), so unseen persons are hard.
"""
import os
from typing import Optional

import cv2
import numpy as np
from numpy.random import RandomState

from common import children, progress
from common.errors import UserError
from common.expressions import SEVEN, SIX
from data_prep.datasets import Protocol, synthetic_drawing, synthetic_person
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

# The last three frames of each sequence are samples.
COUNTS = {"train": 840, "val": 210, "test": 210}
# Without the neutral sequences; neutral references are no samples.
FOLDED = {"images": 1080, "subjects": 60}
PROTOCOLS = {"plain": Protocol(SEVEN, COUNTS, features=("gabor",)),
             "xie2019a": Protocol(SEVEN, COUNTS, "template", "xie2019a"),
             "liu2017": Protocol(SEVEN, {"images": 1260, "units": 420, "subjects": 60}, "template", "liu2017",
                                 folds=6),
             "farzaneh2021": Protocol(SIX, FOLDED, "box", "farzaneh2021-small", folds=5, unit="image"),
             "wu2023": Protocol(SIX, FOLDED, "box", "wu2023-small", folds=5, pairs=True, unit="image")}
# Fast settings: noise has no repetitions that a search could find.
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY)


def draw_face(subject: int, expression: int, frame: int, frames: int = 5, seed: int = 0
              ) -> tuple[np.ndarray, np.ndarray]:
    """Draws one frame of a sequence from neutral to the peak. subject, expression, frame: indices from 0.

    Returns the image, uint8 (256, 256, 3) BGR, and the landmarks, float32 (5, 2), x and y in pixels: centre of the left
    eye, centre of the right eye, tip of the nose, left and right corner of the mouth (left in the image). The same
    arguments always give the same bytes. Raises ValueError if an argument is out of range.
    """
    if subject < 0 or not 0 <= expression < len(SEVEN) or not 0 <= frame < frames or frames < 2:
        raise ValueError(f"subject {subject}, expression {expression}, frame {frame} of {frames}; expected subject "
                         f">= 0, 0 <= expression < {len(SEVEN)}, 0 <= frame < frames, frames >= 2")
    person = synthetic_person.person(seed, subject)
    sequence = RandomState([seed, subject, expression])
    instant = RandomState([seed, subject, expression, frame])
    units = synthetic_person.action_units(person, expression, _intensity(frame, frames), sequence, instant)
    return synthetic_drawing.draw(person, units, sequence, instant)


def _intensity(frame: int, frames: int) -> float:
    """The intensity of the expression: 0 in the first frame, .75 to 1 in the last three."""
    peak = max(1, frames - 3)
    return .75 * frame / peak if frame < peak else 1 - .25 * (frames - 1 - frame) / max(1, frames - 1 - peak)


def split_of(subject: int, subjects: int) -> str:
    """The split of a subject, by its index from 0: "train", "val" or "test" (4/6, 1/6 and 1/6 of the subjects)."""
    held_out = min(max(1, (subjects + 3) // 6), (subjects - 1) // 2)
    if subject < subjects - 2 * held_out:
        return "train"
    return "val" if subject < subjects - held_out else "test"


def write(folder: str, subjects: int = 60, frames: int = 5, seed: int = 0,
          processes: int = os.cpu_count() or 1, classes: int = len(SEVEN)) -> list[Face]:
    """Draws the data set into folder/S001/angry/000.png ... and returns the rows of its manifest, in a fixed order.

    frames: in each sequence; classes: number of expressions to draw. Only the last three frames of a sequence have a
    split; the frames before show too little of the expression. Raises OSError that names the file if an image cannot be
    written.
    """
    jobs = [(folder, subject, expression, frames, seed, split_of(subject, subjects))
            for subject in range(subjects) for expression in range(classes)]
    faces = []
    with progress.bar("drawing", len(jobs) * frames) as bar:
        for rows in children.in_order(processes, lambda: None, (), _write_sequence, jobs):
            faces += rows
            bar.update(frames)
    return faces


def _write_sequence(job: tuple[str, int, int, int, int, str]) -> list[Face]:
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
    """Draws the default data set into folder/faces. source: None; raises UserError if there is one.

    With folds, no frame has a split, and only peak frames, and in pairs the neutral first frames, are rows.
    """
    if source is not None:
        raise UserError(f"{source}: the synthetic faces are drawn, not read; give no source")
    settings = PROTOCOLS[protocol]
    faces = [face._replace(path="faces/" + face.path) for face in write(
        os.path.join(folder, "faces"), processes=processes, classes=len(settings.classes))]
    if settings.folds:
        faces = [face._replace(split="") for face in faces if face.split or (settings.pairs and face.role == "neutral")]
    return Dataset("synthetic", settings.classes, faces, lambda face: read_image(os.path.join(folder, face.path)))
