"""MMI (Pantic et al., 2005; Valstar & Pantic, 2010): sequences neutral - peak - neutral, as videos.

What is known of the layout comes from two public readers of it, not from the data: sessions Sessions/<number>/, with
session.xml, the video S002-106.avi and its annotation S002-106.xml beside each other. The subject is S002. The
annotation says <Metatag Name="Emotion" Value="1"/>: 1 anger, 2 disgust, 3 fear, 4 happiness, 5 sadness, 6 surprise;
other values and sessions without it (action units) are no samples. session.xml says <track view="0"/>: 0 frontal,
1 profile, 2 both in one frame by a mirror (face detection takes the largest face). Frontal videos lie on their side,
the head to the left, except those that session.xml gives an annotation *-oao_aucs.xml.
"""
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import NamedTuple, Optional

import cv2
import numpy as np

from common.errors import UserError
from common.expressions import SIX
from data_prep import deformation
from data_prep.datasets import DEFORMATION, FRAMES, MIDDLE, Protocol, trees
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

# Which 205 of the 208 sequences with a frontal view [xie2019a] and [xie2019b] use is not told.
XIE = Protocol(SIX, {"images": 615, "units": 205}, "template", "xie2019a", folds=10,
               features=("gsf", "sift"), geometry="literal", template="ckplus", frames=FRAMES,
               printed_frames=DEFORMATION)
# "Three peak frames" may be either.
SPARSE = XIE._replace(crops="xie2019b-mmi", features=(), validation="none", printed_frames="")
PROTOCOLS = {"xie2019a": XIE,
             "xie2019b": SPARSE,
             "xie2019b_whole": SPARSE._replace(folds=0),
             "liu2017": Protocol(SIX, {"images": 624, "subjects": 31}, "template", "liu2017", folds=10,
                                 unit="image", frames=FRAMES, printed_frames=MIDDLE)}
EXPRESSIONS = {"1": "angry", "2": "disgust", "3": "fear", "4": "happy", "5": "sad", "6": "surprise"}
FRONTAL, PROFILE = "0", "1"


class _Session(NamedTuple):
    """path: folder; name: of video and annotation, without suffix; turned: whether its frames lie on their side."""

    path: str
    name: str
    label: int
    turned: bool


def read(source: str, protocol: str, folder: str, processes: int, frames: str = MIDDLE) -> Dataset:
    """source: the folder `Sessions`, or the one that holds it. A session holds its video, or a folder of the video's
    name with the frames as images (S002-106/S002-106_00001.jpg).

    Three frames of each sequence with a frontal view: frames: MIDDLE, or DEFORMATION for those of the largest
    (`deformation.largest`), for which the landmarks of all frames are looked for. A frame of a video has its number,
    from 1, as row. Frames that lie on their side are set upright.
    Raises UserError with the file on XML or a video that can't be read, on missing files, and on a sequence of fewer
    frames.
    """
    root = trees.find(source, "Sessions", ".")
    sequences: dict[str, list[Face]] = {}
    middle, turned, videos = [], set(), _Videos()
    for session in _sessions(source, root):
        where, found = _frames(source, session)
        sequences[where] = found
        middle += trees.middle(found, where)
        turned.update(face.path for face in found if session.turned)
    dataset = trees.dataset("mmi", SIX, source, middle, "Sessions/<number>/ with session.xml, S002-106.avi "
                            "and S002-106.xml")
    dataset = dataset._replace(load=lambda face: _load(source, videos, face, face.path in turned))
    if frames == MIDDLE:
        return dataset
    return dataset._replace(faces=deformation.largest(dataset, sequences, trees.PEAKS, folder, processes))


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


def _view(path: str):
    """The first track's view, and whether its frames are upright."""
    views = [track.get("view") for track in _elements(path, "track") if track.get("view")]
    if not views:
        raise UserError(f'{path}: no <track view="..."/>')
    return views[0], any("oao_aucs" in element.get("filename", "") for element in _elements(path, "annotation"))


def _elements(path: str, tag: str) -> list:
    """Elements of that name, whatever their namespace."""
    try:
        tree = ElementTree.parse(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"{path}: not readable XML: {error}") from None
    return [element for element in tree.iter() if element.tag.rpartition("}")[2] == tag]


def _frames(source: str, session: _Session) -> tuple[str, list[Face]]:
    """The file or folder of a sequence, and all its frames."""
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
    """Frames of videos. The last video stays open, so that its frames in order are one pass over it."""

    def __init__(self):
        self._open, self._video, self._next = None, None, 1

    def frame(self, path: str, number: int) -> np.ndarray:
        """number: from 1. Raises UserError with the file and the number where there is none."""
        # A forked process would share the file's position with its parent.
        key = os.getpid(), path
        if key != self._open or number < self._next:
            self._open, self._video, self._next = key, cv2.VideoCapture(path), 1
        # Setting the position is not exact in every codec.
        for _ in range(number - self._next):
            self._video.grab()
        found, image = self._video.read()
        self._next = number + 1
        if not found:
            raise UserError(f"{path}:{number}: not a readable frame")
        return image
