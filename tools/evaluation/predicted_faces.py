"""The prediction for a face, and how it is written: as a line of text, in JSON, and as a row of CSV."""
import contextlib
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np

from common import files
from data_prep import alignment

COLUMNS = ("x", "y", "width", "height", "size", "score", "label", "probability")
# Before the name of a class in the header of CSV: a class may have the name of another column.
PROBABILITY = "p_"
# The column that names the run. With the signature in its name a later call may replace the file.
RUN_COLUMN = f"run ({files.SIGNATURE})"


@dataclass(frozen=True)
class FacePrediction:
    """The prediction for one face of an image."""

    # x, y, width, height in pixels of the image.
    box: tuple[float, ...]
    # x1, y1, ... in pixels, as in the manifest; None if the whole image is the face.
    landmarks: Optional[tuple[float, ...]]
    # For each class, the probability: the experiment's vote over the crops, averaged over the nets.
    probabilities: tuple[float, ...]
    # Of the detection, from 0 to 1; None if the whole image is the face.
    score: Optional[float] = None

    @property
    def label(self) -> int:
        """The index of the predicted class."""
        return int(np.argmax(self.probabilities))

    @property
    def size(self) -> float:
        """The shorter side of the box in pixels."""
        return min(self.box[2:])

    def ranked(self, top: Optional[int] = None) -> list[int]:
        """The indices of the classes, the most probable first; of the `top` most probable ones, or of all."""
        return np.argsort(-np.array(self.probabilities), kind="stable")[:top].tolist()


def shares(face: FacePrediction, classes: Sequence[str], top: Optional[int] = None) -> str:
    """The probabilities as text, such as "happy 90.1 %, sad 9.9 %"."""
    return ", ".join(f"{classes[label]} {100 * face.probabilities[label]:.1f} %" for label in face.ranked(top))


def line(name: str, number: int, count: int, face: FacePrediction, classes: Sequence[str], top: Optional[int] = None
         ) -> str:
    """The prediction for a face as text. name: of the image; number: of the face, from 1; count: of all faces of the
    image; top: how many classes are named, None for all."""
    of_all = f" face {number} of {count}" if count > 1 else ""
    detection = "" if face.score is None else f" (score {face.score:.4f}, {face.size:.0f} pixels)"
    return f"{name}{of_all}: {shares(face, classes, top)}{detection}"


def described(face: FacePrediction, classes: Sequence[str], top: Optional[int] = None) -> dict[str, Any]:
    """The prediction for a face for JSON. top: how many classes it has, the most probable ones first; None for all, in
    their own order."""
    points = face.landmarks and np.reshape(face.landmarks, (5, 2)).tolist()
    labels = range(len(classes)) if top is None else face.ranked(top)
    return {"box": dict(zip(("x", "y", "width", "height"), face.box)), "size": face.size, "score": face.score,
            "landmarks": points and dict(zip(alignment.POINTS, points)),
            "label": classes[face.label], "probability": face.probabilities[face.label],
            "probabilities": {classes[label]: face.probabilities[label] for label in labels}}


def document(head: dict[str, Any], name: str, entries: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The parts of the text of a JSON document: `head`, and after it the list `name`, whose entries are written one by
    one, so that they need not be in memory together. The text is that of json.dumps with an indent of 2."""
    yield json.dumps(head, indent=2)[:-2] + f",\n  {json.dumps(name)}: ["
    separator = ""
    for entry in entries:
        yield separator + "\n    " + json.dumps(entry, indent=2).replace("\n", "\n    ")
        separator = ","
    yield ("\n  ]" if separator else "]") + "\n}"


@contextlib.contextmanager
def table(path: Optional[str], first: Sequence[str], classes: Sequence[str], run: str
          ) -> Iterator[Callable[[Sequence[Any], FacePrediction], None]]:
    """Yields what writes a row for a face: (values of the columns `first`, face). The CSV file is there when the block
    ends without an error. path: None to write nothing; run: as the user named it."""
    if path is None:
        yield lambda values, face: None
        return
    with files.replacing(path, alone=True) as partial, open(
            partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow((*first, *COLUMNS, *(PROBABILITY + name for name in classes), RUN_COLUMN))

        def write(values: Sequence[Any], face: FacePrediction) -> None:
            out.writerow((*values, *(f"{value:g}" for value in (*face.box, face.size)),
                          "" if face.score is None else f"{face.score:.4f}", classes[face.label],
                          *(f"{value:.6f}" for value in (face.probabilities[face.label], *face.probabilities)), run))
        yield write
