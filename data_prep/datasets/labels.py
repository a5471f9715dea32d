"""One's own images, listed in a CSV with the columns path and label, and perhaps subject and split."""
import os

from common.errors import UserError
from data_prep import tables
from data_prep.datasets import trees
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

# The table's name in a folder of images.
NAME = "labels.csv"
COLUMNS, OPTIONAL = ("path", "label"), ("subject", "split")


def read(table: str) -> Dataset:
    """table: the CSV; its paths are relative to its own folder. The classes are the labels of the training split, or
    all labels if there is no column split. Faces are in the order of the rows.

    Raises UserError with the line on an empty field, a path that does not exist or is there twice, an unknown split, a
    label in a second spelling, and a label that is not in the training split.
    """
    root = os.path.dirname(table)
    faces: list[Face] = []
    lines: dict[str, int] = {}
    places: dict[str, str] = {}
    for line, row in tables.rows(table, COLUMNS, OPTIONAL):
        where, path = f"{table}:{line}", os.path.normpath(row["path"])
        for column, value in row.items():
            if not value:
                raise UserError(f"{where}: the {column} is missing, which each row needs")
        if path in lines:
            raise UserError(f"{where}: {row['path']} is also in line {lines[path]}")
        if not os.path.isfile(os.path.join(root, path)):
            raise UserError("{}: no image {!r} in {}{}".format(
                where, row["path"], root, "; folders are joined by /" * ("\\" in path)))
        split = trees.SPLITS.get(row["split"].lower()) if "split" in row else ""
        if split is None:
            raise UserError(f"{where}: unknown split {row['split']!r}, expected one of {', '.join(trees.SPLITS)}")
        places.setdefault(row["label"], where)
        lines[path] = line
        faces.append(Face(path, None, 0, row["label"], row.get("subject", ""), split=split))
    if not faces:
        raise UserError(f"{table}: no rows")
    trees.require_one_spelling(places)
    classes = tuple(sorted({face.class_name for face in faces if face.split in ("train", "")}))
    if not classes:
        raise UserError(f"{table}: no row has the split train")
    for face in faces:
        if face.class_name not in classes:
            raise UserError("{}:{}: label {!r} is in no row of the training split, which has {}".format(
                table, lines[face.path], face.class_name, ", ".join(classes)))
    faces = [face._replace(label=classes.index(face.class_name)) for face in faces]
    return Dataset("folder", classes, faces, lambda face: read_image(os.path.join(root, face.path)))
