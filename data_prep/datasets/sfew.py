"""SFEW 2.0 (Dhall et al., 2015): frames of films, in parts of its own; the test part is read where it is labelled."""
import os
from typing import Optional

from common import expressions
from common.errors import UserError
from common.expressions import SEVEN
from data_prep.datasets import Protocol, trees
from data_prep.manifest import SPLITS, Dataset, Face

# [liu2017] reports on the validation part.
PROTOCOLS = {"liu2017": Protocol(SEVEN, {"train": 958, "val": 436, "test": 372}, "template", "liu2017",
                                 subjects=False)}


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: the folder of the parts, <part>/<expression>/<image>; a part's name begins with Train, Val or Test
    (`Val_Aligned_Faces_new`), and folders may stand between the part and its expressions.

    A test part without expressions is left out, since its labels are not public.
    Raises UserError on a part that is missing, there twice or without labels, and on an unknown expression.
    """
    faces = []
    for split in SPLITS:
        root = _part(source, split)
        for name in trees.folders(source, root) if root else ():
            path = os.path.join(root, name)
            label = SEVEN.index(trees.expression(source, path, SEVEN))
            faces += [Face(image, None, label, SEVEN[label], split=split) for image in trees.images(source, path)]
    return trees.dataset("sfew", SEVEN, source, faces, "Train/Angry/*.png")


def _part(source: str, split: str) -> Optional[str]:
    """The folder of a part's expressions."""
    found = [name for name in trees.folders(source) if name.lower().startswith(split)]
    if len(found) > 1:
        raise UserError("{}: {} are here, expected one of them".format(source, " and ".join(found)))
    if not found and split != "test":
        raise UserError(f"{source}: no folder {split.capitalize()} here")
    if not found:
        return None
    path = found[0]
    below = trees.folders(source, path)
    while len(below) == 1 and not any(map(_is_expression, below)):
        path = os.path.join(path, below[0])
        below = trees.folders(source, path)
    if any(map(_is_expression, below)):
        return path
    if split == "test" and not below:
        return None
    raise UserError("{}: {}, expected folders of the expressions {}".format(
        os.path.join(source, path), " and ".join(below) or "no folders", ", ".join(SEVEN)))


def _is_expression(name: str) -> bool:
    return expressions.label(name) is not None
