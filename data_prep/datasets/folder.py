"""Any set of face images: <split>/<class>/<image>, <class>/<image>, or a table of the images."""
import os

from common.errors import UserError
from common.expressions import SEVEN, SIX_AND_CONTEMPT, canonical
from data_prep.datasets import Protocol, labels, trees
from data_prep.manifest import Dataset, Face

PROTOCOLS = {"plain": Protocol((), {}, features=("gabor",), subjects=False, photographs=True, own=True)}


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: a CSV (`labels.read`) or a folder that holds one as labels.csv; or else a folder of <split>/<class>/ or
    <class>/ with images, also in folders below a class. A split is named as in trees.SPLITS. The classes are the
    folders of the training split. Without splits, faces have none.

    Raises UserError on an unknown split, two folders for one split, a missing training split, a class in two spellings,
    and a class that is missing or empty in the training split.
    """
    table = source if os.path.isfile(source) else os.path.join(source, labels.NAME)
    if os.path.isfile(table):
        return labels.read(table)
    folder_of = _splits(source)
    first = "train" if "train" in folder_of else ""
    classes = tuple(trees.folders(source, folder_of[first]))
    place_of = {name: os.path.normpath(os.path.join(source, folder_of[first], name)) for name in classes}
    trees.require_one_spelling(place_of)
    faces: list[Face] = []
    for split, split_folder in folder_of.items():
        for name in trees.folders(source, split_folder):
            path = os.path.normpath(os.path.join(split_folder, name))
            if name not in classes:
                raise UserError("{}: not a class of the training split, which has {}".format(
                    os.path.join(source, path), ", ".join(classes)))
            faces += [Face(image, None, classes.index(name), name, split=split)
                      for image in trees.images_below(source, path)]
    trained = {face.label for face in faces if face.split == first}
    for label, name in enumerate(classes):
        if faces and label not in trained:
            raise UserError("{}: no images here; each class needs images{}".format(
                place_of[name], " in the training split" * bool(first)))
    return trees.dataset("folder", classes, source, faces, os.path.join(folder_of["train"], "<class>", "*.jpg")
                         if first else f"train/<class>/*.jpg, <class>/*.jpg or {labels.NAME}")


def _splits(source: str) -> dict[str, str]:
    """Split -> its folder; "" -> "." where the folders of `source` are classes."""
    names = trees.folders(source)
    known = [name for name in names if name.lower() in trees.SPLITS]
    folder_of: dict[str, str] = {}
    for name in names:
        split = trees.SPLITS.get(name.lower())
        if not split and (known or _holds_expressions(source, name)):
            raise UserError("{}: unknown split{}, expected {}, each with a folder for each class; other layouts need "
                            "{}".format(os.path.join(source, name), f" beside {known[0]}" if known else "",
                                        ", ".join(trees.SPLITS), labels.NAME))
        if split in folder_of:
            raise UserError(f"{source}: {folder_of[split]} and {name} are both the {split} split")
        if split:
            folder_of[split] = name
    if known and "train" not in folder_of:
        raise UserError(f"{source}: no folder train here, expected train/<class>/*.jpg")
    return folder_of or {"": "."}


def _holds_expressions(source: str, name: str) -> bool:
    """Whether a folder that is no class by itself looks like a split: it has no images, and folders of expressions."""
    return not trees.images(source, name) and any(
        canonical(below) in SEVEN + SIX_AND_CONTEMPT for below in trees.folders(source, name))
