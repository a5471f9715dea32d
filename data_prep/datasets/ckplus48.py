"""CK+48: the peak frames of CK+ as faces of 48x48 pixels, in the folder version in circulation.

It does not come from CK+'s authors. The name of a file holds subject, sequence and frame: `S010_004_00000017.png`.
"""
import os
import re

from common.errors import UserError
from common.expressions import SIX_AND_CONTEMPT
from data_prep.datasets import Protocol, trees
from data_prep.manifest import Dataset, Face

COUNTS = {"images": 981, "units": 327, "subjects": 118}
PROTOCOLS = {"plain": Protocol(SIX_AND_CONTEMPT, COUNTS, folds=10, features=("gabor",)),
             "liu2017": Protocol(SIX_AND_CONTEMPT, COUNTS, crops="liu2017", folds=8)}


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: the folder `CK+48` of <expression>/<image>, or the one that holds it.

    Raises UserError on an unknown expression and a name without subject and sequence.
    """
    classes = PROTOCOLS[protocol].classes
    root = trees.find(source, "CK+48", ".")
    faces: list[Face] = []
    for name in trees.folders(source, root):
        path = os.path.normpath(os.path.join(root, name))
        label = classes.index(trees.expression(source, path, classes))
        for image in trees.images(source, path):
            parts = re.fullmatch(r"(S\d+)_(\d+)_(\d+)\.\w+", os.path.basename(image))
            if not parts:
                raise UserError(f"{os.path.join(source, image)}: expected a name like S010_004_00000017.png")
            subject, sequence, number = parts.groups()
            faces.append(Face(image, None, label, classes[label], subject, f"{subject}_{sequence}",
                              int(number), "peak"))
    return trees.dataset("ckplus48", classes, source, faces, "<expression>/S010_004_00000017.png")
