"""Reading a prepared folder: its note (prepare.json) and its manifest.

The note of a folder with several folds lists them; each fold is a prepared folder of its own.
"""
import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import tabulate

from common import files
from common.errors import UserError
from data_prep import datasets, manifest
from data_prep.manifest import Face

NOTE = "prepare.json"
MANIFEST = "manifest.csv"
# Manifest of the images in which no face is found, where there are any.
NO_FACE = "no_face.csv"
# Columns of a terminal.
WIDEST = 80


def is_prepared(folder: str) -> bool:
    """Whether a folder holds prepared data, of one or several folds."""
    return os.path.exists(os.path.join(folder, NOTE))


def require_prepared(folder: str) -> None:
    """Raises UserError if a folder holds no prepared data."""
    if not is_prepared(folder):
        raise UserError(f"{folder}: no prepared data here; `./fer prepare DATASET SOURCE --out {folder}` makes it")


def any_note(folder: str) -> dict[str, Any]:
    """The note of a prepared folder, of one or several folds. Raises UserError if there is none, and if the folder was
    renamed to what is no text."""
    files.require_text(folder)
    return files.read_json(os.path.join(folder, NOTE))


def read_note(folder: str) -> dict[str, Any]:
    """The note of a prepared folder. Raises UserError if there is none, and if the folder holds several folds."""
    require_prepared(folder)
    note = any_note(folder)
    if note["folds"]:
        raise UserError("{}: holds several folds; give one of them: {}".format(
            folder, ", ".join(os.path.join(folder, name) for name in note["folds"])))
    return note


def require_manifest(folder: str, note: dict[str, Any]) -> None:
    """Raises UserError if the manifest of a prepared folder has changed since its note was written."""
    path = os.path.join(folder, MANIFEST)
    if not os.path.exists(path) or files.digest(path) != note["manifest"]:
        raise UserError("{}: {} since it was prepared; prepare the data again".format(
            path, "was changed, or cut," if os.path.exists(path) else "was removed"))


def faces(folder: str, note: Optional[dict[str, Any]] = None) -> list[Face]:
    """The manifest of a prepared folder. note: of this folder, None to read it. Raises UserError if the manifest has
    changed since the folder was prepared."""
    require_manifest(folder, note or read_note(folder))
    return manifest.read(os.path.join(folder, MANIFEST))


def makes_validation(note: dict[str, Any]) -> str:
    """How data that have no validation split get one, as the end of a sentence."""
    return "`./fer prepare ...` makes one by " + (
        "--validation fold" if note["asked"].get("validation") else "--hold-out 0.1, of the training split")


def data_set(note: dict[str, Any]) -> str:
    """The name of the data in a prepared folder, "<data set>-<protocol>"."""
    return "{dataset}-{protocol}".format(**note["asked"])


def is_of(note: dict[str, Any], data: str) -> bool:
    """Whether a prepared folder holds the data that an experiment names, "<data set>" or "<data set>-<protocol>"."""
    return data_set(note) in (data, data + "-" + note["asked"]["protocol"])


def frames_of(note: dict[str, Any]) -> Optional[str]:
    """How the peak frames of a prepared folder were chosen, one of datasets.FRAMES; None if its protocol has no choice.

    Older notes do not tell; they are from before there was a choice.
    """
    asked = note["asked"]
    protocol = datasets.module(asked["dataset"]).PROTOCOLS.get(asked["protocol"])
    return asked.get("frames") or next(iter(protocol.frames if protocol else ()), None)


def template(note: dict[str, Any]) -> dict[str, Any]:
    """The template to which faces are aligned: its "margins", and the "dataset", "protocol" and number of "faces" on
    which it was measured. Older notes do not tell; they are from when there was only the shipped template."""
    from data_prep import alignment  # loads OpenCV, which most who read a note do not need
    return note.get("template") or alignment.read_template(alignment.TEMPLATE_FILE)


def summary(folder: str, note: dict[str, Any]) -> str:
    """The counts of each split or fold and class, of the folds that were made, and differences from the published
    counts, as text."""
    from data_prep.datasets import trees  # loads OpenCV, as above
    parts = {name: read_note(os.path.join(folder, name)) for name in note["folds"]} or {"": note}
    lines = ["{}: {} images{}, {} records of {}, features: {}".format(
        folder, sum(note["counts"].values()), f" in {len(note['counts'])} folds" if note["folds"] else "",
        sum(sum(part["records"].values()) for part in parts.values()), "x".join(map(str, note["shape"])),
        ", ".join(note["features"]) or "none")]
    lines.append(_table(["", *note["classes"], "all"],
                        [[split, *counts, sum(counts)] for split, counts in note["class_counts"].items()]))
    if note["folds"]:
        lines.append("made, each with its fold as the test split (images of each split, and all records):")
        lines.append(_table(["", *manifest.SPLITS, "records"], [
            [name, *(part["counts"].get(split, 0) for split in manifest.SPLITS), sum(part["records"].values())]
            for name, part in parts.items()]))
    lines += _untrained(note["classes"], parts)
    if list(note["counts"]) == ["train"]:
        lines.append("note: all images are for training; there is no validation split (--hold-out makes one) and no "
                     "test split")
    for what, published in note["published_counts"].items():
        count = note["found_counts"].get(what, 0)
        if count != published:
            lines.append("note: {} {}, published {}".format(
                count, what + " images" if what in manifest.SPLITS else what, published))
    if note.get("template"):
        lines.append("aligned to the template of {dataset}-{protocol}, {faces} faces".format(**note["template"]))
    if note["no_face"]:
        lines.append(f"note: no face found in {note['no_face']} images, listed in {NO_FACE} and left out")
    if note.get("squashed"):
        lines.append("note: {count} images are not square, e.g. {example}, and were squashed to squares, each as one "
                     "face; if they are photographs, prepare them with --detect".format(**note["squashed"]))
    for kind, rest in note.get("left_out", {}).items():
        lines.append(f"note: {rest['count']} {trees.LEFT_OUT[kind]} and are left out, e.g. {rest['example']}")
    if note["copies"]:
        lines.append(f"note: {note['copies']} validation and test images have the pixels of a training image")
    return "\n".join(lines)


def _untrained(classes: Sequence[str], parts: Mapping[str, dict[str, Any]]) -> list[str]:
    """Notes on classes without a training image. parts: name of each fold, or "", -> its note."""
    folds_of: dict[str, list[str]] = {}
    for name, part in parts.items():
        missing = [class_name for class_name, count in zip(classes, part["class_counts"].get("train", ())) if not count]
        if missing:
            folds_of.setdefault(", ".join(missing), []).append(name)
    return [f"note: no training image of {missing}" + f" in {', '.join(names)}" * any(names)
            for missing, names in folds_of.items()]


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table with the first column for names. One that is wider than a terminal has its rows as columns if this makes
    it narrower."""
    upright = [list(column) for column in zip(header, *rows)]
    tables = [tabulate.tabulate(lines, names, "plain") for names, lines in (
        (header, rows), (upright[0], upright[1:]))]
    widths = [max(map(len, table.splitlines())) for table in tables]
    return tables[widths[0] > WIDEST and widths[1] < widths[0]]
