"""Any set of face images: <split>/<class>/<image>. The classes are the folders of the training split."""
import os

from common.errors import UserError
from data_prep.datasets import Protocol, trees
from data_prep.manifest import Dataset, Face

PROTOCOLS = {"plain": Protocol((), {}, features=("gabor",), subjects=False, photographs=True)}


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: a folder <split>/<class>/<image>; a split is named as in trees.SPLITS.

    Raises UserError on an unknown split, two folders for one split, a missing training split, and a class that is
    missing or empty there.
    """
    folder_of: dict[str, str] = {}
    for name in trees.folders(source):
        split = trees.SPLITS.get(name.lower())
        if not split:
            raise UserError("{}: unknown split, expected {}, each with a folder for each class".format(
                os.path.join(source, name), ", ".join(trees.SPLITS)))
        if split in folder_of:
            raise UserError(f"{source}: {folder_of[split]} and {name} are both the {split} split")
        folder_of[split] = name
    if "train" not in folder_of:
        raise UserError(f"{source}: no folder train here, expected train/<class>/*.jpg")
    classes = tuple(trees.folders(source, folder_of["train"]))
    faces: list[Face] = []
    for split, split_folder in folder_of.items():
        for name in trees.folders(source, split_folder):
            path = os.path.join(split_folder, name)
            if name not in classes:
                raise UserError("{}: not a class of the training split, which has {}".format(
                    os.path.join(source, path), ", ".join(classes)))
            faces += [Face(image, None, classes.index(name), name, split=split)
                      for image in trees.images(source, path)]
    trained = {face.label for face in faces if face.split == "train"}
    for label, name in enumerate(classes):
        if faces and label not in trained:
            raise UserError("{}: no images here; each class needs images in the training split".format(
                os.path.join(source, folder_of["train"], name)))
    return trees.dataset("folder", classes, source, faces, os.path.join(folder_of["train"], "<class>", "*.jpg"))
