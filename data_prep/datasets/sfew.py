"""SFEW 2.0 (Dhall et al., 2015): frames of films, with splits. The test split is read where it has labels."""
import os
from typing import Optional

from common import expressions
from common.errors import UserError
from common.expressions import SEVEN
from data_prep.datasets import Protocol, trees
from data_prep.manifest import SPLITS, Dataset, Face

# [liu2017] reports results on the validation split.
PROTOCOLS = {"liu2017": Protocol(SEVEN, {"train": 958, "val": 436, "test": 372}, "template", "liu2017",
                                 subjects=False)}


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: a folder <split>/<expression>/<image>; the name of a split begins with Train, Val or Test
    (`Val_Aligned_Faces_new`), and there may be folders between the split and its expressions.

    A test split without expressions is left out, since its labels are not public. Raises UserError on a split that is
    missing, there twice or without labels, and on an unknown expression.
    """
    faces: list[Face] = []
    for split in SPLITS:
        root = _part(source, split)
        if root is None:
            continue
        for name in trees.folders(source, root):
            path = os.path.join(root, name)
            label = SEVEN.index(trees.expression(source, path, SEVEN))
            faces += [Face(image, None, label, SEVEN[label], split=split) for image in trees.images(source, path)]
    return trees.dataset("sfew", SEVEN, source, faces, "Train/Angry/*.png")


def _part(source: str, split: str) -> Optional[str]:
    """The folder that holds the expressions of a split; None for a test split that is missing or has no labels."""
    parts = [name for name in trees.folders(source) if name.lower().startswith(split)]
    if len(parts) > 1:
        raise UserError(f"{source}: {' and '.join(parts)} are here, expected one of them")
    if not parts and split != "test":
        raise UserError(f"{source}: no folder {split.capitalize()} here")
    if not parts:
        return None
    path = parts[0]
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
