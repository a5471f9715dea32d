"""Any set of face images: <part>/<class>/<image>, the classes being the folders of the training part."""
import os

from common.errors import UserError
from data_prep.datasets import Protocol, trees
from data_prep.manifest import Dataset, Face

PROTOCOLS = {"plain": Protocol((), {}, features=("gabor",), subjects=False)}


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: a folder <part>/<class>/<image>; parts are named train, val, test, as in a folder of FER2013.

    Raises UserError on an unknown part, two folders for one part, no training part, a class that it has not and one of
    which it has no image.
    """
    parts = {}
    for name in trees.folders(source):
        split = trees.SPLITS.get(name.lower())
        if not split:
            raise UserError("{}: unknown part, expected {}, which hold a folder for each class".format(
                os.path.join(source, name), ", ".join(trees.SPLITS)))
        if split in parts:
            raise UserError(f"{source}: {parts[split]} and {name} are both the {split} part")
        parts[split] = name
    if "train" not in parts:
        raise UserError(f"{source}: no folder train here, expected train/<class>/*.jpg")
    classes = tuple(trees.folders(source, parts["train"]))
    faces = []
    for split, part in parts.items():
        for name in trees.folders(source, part):
            path = os.path.join(part, name)
            if name not in classes:
                raise UserError("{}: no class of the training part, which has {}".format(
                    os.path.join(source, path), ", ".join(classes)))
            faces += [Face(image, None, classes.index(name), name, split=split)
                      for image in trees.images(source, path)]
    trained = {face.label for face in faces if face.split == "train"}
    for label, name in enumerate(classes):
        if faces and label not in trained:
            raise UserError("{}: no images here; each class needs some in the training part".format(
                os.path.join(source, parts["train"], name)))
    return trees.dataset("folder", classes, source, faces, os.path.join(parts["train"], "<class>", "*.jpg"))
