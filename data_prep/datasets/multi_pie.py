"""CMU Multi-PIE (Gross et al., 2010): 337 subjects in up to four sessions, 15 cameras, 20 flashes.

The expression of a recording depends on the session. Both tables are from Idiap's `bob.db.multipie`.
"""
import os
import re
from collections.abc import Iterator

from common.errors import UserError
from data_prep.datasets import Protocol, trees
from data_prep.manifest import Dataset, Face

CLASSES = ("disgust", "happy", "surprise", "neutral")
# The second pre-training of [liu2017]: training images only; the paper does not tell which images it counts. It selects
# the weights by accuracy, so a tenth of the images is held out.
PROTOCOLS = {"liu2017": Protocol(CLASSES, {"train": 204156}, "template", "liu2017", hold_out=0.1)}
# (Session, recording) -> class; squint (2, 3) and scream (4, 3) are left out.
EXPRESSIONS = {(1, 1): "neutral", (1, 2): "happy", (2, 1): "neutral", (2, 2): "surprise", (3, 1): "neutral",
               (3, 2): "happy", (3, 3): "disgust", (4, 1): "neutral", (4, 2): "neutral"}
# From 45 degrees on one side to 45 degrees on the other, in steps of 15 degrees, all at the height of the head.
CAMERAS = ("08_0", "13_0", "14_0", "05_1", "05_0", "04_1", "19_0")


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: the folder of `session01` to `session04`, or the folder above `data`, which holds them:
    session01/multiview/<subject>/<recording>/<camera>/001_01_01_051_00.png.

    Raises UserError on an image with another name, and where there is no image.
    """
    root = trees.find(source, "data", ".")
    faces: list[Face] = []
    for session in trees.folders(source, root):
        if not re.fullmatch(r"session0[1-4]", session):
            continue
        path = os.path.normpath(os.path.join(root, session, "multiview"))
        for subject in trees.folders(source, path):
            faces += _subject(source, os.path.join(path, subject), subject, session[-2:])
    return trees.dataset("multi_pie", CLASSES, source, faces, "session01/multiview/001/01/05_1/001_01_01_051_00.png")


def _subject(source: str, path: str, subject: str, session: str) -> Iterator[Face]:
    for recording in trees.folders(source, path):
        name = EXPRESSIONS.get((int(session), int(recording))) if recording.isdigit() else None
        if name is None:
            continue
        cameras = trees.folders(source, os.path.join(path, recording))
        for camera in [camera for camera in CAMERAS if camera in cameras]:
            begin = "_".join((subject, session, recording, camera.replace("_", "")))
            for image in trees.images(source, os.path.join(path, recording, camera)):
                if not re.fullmatch(re.escape(begin) + r"_\d\d\.\w+", os.path.basename(image)):
                    raise UserError(f"{os.path.join(source, image)}: expected a name like {begin}_00.png")
                yield Face(image, None, CLASSES.index(name), name, subject, split="train")
