"""MMI (Pantic et al., 2005; Valstar & Pantic, 2010): sequences neutral - peak - neutral, as videos.

The layout is known from two public readers, not from the data itself. A session is a folder Sessions/<number>/ with
session.xml, the video S002-106.avi and its annotation S002-106.xml. The subject is S002. The annotation has <Metatag
Name="Emotion" Value="1"/>: 1 anger, 2 disgust, 3 fear, 4 happiness, 5 sadness, 6 surprise. Sessions with other values,
or without this tag (action units), are no samples. session.xml has <track view="0"/>: 0 frontal, 1 profile, 2 both in
one frame by a mirror (face detection takes the largest face). In frontal videos the frames lie on their side, with the
head to the left, except where session.xml names an annotation *-oao_aucs.xml.
"""
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

import cv2
import numpy as np

from common import files
from common.errors import UserError
from common.expressions import SIX
from data_prep import deformation
from data_prep.datasets import DEFORMATION, FRAMES, MIDDLE, Protocol, trees
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

# [xie2019a] and [xie2019b] use 205 of the 208 sequences with a frontal view; they do not tell which.
XIE = Protocol(SIX, {"images": 615, "units": 205}, "template", "xie2019a", folds=10,
               features=("gsf", "sift"), geometry="literal", template="ckplus", frames=FRAMES,
               printed_frames=DEFORMATION)
# "Three peak frames" may mean either way.
SPARSE = replace(XIE, crops="xie2019b-mmi", features=(), validation="none", printed_frames="")
PROTOCOLS = {"xie2019a": XIE,
             "xie2019b": SPARSE,
             "xie2019b_whole": replace(SPARSE, folds=0),
             "liu2017": Protocol(SIX, {"images": 624, "subjects": 31}, "template", "liu2017", folds=10,
                                 unit="image", frames=FRAMES, printed_frames=MIDDLE)}
EXPRESSIONS = {"1": "angry", "2": "disgust", "3": "fear", "4": "happy", "5": "sad", "6": "surprise"}
FRONTAL, PROFILE = "0", "1"


@dataclass(frozen=True)
class _Session:
    """A session that shows an expression in a frontal view."""

    # Folder, relative to the root of the data set.
    path: str
    # Name of the video and its annotation, without suffix.
    name: str
    label: int
    # Whether the frames lie on their side.
    turned: bool


def read(source: str, protocol: str, folder: str, processes: int, frames: str = MIDDLE) -> Dataset:
    """source: the folder `Sessions`, or the folder that holds it. A session holds its video, or a folder of the same
    name with the frames as images (S002-106/S002-106_00001.jpg).

    The samples are three frames of each sequence with a frontal view. frames: MIDDLE for the frames in the middle, or
    DEFORMATION for the frames of largest deformation (`deformation.largest`), which needs the landmarks of all frames.
    The row of a video's frame is its number, from 1. Frames that lie on their side are turned upright. Raises UserError
    with the file on unreadable XML or videos, missing files, and a sequence of too few frames.
    """
    root = trees.find(source, "Sessions", ".")
    sequences: dict[str, list[Face]] = {}
    middle: list[Face] = []
    turned: set[str] = set()
    videos = _Videos()
    for session in _sessions(source, root):
        where, faces = _frames(source, session)
        sequences[where] = faces
        middle += trees.middle(faces, where)
        turned.update(face.path for face in faces if session.turned)
    dataset = trees.dataset("mmi", SIX, source, middle, "Sessions/<number>/ with session.xml, S002-106.avi "
                            "and S002-106.xml")
    dataset = replace(dataset, load=lambda face: _load(source, videos, face, face.path in turned))
    if frames == MIDDLE:
        return dataset
    return replace(dataset, faces=deformation.largest(dataset, sequences, trees.PEAKS, folder, processes))


def _sessions(source: str, root: str) -> Iterator[_Session]:
    for number in trees.folders(source, root):
        path = os.path.normpath(os.path.join(root, number))
        for name in trees.entries(source, path):
            emotion = None
            if name.endswith(".xml") and name != "session.xml":
                emotion = _emotion(os.path.join(source, path, name))
            if emotion is None:
                continue
            view, upright = _view(os.path.join(source, path, "session.xml"))
            if view != PROFILE:
                yield _Session(path, name[:-len(".xml")], SIX.index(emotion), view == FRONTAL and not upright)


def _emotion(path: str) -> Optional[str]:
    for element in _elements(path, "Metatag"):
        if element.get("Name") == "Emotion":
            return EXPRESSIONS.get(element.get("Value", "").strip())
    return None


def _view(path: str) -> tuple[Optional[str], bool]:
    """The view of the first track, and whether its frames are upright."""
    views = [track.get("view") for track in _elements(path, "track") if track.get("view")]
    if not views:
        raise UserError(f'{path}: no <track view="..."/>')
    return views[0], any("oao_aucs" in element.get("filename", "") for element in _elements(path, "annotation"))


def _elements(path: str, tag: str) -> list[ElementTree.Element]:
    """The elements with a tag, in any namespace."""
    try:
        tree = ElementTree.parse(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"{path}: not readable XML: {error}") from None
    return [element for element in tree.iter() if element.tag.rpartition("}")[2] == tag]


def _frames(source: str, session: _Session) -> tuple[str, list[Face]]:
    """The file or folder of a sequence, and all of its frames."""
    subject = re.match(r"S\d+(?=-)", session.name)
    if not subject:
        raise UserError("{}: expected a name like S002-106.xml".format(
            os.path.join(source, session.path, session.name + ".xml")))
    like = Face("", None, session.label, SIX[session.label], subject.group(), session.name, role="peak")
    folder = os.path.join(session.path, session.name)
    if os.path.isdir(os.path.join(source, folder)):
        return os.path.join(source, folder), [like._replace(path=frame.path, frame=frame.number)
                                              for frame in trees.frames(source, folder)]
    path = folder + ".avi"
    where = os.path.join(source, path)
    return where, [like._replace(path=path, row=number, frame=number) for number in range(1, _length(where) + 1)]


def _length(path: str) -> int:
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file")
    files.require_text(path)
    video = cv2.VideoCapture(path)
    length = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    if length <= 0:
        raise UserError(f"{path}: not a readable video")
    return length


def _load(source: str, videos: "_Videos", face: Face, turned: bool) -> np.ndarray:
    path = os.path.join(source, face.path)
    image = read_image(path) if face.row is None else videos.frame(path, face.row)
    on_its_side = turned and image.shape[1] > image.shape[0]
    return cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE) if on_its_side else image


class _Videos:
    """Reads frames of videos. The last video stays open, so reading its frames in order is one pass over it."""

    def __init__(self) -> None:
        self._open: Optional[tuple[int, str]] = None
        self._video = cv2.VideoCapture()
        self._next = 1

    def frame(self, path: str, number: int) -> np.ndarray:
        """A frame, uint8 (height, width, 3) BGR. number: from 1. Raises UserError if it cannot be read."""
        # A forked process would share the position in the file with its parent.
        key = os.getpid(), path
        if key != self._open or number < self._next:
            self._open, self._video, self._next = key, cv2.VideoCapture(path), 1
        # Some codecs do not set the position exactly, so frames are skipped one by one.
        for _ in range(number - self._next):
            self._video.grab()
        is_read, image = self._video.read()
        self._next = number + 1
        if not is_read:
            raise UserError(f"{path}:{number}: not a readable frame")
        return image
