"""The frames of a sequence in which its face is deformed the most, told by the landmarks.

[xie2019a] III-A takes "three images with the largest deformation response" of each sequence and says no more of it.
"""
import os
from collections.abc import Sequence

import numpy as np

from common.errors import UserError
from data_prep.manifest import Dataset, Face
from data_prep.survey import survey

# In a partial folder: what the survey of all frames has found so far.
FILE = "frames.csv"


def largest(dataset: Dataset, sequences: dict[str, list[Face]], count: int, folder: str, processes: int) -> list[Face]:
    """The `count` frames of each sequence with the largest deformation, with their landmarks, in the order of frames.

    dataset: it loads the frames; sequences: name for people -> all frames in order. A frame without a face is passed
    over. folder: the results for each frame are collected in its FILE, and a later call goes on behind them.
    Raises UserError with the names of the sequences that have fewer than `count` frames with a face.
    """
    frames = [frame for found in sequences.values() for frame in found]
    found, _ = survey(dataset._replace(faces=frames), os.path.join(folder, FILE), True, processes, "frames")
    landmarks = {frame.source: frame.landmarks for frame in found}
    chosen, short = [], []
    for where, sequence in sequences.items():
        shown = [frame._replace(landmarks=landmarks[frame.source]) for frame in sequence if frame.source in landmarks]
        if len(shown) < count:
            short.append(f"{where} ({len(shown)} of {len(sequence)})")
            continue
        values = deformations([frame.landmarks for frame in shown], shown[0].source)
        # A stable sort: of equal values the earlier frame comes first.
        order = np.argsort(-values, kind="stable")[:count]
        chosen += [shown[index] for index in sorted(order)]
    if short:
        raise UserError("{}: frames in which a face is found, expected at least {} in a sequence".format(
            ", ".join(short), count))
    return chosen


def deformations(landmarks: Sequence[Sequence[float]], where: str) -> np.ndarray:
    """float64 (M,): the mean distance of the five points from those of the first frame, in eye distances of that one.

    landmarks: (M, 10), x1, y1, ... of each frame, in pixels. Raises UserError that names `where` if both eyes of the
    first frame lie on one point.
    """
    points = np.reshape(landmarks, (-1, 5, 2)).astype(float)
    eyes = np.linalg.norm(points[0, 1] - points[0, 0])
    if not eyes:
        raise UserError(f"{where}: both eyes lie on one point")
    return np.linalg.norm(points - points[0], axis=2).mean(axis=1) / eyes
