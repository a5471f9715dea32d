"""What the readers of folders share: listing in a fixed order, names of expressions, peak frames."""
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from common import expressions
from common.errors import UserError
from data_prep.images import SUFFIXES, read_image
from data_prep.manifest import Dataset, Face

PEAKS = 3
# Names that folders give the parts of a data set -> the project's split.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
          "publictest": "val", "test": "test", "privatetest": "test"}
# Of images that are not read.
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".psd", ".svg", ".eps", ".ico", ".dng",
                  ".cr2", ".nef", ".arw")
LEFT_OUT = {"images": "images lie where this data set and protocol take none",
            "kinds": "images are of a kind that is not read",
            "hidden": "files with an image's name are hidden"}


class Frame(NamedTuple):
    """number: the last digits of the file's name."""

    path: str
    number: int


def entries(root: str, path: str = ".") -> list[str]:
    """Names in the folder `path` of `root`, sorted, without hidden ones and macOS's folder of them."""
    folder = os.path.join(root, path) if path != "." else root
    try:
        return sorted(name for name in os.listdir(folder) if not is_hidden(name))
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder") from None
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the data: archives carry macOS's `._` files, some in a folder of theirs."""
    return name.startswith(".") or name == "__MACOSX"


def folders(root: str, path: str = ".") -> list[str]:
    """Names of the folders in the folder `path` of `root`, sorted."""
    return [name for name in entries(root, path) if os.path.isdir(os.path.join(root, path, name))]


def images(root: str, path: str) -> list[str]:
    """Paths from `root` of the images in its folder `path`, sorted."""
    return [os.path.join(path, name) for name in entries(root, path)
            if name.lower().endswith(SUFFIXES) and not os.path.isdir(os.path.join(root, path, name))]


def frames(root: str, path: str) -> list[Frame]:
    """The images in a folder by their number. Raises UserError on one without a number."""
    found = []
    for image in images(root, path):
        digits = re.search(r"(\d+)\.\w+$", image)
        if not digits:
            raise UserError(f"{os.path.join(root, image)}: no frame number at the end of the name")
        found.append(Frame(image, int(digits.group(1))))
    return sorted(found, key=lambda frame: (frame.number, frame.path))


def find(root: str, *candidates: str) -> str:
    """The first of the candidates that is a folder in `root`. Raises UserError where none is."""
    if not os.path.isdir(root):
        raise UserError(f"{root}: no such folder")
    for candidate in candidates:
        if os.path.isdir(os.path.join(root, candidate)):
            return candidate
    raise UserError("{}: no folder {} here".format(root, " or ".join(candidates)))


def expression(root: str, path: str, classes: Sequence[str]) -> str:
    """The class that a folder's name says, in one of the spellings in circulation (`Anger`, `angry`).

    Raises UserError where it is none of `classes`.
    """
    name = expressions.canonical(os.path.basename(path))
    if name not in classes:
        raise UserError("{}: unknown expression, expected one of {}".format(
            os.path.join(root, path), ", ".join(classes)))
    return name


def last(found: Sequence[Frame], where: str, neutral: bool) -> Sequence[Frame]:
    """The peak frames of a sequence that ends at its peak, where `neutral` after another frame."""
    _require(found, PEAKS + neutral, where)
    return found[-PEAKS:]


def middle(found: Sequence, where: str) -> Sequence:
    """The peak frames of a sequence that begins and ends neutral."""
    _require(found, PEAKS, where)
    begin = (len(found) - PEAKS) // 2
    return found[begin:begin + PEAKS]


def _require(found: Sequence, count: int, where: str) -> None:
    if len(found) < count:
        raise UserError(f"{where}: {len(found)} frames, expected at least {count}")


def peak_faces(root: str, path: str, neutral: bool, like: Face) -> list[Face]:
    """The samples of a sequence: its last three frames; where `neutral`, its first frame before them.

    path: the folder of the frames. like: a face with label, class name, subject and sequence.
    """
    found = frames(root, path)
    peaks = last(found, os.path.join(root, path), neutral)
    first = [like._replace(path=found[0].path, frame=found[0].number, role="neutral")] if neutral else []
    return first + [like._replace(path=frame.path, frame=frame.number, role="peak") for frame in peaks]


def left_out(root: str, faces: Iterable[Face]) -> dict[str, dict]:
    """What lies below `root` and is none of `faces`: of each kind of LEFT_OUT that is there, how many files and the
    first one ("count", "example"). Linked folders are not looked into."""
    taken = {os.path.normpath(face.path) for face in faces}
    found: dict[str, dict] = {}
    for folder, below, names in os.walk(root):
        below.sort()
        inside = os.path.relpath(folder, root)
        for name in sorted(names):
            path = os.path.normpath(os.path.join(inside, name))
            kind = None if path in taken else _kind(path)
            if kind:
                found.setdefault(kind, {"count": 0, "example": path})["count"] += 1
    return found


def _kind(path: str) -> Optional[str]:
    if path.lower().endswith(SUFFIXES):
        return "hidden" if any(map(is_hidden, path.split(os.sep))) else "images"
    return "kinds" if path.lower().endswith(OTHER_SUFFIXES) else None


def dataset(name: str, classes: Sequence[str], root: str, faces: list[Face], expected: str) -> Dataset:
    """The data set of image files below `root`. Raises UserError that says what is expected where there are none."""
    if not faces:
        raise UserError(f"{root}: no images, expected {expected}")
    return Dataset(name, classes, faces, lambda face: read_image(os.path.join(root, face.path)))
