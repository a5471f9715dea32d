"""CK+, the extended Cohn-Kanade data set (Lucey et al., 2010): sequences from a neutral face to the peak.

Each subject has a folder of sequences. Each labelled sequence (327 of 593) has a text file with the number of its
expression.
"""
import os
from collections.abc import Iterator
from dataclasses import replace

from common.errors import UserError
from common.expressions import SEVEN, SIX_AND_CONTEMPT
from data_prep.datasets import Protocol, trees
from data_prep.manifest import Dataset, Face

IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images", "extended-cohn-kanade-images")
LABELS = ("Emotion", "Emotion_labels/Emotion", "Emotion_labels")
# By the data set's own numbers, from 1.
EXPRESSIONS = ("angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
XIE = Protocol(SEVEN, {"images": 1033, "units": 415, "subjects": 106}, "template", "xie2019a", folds=10,
               features=("gsf", "sift"), geometry="literal", template="ckplus")
SPARSE = replace(XIE, crops="xie2019b-ckplus", features=(), validation="none")
# [liu2017] prints 921 images; three of each of its 327 sequences are 981.
PROTOCOLS = {
    "xie2019a": XIE,
    "xie2019b": SPARSE,
    "xie2019b_whole": replace(SPARSE, folds=0),
    "liu2017": Protocol(SIX_AND_CONTEMPT, {"images": 981, "units": 327, "subjects": 118}, "template", "liu2017",
                        folds=8),
    "wu2023": Protocol(SIX_AND_CONTEMPT, {"images": 981, "subjects": 118}, "box", "wu2023", folds=10, pairs=True,
                       unit="image", validation="none")}


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: the folder that holds `cohn-kanade-images` and `Emotion`, also in the nestings in circulation.

    The samples are the last three frames of each labelled sequence. Where neutral is a class, contempt is left out, and
    the first frame of each subject's first sequence is a unit of its own, `S005_neutral`. In pairs, the first frame of
    each sequence is its neutral reference. Raises UserError with the file on an unreadable label, missing frames, and a
    folder that is not CK+.
    """
    settings = PROTOCOLS[protocol]
    root = trees.find(source, *IMAGES)
    faces: list[Face] = []
    subjects: set[str] = set()
    for subject, sequence, name in _labelled(source):
        if name not in settings.classes:
            continue
        path = os.path.join(root, subject, sequence)
        like = Face("", None, settings.classes.index(name), name, subject, f"{subject}_{sequence}")
        alone = "neutral" in settings.classes and subject not in subjects
        subjects.add(subject)
        samples = trees.peak_faces(source, path, alone or settings.pairs, like)
        if alone:
            samples[0] = samples[0]._replace(label=settings.classes.index("neutral"), class_name="neutral",
                                             sequence=subject + "_neutral")
        faces += samples
    return trees.dataset("ckplus", settings.classes, source, faces, "labels Emotion/S005/001/*_emotion.txt")


def _labelled(source: str) -> Iterator[tuple[str, str, str]]:
    """Subject, sequence and expression of each labelled sequence."""
    root = trees.find(source, *LABELS)
    for subject in trees.folders(source, root):
        for sequence in trees.folders(source, os.path.join(root, subject)):
            path = os.path.join(root, subject, sequence)
            labels = [name for name in trees.entries(source, path) if name.endswith(".txt")]
            if len(labels) > 1:
                raise UserError(f"{os.path.join(source, path)}: {len(labels)} labels, expected one")
            if labels:
                yield subject, sequence, _expression(os.path.join(source, path, labels[0]))


def _expression(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            code = float(stream.read())
    except (OSError, ValueError):
        raise UserError(f"{path}: not a readable label, expected a number from 1 to 7") from None
    if code not in range(1, len(EXPRESSIONS) + 1):
        raise UserError(f"{path}: unknown label {code:g}, expected 1 to {len(EXPRESSIONS)}")
    return EXPRESSIONS[int(code) - 1]
