"""The frames of a sequence with the largest deformation of the face, measured by the landmarks.

[xie2019a] III-A takes "three images with the largest deformation response" of each sequence, and does not define it.
"""
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.errors import UserError
from data_prep.manifest import Dataset, Face
from data_prep.survey import survey

# In a partial folder: the results of the survey of all frames so far.
FILE = "frames.csv"


def largest(dataset: Dataset, sequences: dict[str, list[Face]], count: int, folder: str, processes: int) -> list[Face]:
    """The `count` frames of each sequence with the largest deformation, with their landmarks, in the order of frames.

    dataset: loads the frames; sequences: name of the sequence in messages -> all of its frames in order. Frames without
    a face are ignored. folder: the results for all frames are collected in its FILE, and a later call continues after
    them. Raises UserError with the names of the sequences that have fewer than `count` frames with a face.
    """
    frames = [frame for sequence in sequences.values() for frame in sequence]
    with_face, _ = survey(replace(dataset, faces=frames), os.path.join(folder, FILE), True, processes, "frames")
    landmarks = {frame.source: frame.landmarks for frame in with_face if frame.landmarks}
    peaks, too_short = [], []
    for where, sequence in sequences.items():
        points = [landmarks[frame.source] for frame in sequence if frame.source in landmarks]
        usable = [frame._replace(landmarks=landmarks[frame.source]) for frame in sequence if frame.source in landmarks]
        if len(usable) < count:
            too_short.append(f"{where} ({len(usable)} of {len(sequence)})")
            continue
        values = deformations(points, usable[0].source)
        # A stable sort: of equal values the earlier frame comes first.
        order = np.argsort(-values, kind="stable")[:count]
        peaks += [usable[index] for index in sorted(order)]
    if too_short:
        raise UserError("{}: frames in which a face is found, expected at least {} in each sequence".format(
            ", ".join(too_short), count))
    return peaks


def deformations(landmarks: Sequence[Sequence[float]], where: str) -> np.ndarray:
    """The mean distance of the five points of each frame from those of the first frame, float64 (M,), in eye distances
    of the first frame.

    landmarks: (M, 10), x1, y1, ... of each frame, in pixels. Raises UserError that names `where` if both eyes of the
    first frame lie on one point.
    """
    points = np.reshape(landmarks, (-1, 5, 2)).astype(float)
    eyes = np.linalg.norm(points[0, 1] - points[0, 0])
    if not eyes:
        raise UserError(f"{where}: both eyes lie on one point")
    return np.linalg.norm(points - points[0], axis=2).mean(axis=1) / eyes
