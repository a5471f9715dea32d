"""The photographs that a user names, and the pictures that are drawn of them."""
import os
from collections.abc import Iterable, Sequence

import numpy as np

from common import files
from common.errors import UserError
from data_prep.datasets import trees
from data_prep.images import SUFFIXES, NoImage, read_image
from tools.evaluation import video


def listed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths of the images that files and folders stand for, in order, and a sentence for each folder in which files
    are skipped. The images of a folder are sorted by their names.

    Raises UserError if a folder cannot be read, has no image, or has one with a line break in its name, which would
    tear a line of the output in two.
    """
    paths: list[str] = []
    skipped = []
    for name in names:
        if not os.path.isdir(name):
            paths.append(name)
            continue
        found = trees.images(name, ".")
        for one in found:
            if "\n" in one or "\r" in one:
                raise UserError(f"{os.path.normpath(os.path.join(name, one))!r}: expected a name without a line break")
        paths += [os.path.normpath(os.path.join(name, one)) for one in found]
        others = len(os.listdir(name)) - len(found)
        if not found:
            raise UserError(f"{name}: holds no image (other files: {others}); expected names that end in "
                            + ", ".join(SUFFIXES))
        if others:
            skipped.append(f"{name}: {len(found)} images; {others} others are skipped (hidden, or no images)")
    return paths, skipped


def read(path: str) -> np.ndarray:
    """As `read_image`; the error for a file of another kind says what is taken here."""
    try:
        return read_image(path)
    except NoImage:
        if path.lower().endswith(SUFFIXES):
            raise
        raise UserError(f"{path}: neither an image nor a video (names of videos end in {', '.join(video.SUFFIXES)})"
                        ) from None


def pictures(folder: str, paths: Iterable[str]) -> dict[str, str]:
    """The path of an image -> the path of its picture, FOLDER/<name>.jpg, with a number if names repeat.

    Raises UserError if a picture would replace an image, or any other file that is not ours.
    """
    paths = list(dict.fromkeys(paths))
    taken, targets = set(), {}
    for path in paths:
        stem, number = os.path.splitext(os.path.basename(path))[0], 1
        name = stem
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        targets[path] = os.path.join(folder, name + ".jpg")
    images = {os.path.realpath(path) for path in paths}
    for target in targets.values():
        if os.path.realpath(target) in images:
            raise UserError(f"{target}: is an image to predict on; give another folder to --draw")
        files.require_replaceable(target, alone=True)
    return targets


def require_free(path: str, others: Iterable[str]) -> None:
    """Raises UserError if a file must not be written to `path`: it is not ours, one of the other paths of the command
    line, or would be in the way of one."""
    own, places = os.path.realpath(path), {os.path.realpath(other): other for other in others}
    if own in places:
        raise UserError(f"{path}: is named twice on the command line; give another name")
    files.require_replaceable(path, alone=True)
    for place, other in places.items():
        if os.path.commonpath([own, place]) in (own, place):
            raise UserError(f"{path}: cannot be a file beside {other}, one of which lies in the other; give another "
                            "name")
