"""Assigns images to training, validation and test: person-independent folds, and held-out images."""
import collections
from collections.abc import Sequence
from typing import Optional

import numpy as np

from common.errors import UserError
from data_prep.manifest import Face


def assign(faces: Sequence[Face], folds: int, where: str) -> list[Face]:
    """Faces with their fold, from 1. All images of a subject are in one fold; the folds have nearly equal numbers of
    subjects and of images.

    Deterministic: subjects with most images come first, and each goes to the fold with the fewest subjects, then the
    fewest images. Raises UserError on a face without a subject or with a split, and if there are fewer subjects than
    folds.
    """
    sizes: dict[str, int] = collections.Counter()
    for face in faces:
        if face.split:
            raise UserError(f"{where}: {face.source} is in the split {face.split}, and folds are made of data without "
                            "splits")
        if not face.subject:
            raise UserError(f"{where}: {face.source} has no subject, which person-independent folds need (--subjects, "
                            "or for data of your own --subject-pattern)")
        sizes[face.subject] += 1
    if len(sizes) < folds:
        raise UserError(f"{where}: {len(sizes)} subjects, fewer than {folds} folds")
    loads = [[0, 0, fold] for fold in range(1, folds + 1)]
    fold_of = {}
    for subject, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        least = min(loads)
        least[0] += 1
        least[1] += size
        fold_of[subject] = least[2]
    return [face._replace(fold=fold_of[face.subject]) for face in faces]


def split(faces: Sequence[Face], fold: int, folds: int, pairs: bool, validation: str = "fold") -> list[Face]:
    """Faces with their split, where `fold` of 1 ... `folds` is the test split.

    validation: "fold", the next fold is for validation and the others are for training ([xie2019a] III-A); "none", all
    other folds are for training ([xie2019b] 3.1). With `pairs`, neutral frames are references and in no split.
    """
    names: dict[Optional[int], str] = {fold: "test"}
    if validation == "fold":
        names[fold % folds + 1] = "val"
    return [face._replace(split="" if pairs and face.role == "neutral" else names.get(face.fold, "train"))
            for face in faces]


def hold_out(faces: Sequence[Face], share: float, seed: int, photographs: bool = False) -> list[Face]:
    """Faces with about `share` of the training images of each class moved to the validation split, whole subjects at a
    time; of `photographs`, all faces of one at a time."""
    groups: dict[int, dict[str, list[int]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    label_of: dict[str, int] = {}
    for row, face in enumerate(faces):
        if face.split == "train":
            name = face.subject or (face.path if photographs else face.unit)
            groups[label_of.setdefault(name, face.label)][name].append(row)
    held_out: set[int] = set()
    for label in sorted(groups):
        names = sorted(groups[label])
        np.random.RandomState((seed, label)).shuffle(names)
        wanted = share * sum(len(rows) for rows in groups[label].values())
        taken = 0
        for name in names:
            if taken + len(groups[label][name]) / 2 > wanted:
                break
            taken += len(groups[label][name])
            held_out.update(groups[label][name])
    return [face._replace(split="val") if row in held_out else face for row, face in enumerate(faces)]
