"""RAF-DB (Li, Deng & Du, 2017), the basic expressions: a list of file names and labels, and the aligned faces."""
import os

from common.errors import UserError
from common.expressions import SEVEN
from data_prep.datasets import Protocol, trees
from data_prep.manifest import Dataset, Face

COUNTS = {"train": 12271, "test": 3068}
PROTOCOLS = {"wu2023": Protocol(SEVEN, COUNTS, crops="wu2023", subjects=False),
             "farzaneh2021": Protocol(SEVEN, COUNTS, crops="farzaneh2021", subjects=False)}
# By the data set's own numbers, from 1.
EXPRESSIONS = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
LIST = "EmoLabel/list_patition_label.txt"
ALIGNED = "Image/aligned"


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: the folder `basic`, or the folder that holds it, with EmoLabel/list_patition_label.txt and the faces
    Image/aligned/train_00001_aligned.jpg.

    A line of the list is "train_00001.jpg 5". Raises UserError with file and line on a malformed line, an unknown
    label, and a missing image.
    """
    root = trees.find(source, "basic", ".")
    path = os.path.join(source, root, LIST)
    faces = []
    try:
        with open(path, encoding="ascii") as stream:
            for line, text in enumerate(stream, start=1):
                if text.strip():
                    faces.append(_face(source, root, text.split(), f"{path}:{line}"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable list: {error}") from None
    return trees.dataset("raf_db", SEVEN, source, faces, "lines in " + LIST)


def _face(source: str, root: str, fields: list[str], where: str) -> Face:
    if len(fields) != 2:
        raise UserError(f"{where}: {len(fields)} fields, expected 2 (name and label)")
    name, code = fields
    split = name.split("_")[0]
    if split not in ("train", "test"):
        raise UserError(f"{where}: name {name!r}, expected train_... or test_...")
    if code not in map(str, range(1, len(EXPRESSIONS) + 1)):
        raise UserError(f"{where}: unknown label {code!r}, expected 1 to {len(EXPRESSIONS)}")
    stem, suffix = os.path.splitext(name)
    stem = stem if stem.endswith("_aligned") else stem + "_aligned"
    image = os.path.normpath(os.path.join(root, ALIGNED, stem + suffix))
    if not os.path.isfile(os.path.join(source, image)):
        raise UserError(f"{where}: {os.path.join(source, image)}: no such file")
    class_name = EXPRESSIONS[int(code) - 1]
    return Face(image, None, SEVEN.index(class_name), class_name, split=split)
