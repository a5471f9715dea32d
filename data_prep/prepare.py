"""A raw data set -> a folder with the manifest and, for each split, LMDBs in step.

    DIR/manifest.csv   DIR/prepare.json
    DIR/train/records.csv   DIR/train/images/   DIR/train/gabor/      and the same for val and test
"""
import csv
import multiprocessing
import os
from typing import Dict, List, NamedTuple, Optional, Sequence

import cv2
import numpy as np

from data_prep import children, datasets, files, lmdb_io, manifest, progress
from data_prep.errors import UserError
from data_prep.features import gabor
from data_prep.images import grey_square
from data_prep.manifest import Dataset, Face

NOTE = "prepare.json"
FEATURES = {"gabor": gabor}


class Settings(NamedTuple):
    """dataset: name; source: its file or folder, None for one that is drawn; side: of the square images in
    pixels; features: names; seed: of the training order."""

    dataset: str
    source: Optional[str]
    protocol: str = "plain"
    side: int = 48
    features: Sequence[str] = ("gabor",)
    seed: int = 0


def prepare(settings: Settings, out: str, processes: int) -> Dict:
    """Makes the folder `out` and returns its note (prepare.json); it is there when complete and not before.

    Where `out` already holds the same preparation, nothing is done.
    Raises UserError where it holds something else, on bad input, and where the disk is too small.
    """
    out = out.rstrip("/")
    if settings.source and not os.path.exists(settings.source):
        raise UserError("{}: no such file or folder".format(settings.source))
    asked = dict(settings._asdict(), features=list(settings.features),
                 source_digest=settings.source and files.digest(settings.source))
    if os.path.exists(out):
        return _already_there(asked, out)
    with files.replacing(out) as folder:
        os.makedirs(folder)
        dataset = datasets.module(settings.dataset).read(settings.source, settings.protocol, folder, processes)
        manifest.check(dataset.faces, settings.source or settings.dataset)
        table = os.path.join(folder, "manifest.csv")
        manifest.write(table, dataset.faces)
        parts = {split: _order(dataset.faces, split, settings.seed) for split in manifest.SPLITS}
        for split, rows in parts.items():
            if not rows:
                raise UserError("{}: no {} images".format(settings.source or settings.dataset, split))
        files.require_space(folder, sum(
            size for rows in parts.values() for size in _sizes(settings, len(rows)).values()))
        digest = files.digest(table)
        for split, rows in parts.items():
            _write_split(settings, dataset, os.path.join(folder, split), split, rows, digest, processes)
        note = dict(asked, classes=list(dataset.classes), manifest=digest, shape=[1, settings.side, settings.side],
                    counts={split: len(rows) for split, rows in parts.items()},
                    class_counts={split: _class_counts(dataset, rows) for split, rows in parts.items()},
                    published_counts=datasets.module(settings.dataset).PROTOCOLS[settings.protocol].counts,
                    versions={"opencv": cv2.__version__, "numpy": np.__version__})
        files.write_json(os.path.join(folder, NOTE), note)
    return note


def summary(out: str, note: Dict) -> str:
    """Counts of each part and class, and differences from the published ones, as text."""
    width = max(map(len, note["classes"])) + 2
    lines = ["{}: {} images of {}x{}, features: {}".format(
        out, sum(note["counts"].values()), note["shape"][2], note["shape"][1], ", ".join(note["features"]) or "none")]
    lines.append(" " * 6 + "".join(name.rjust(width) for name in note["classes"]) + "all".rjust(width))
    for split, counts in note["class_counts"].items():
        lines.append(split.ljust(6) + "".join(str(count).rjust(width) for count in counts + [sum(counts)]))
    for split, published in note["published_counts"].items():
        if note["counts"][split] != published:
            lines.append("note: {} {} images, published {}".format(note["counts"][split], split, published))
    return "\n".join(lines)


def read_note(folder: str) -> Dict:
    """prepare.json of a prepared folder."""
    if not os.path.exists(os.path.join(folder, NOTE)):
        raise UserError("{}: no prepared data here; `./fer prepare DATASET SOURCE --out {}` makes it".format(
            folder, folder))
    return files.read_json(os.path.join(folder, NOTE))


def read_records(folder: str, split: str) -> List[int]:
    """Manifest row (from 0) of each record of the split's LMDBs."""
    with open(os.path.join(folder, split, "records.csv"), newline="", encoding="utf-8") as stream:
        return [int(record["row"]) for record in csv.DictReader(stream)]


def _already_there(asked: Dict, out: str) -> Dict:
    if not os.path.exists(os.path.join(out, NOTE)):
        raise UserError("{}: is there already and is no prepared data; give another --out".format(out))
    note = read_note(out)
    for key, value in asked.items():
        if note[key] != value:
            raise UserError("{}: holds a preparation with {} {}, not {}; give another --out or remove it".format(
                out, key, note[key], value))
    return note


def _order(faces: Sequence[Face], split: str, seed: int) -> List[int]:
    """Manifest rows of a split; the training part is shuffled once."""
    rows = [row for row, face in enumerate(faces) if face.split == split]
    if split == "train":
        np.random.RandomState(seed).shuffle(rows)
    return rows


def _class_counts(dataset: Dataset, rows: List[int]) -> List[int]:
    labels = [dataset.faces[row].label for row in rows]
    return np.bincount(labels, minlength=len(dataset.classes)).tolist()


def _sizes(settings: Settings, count: int) -> Dict[str, int]:
    sizes = {"images": lmdb_io.estimate(count, settings.side ** 2)}
    for name in settings.features:
        sizes[name] = lmdb_io.estimate(count, FEATURES[name].LENGTH * lmdb_io.FLOAT_FIELD.itemsize)
    return sizes


def _write_split(settings, dataset, folder, split, rows, digest, processes) -> None:
    os.makedirs(folder)
    with open(os.path.join(folder, "records.csv"), "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(
            [("key", "row")] + [(lmdb_io.key_of(i).decode(), row) for i, row in enumerate(rows)])
    sizes = _sizes(settings, len(rows))
    note = {"manifest": digest, "split": split, "seed": settings.seed, "crops": "whole"}
    writers = {name: lmdb_io.Writer(os.path.join(folder, name), size, note) for name, size in sizes.items()}
    with progress.bar("{}: {}".format(split, ", ".join(writers)), len(rows)) as bar, \
            multiprocessing.Pool(processes, _start_worker, (dataset, settings)) as pool:
        for label, image, vectors in pool.imap(_one_face, rows, chunksize=16):
            writers["images"].put(lmdb_io.encode_image(image, label))
            for name, vector in vectors.items():
                writers[name].put(lmdb_io.encode_floats(vector, label))
            bar.update()
    for writer in writers.values():
        writer.close()


def _start_worker(dataset: Dataset, settings: Settings) -> None:
    children.die_with_parent()
    cv2.setNumThreads(1)
    _start_worker.state = dataset, settings


def _one_face(row: int):
    dataset, settings = _start_worker.state
    face = dataset.faces[row]
    image = grey_square(dataset.load(face), settings.side)
    return face.label, image, {name: FEATURES[name].extract(image) for name in settings.features}
