"""Shared by the readers of folders: lists in a fixed order, names of expressions, peak frames."""
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from common import expressions
from common.errors import UserError
from data_prep.images import SUFFIXES, read_image
from data_prep.manifest import Dataset, Face

# Frames of a sequence that are samples.
PEAKS = 3
# Folder names in circulation, in lower case -> split.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
          "publictest": "val", "test": "test", "privatetest": "test"}
# Suffixes of images that cannot be read.
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".psd", ".svg", ".eps", ".ico", ".dng",
                  ".cr2", ".nef", ".arw")
# Kinds of files that are left out, and what is said of them.
LEFT_OUT = {"images": "images lie in places that this data set and protocol do not use",
            "kinds": "images have a format that cannot be read",
            "hidden": "files with the name of an image are hidden"}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Frame:
    """An image file of a sequence."""

    # Relative to the root of the data set.
    path: str
    # The last digits of the file's name.
    number: int


def entries(root: str, path: str = ".") -> list[str]:
    """Names in the folder `path` of `root`, sorted, without hidden ones. Raises UserError if it cannot be read."""
    folder = os.path.join(root, path) if path != "." else root
    try:
        return sorted(name for name in os.listdir(folder) if not is_hidden(name))
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder") from None
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, or macOS's folder of `._` files, which archives carry."""
    return name.startswith(".") or name == "__MACOSX"


def folders(root: str, path: str = ".") -> list[str]:
    """Names of the folders in the folder `path` of `root`, sorted, without hidden ones."""
    return [name for name in entries(root, path) if os.path.isdir(os.path.join(root, path, name))]


def images(root: str, path: str) -> list[str]:
    """Paths, relative to `root`, of the images in its folder `path`, sorted."""
    return [os.path.join(path, name) for name in entries(root, path)
            if name.lower().endswith(SUFFIXES) and not os.path.isdir(os.path.join(root, path, name))]


def images_below(root: str, path: str, above: Sequence[str] = ()) -> list[str]:
    """Paths, relative to `root`, of the images in its folder `path`, sorted, then of those in each folder below.

    above: the real paths of the folders that hold it. Raises UserError on a link that leads back to one of them.
    """
    here = os.path.realpath(os.path.join(root, path))
    if here in above:
        raise UserError(f"{os.path.join(root, path)}: a link to a folder that holds it")
    return images(root, path) + [image for name in folders(root, path)
                                 for image in images_below(root, os.path.join(path, name), (*above, here))]


def frames(root: str, path: str) -> list[Frame]:
    """The images in a folder, ordered by their number. Raises UserError on an image without a number."""
    numbered = []
    for image in images(root, path):
        digits = re.search(r"(\d+)\.\w+$", image)
        if not digits:
            raise UserError(f"{os.path.join(root, image)}: no frame number at the end of the name")
        numbered.append(Frame(image, int(digits.group(1))))
    return sorted(numbered, key=lambda frame: (frame.number, frame.path))


def find(root: str, *candidates: str) -> str:
    """The first of the candidates that is a folder in `root`. Raises UserError if none is."""
    if not os.path.isdir(root):
        raise UserError(f"{root}: no such folder")
    for candidate in candidates:
        if os.path.isdir(os.path.join(root, candidate)):
            return candidate
    raise UserError(f"{root}: no folder {' or '.join(candidates)} here")


def expression(root: str, path: str, classes: Sequence[str]) -> str:
    """The class that a folder's name tells, in any spelling in circulation (`Anger`, `angry`).

    Raises UserError if it is not in `classes`.
    """
    name = expressions.canonical(os.path.basename(path))
    if name not in classes:
        raise UserError(f"{os.path.join(root, path)}: unknown expression, expected one of {', '.join(classes)}")
    return name


def require_one_spelling(places: Mapping[str, str]) -> None:
    """Raises UserError if two names of classes are the same one in other spellings, as Happy and happy, anger and
    angry. places: name -> where it is, a folder or a file with its line."""
    first: dict[str, str] = {}
    for name, place in places.items():
        other = first.setdefault(expressions.canonical(name), name)
        if other != name:
            raise UserError(f"{place}: class {name!r} is spelled {other!r} in {places[other]}; give each class one "
                            "spelling")


def last(sequence: Sequence[Item], where: str, neutral: bool) -> Sequence[Item]:
    """The peak frames of a sequence that ends at its peak. Raises UserError that names `where` if the sequence has too
    few frames. neutral: whether there must be a frame before them."""
    _require(sequence, PEAKS + neutral, where)
    return sequence[-PEAKS:]


def middle(sequence: Sequence[Item], where: str) -> Sequence[Item]:
    """The peak frames of a sequence that begins and ends neutral. Raises UserError that names `where` if the sequence
    has too few frames."""
    _require(sequence, PEAKS, where)
    begin = (len(sequence) - PEAKS) // 2
    return sequence[begin:begin + PEAKS]


def _require(sequence: Sequence[Any], count: int, where: str) -> None:
    if len(sequence) < count:
        raise UserError(f"{where}: {len(sequence)} frames, expected at least {count}")


def peak_faces(root: str, path: str, neutral: bool, like: Face) -> list[Face]:
    """The last three frames of a sequence, and before them, if `neutral`, its first frame.

    path: the folder of the frames. like: a face with the label, class name, subject and sequence.
    """
    sequence = frames(root, path)
    peaks = last(sequence, os.path.join(root, path), neutral)
    first = [like._replace(path=sequence[0].path, frame=sequence[0].number, role="neutral")] if neutral else []
    return first + [like._replace(path=frame.path, frame=frame.number, role="peak") for frame in peaks]


def left_out(root: str, faces: Iterable[Face]) -> dict[str, dict[str, Any]]:
    """Files below `root` that are not used by `faces`: kind, as in LEFT_OUT -> their "count" and one "example". Linked
    folders are not searched."""
    used = {os.path.normpath(face.path) for face in faces}
    kinds: dict[str, dict[str, Any]] = {}
    for folder, below, names in os.walk(root):
        below.sort()
        inside = os.path.relpath(folder, root)
        for name in sorted(names):
            path = os.path.normpath(os.path.join(inside, name))
            kind = None if path in used else _kind(path)
            if kind:
                kinds.setdefault(kind, {"count": 0, "example": path})["count"] += 1
    return kinds


def _kind(path: str) -> Optional[str]:
    if path.lower().endswith(SUFFIXES):
        return "hidden" if any(map(is_hidden, path.split(os.sep))) else "images"
    return "kinds" if path.lower().endswith(OTHER_SUFFIXES) else None


def dataset(name: str, classes: Sequence[str], root: str, faces: list[Face], expected: str) -> Dataset:
    """The data set of image files below `root`. Raises UserError, with `expected`, if there are no faces."""
    if not faces:
        raise UserError(f"{root}: no images, expected {expected}")
    return Dataset(name, classes, faces, lambda face: read_image(os.path.join(root, face.path)))
