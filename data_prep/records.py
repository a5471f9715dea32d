"""The LMDBs of a prepared folder: for each split, images and handcrafted features with the same keys."""
import csv
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from common import children, files, progress
from common.errors import UserError
from data_prep import alignment, crops, descriptions, features, lmdb_io
from data_prep.crops import CropSet, Window
from data_prep.images import square, with_channels
from data_prep.manifest import Dataset, Face

NOTE = "records.json"
# Images that a child process takes at a time.
CHUNK = 8


@dataclass(frozen=True)
class Plan:
    """What the LMDBs of a folder hold."""

    # The windows of each image, and what their pixels become.
    crops: CropSet
    # How faces are registered, see datasets.Protocol.
    registration: str
    # Whether each record has the neutral frame of its sequence in a second image LMDB.
    references: bool
    # Names of the handcrafted features.
    features: Sequence[str]
    # Geometry of the features, a name in features.GEOMETRIES.
    geometry: str
    # "crop": features of each window; "face": all records of an image have the features of its first window.
    features_of: str
    # Of image records, "raw" or "png".
    encoding: str
    # Seed of the training order.
    seed: int
    # Number of classes.
    classes: int
    # Split -> folder of its `descriptions`, for the splits that keep them.
    descriptions: Mapping[str, str] = field(default_factory=dict)
    # Triangle that faces are aligned to, float64 (3, 2), see `alignment.align`; None for the shipped template.
    target: Optional[np.ndarray] = None


class Record(NamedTuple):
    """One row of records.csv. A tuple, since the rows are sorted, and written as they are."""

    # Position in the LMDBs.
    key: int
    # Row of the manifest, from 0.
    row: int
    # Number of the window, from 0.
    crop: int


def lay_out(plan: Plan, faces: Sequence[Face], split: str) -> list[Record]:
    """The records of a split, image by image. The keys of the training split are shuffled once.

    Where each image has one record, images come in the order of their keys, so the LMDB is written front to back.
    """
    rows = [row for row, face in enumerate(faces) if face.split == split]
    random = np.random.RandomState(plan.seed)
    counts = [plan.crops.count(split, faces[row].role) for row in rows]
    if split == "train" and set(counts) == {1}:
        random.shuffle(rows)
    pairs = [(row, crop) for row, count in zip(rows, counts) for crop in range(count)]
    keys = np.arange(len(pairs))
    if split == "train" and set(counts) != {1}:
        random.shuffle(keys)
    return [Record(int(key), row, crop) for key, (row, crop) in zip(keys, pairs)]


def databases(plan: Plan, split: str, count: int) -> dict[str, int]:
    """Name -> size on disk in bytes, an upper bound, of each LMDB with `count` records."""
    window = plan.crops.windows(split, "")[0]
    values = plan.crops.channels * window.side ** 2
    size = values * (lmdb_io.FLOAT_FIELD.itemsize if plan.crops.evens(window) else 1)
    sizes = {"images": size, **({"references": size} if plan.references else {})}
    sizes.update({name: features.length(name, plan.classes) * lmdb_io.FLOAT_FIELD.itemsize
                  for name in plan.features})
    return {name: lmdb_io.estimate(count, size) for name, size in sizes.items()}


def write_split(plan: Plan, dataset: Dataset, faces: Sequence[Face], split: str, folder: str, note: dict[str, Any],
                projections: Mapping[str, features.Projection], processes: int) -> int:
    """Writes folder/records.csv and the LMDBs, and returns the number of records.

    The note (records.json) is written last: with it the split is complete, and a later call does nothing.
    """
    if os.path.exists(os.path.join(folder, NOTE)):
        return files.read_json(os.path.join(folder, NOTE))["count"]
    files.remove(folder)
    os.makedirs(folder)
    records = lay_out(plan, faces, split)
    with open(os.path.join(folder, "records.csv"), "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(Record._fields)
        out.writerows(sorted(records))
    writers = {name: lmdb_io.Writer(os.path.join(folder, name), size, note)
               for name, size in databases(plan, split, len(records)).items()}
    worker = _Worker(plan, dataset, faces, split, projections)
    with progress.bar(f"{split}: {', '.join(writers)}", len(records)) as bar:
        for encoded in children.in_order(processes, lambda: None, (), worker.encode, list(_chunks(records))):
            for key, values in encoded:
                for name, value in values.items():
                    writers[name].put(key, value)
            bar.update(len(encoded))
    for writer in writers.values():
        writer.close()
    files.write_json(os.path.join(folder, NOTE), dict(note, count=len(records)))
    return len(records)


def read(folder: str, split: str) -> list[Record]:
    """The records of a split in the order of their keys. Raises UserError where the split is missing."""
    path = os.path.join(folder, split, "records.csv")
    if not os.path.exists(path):
        raise UserError(f"{folder}: has no {split} split")
    with open(path, newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        try:
            if tuple(next(rows, ())) != Record._fields:
                raise ValueError
            return [Record(*map(int, row)) for row in rows]
        except (ValueError, TypeError, csv.Error):
            raise UserError(f"{path}:{rows.line_num}: expected {','.join(Record._fields)}") from None


def fit(plan: Plan, dataset: Dataset, faces: Sequence[Face], folder: str, processes: int
        ) -> dict[str, features.Projection]:
    """The projections (PCA and LDA) of the features that need one, fitted on the first window of each training image.

    They are written to folder/projections/<feature>.npz, or read from there.
    """
    names = [name for name in plan.features if name in features.PROJECTED]
    paths = {name: os.path.join(folder, "projections", name + ".npz") for name in names}
    missing = [name for name in names if not os.path.exists(paths[name])]
    if missing:
        os.makedirs(os.path.join(folder, "projections"), exist_ok=True)
        fitters = {name: features.fitter(name, plan.classes) for name in missing}
        rows = [row for row, face in enumerate(faces) if face.split == "train"]
        chunks = [rows[i:i + CHUNK] for i in range(0, len(rows), CHUNK)]
        worker = _Worker(plan if "train" in plan.descriptions else replace(plan, features=missing), dataset, faces,
                         "train", {})
        with progress.bar("projections: " + ", ".join(missing), len(rows)) as bar:
            for labels, described in children.in_order(processes, lambda: None, (), worker.describe, chunks):
                for name, fitter in fitters.items():
                    fitter.add(described[name], labels)
                bar.update(len(labels))
        for name, fitter in fitters.items():
            with files.replacing(paths[name]) as partial:
                fitter.finish(processes).save(partial)
    return {name: features.Projection.load(path) for name, path in paths.items()}


def registered(crop_set: CropSet, registration: str, image: np.ndarray, landmarks: Optional[tuple[float, ...]],
               where: str, target: Optional[np.ndarray] = None) -> np.ndarray:
    """The registered face of an image: uint8 (region, region) grey or (region, region, 3) BGR.

    image: uint8, grey or BGR. registration: see datasets.Protocol. landmarks: may be None for registration "none".
    target: see `alignment.align`; None for the shipped template. Raises UserError that names `where` on landmarks that
    cannot be those of a face.
    """
    image = with_channels(image, crop_set.channels)
    if registration == "none":
        image = square(image, crop_set.region)
    elif landmarks is None:
        raise UserError(f"{where}: no landmarks, which registration by {registration} needs")
    elif registration == "template":
        image = alignment.align(image, landmarks, crop_set.region, where, target)
    else:
        image = alignment.box(image, landmarks, crop_set.region, where)
    return crops.stretch(image) if crop_set.stretched else image


def pixels(crop_set: CropSet, region: np.ndarray, window: Window) -> np.ndarray:
    """The pixels of a window of a registered face as a record has them: uint8, or float32 where the crops normalise
    the illumination."""
    image = window.cut(region)
    return crops.even_illumination(image) if crop_set.evens(window) else image


def described_windows(plan: Plan) -> list[Window]:
    """All different windows whose features are computed, of training and of test images, without mirrored ones."""
    first = 1 if plan.features_of == "face" else None
    return features.upright([*plan.crops.train[:first], *plan.crops.test[:first]])


def _chunks(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Keeps the records of an image together, so that it is read and filtered once."""
    chunk: list[Record] = []
    rows = 0
    for record in records:
        if not chunk or record.row != chunk[-1].row:
            rows += 1
            if rows > CHUNK:
                yield chunk
                chunk, rows = [], 1
        chunk.append(record)
    if chunk:
        yield chunk


class _Worker:
    """The work of a child process on one split."""

    def __init__(self, plan: Plan, dataset: Dataset, faces: Sequence[Face], split: str,
                 projections: Mapping[str, features.Projection]):
        self._plan, self._dataset, self._faces, self._split = plan, dataset, faces, split
        self._projections = projections
        self._extractor = features.Extractor(plan.features, plan.geometry, plan.crops.side)
        # Sequence -> its neutral frame, which is in no split.
        self._neutral = {face.sequence: face for face in faces
                         if face.role == "neutral" and not face.split} if plan.references else {}

    def encode(self, chunk: Sequence[Record]) -> list[tuple[int, dict[str, bytes]]]:
        """The key, and LMDB's name -> encoded Datum, of each record."""
        plan, encoded = self._plan, []
        by_row: dict[int, list[Record]] = {}
        for record in chunk:
            by_row.setdefault(record.row, []).append(record)
        for row, group in by_row.items():
            face = self._faces[row]
            region = self._region(face)
            windows = plan.crops.windows(self._split, face.role)
            vectors = self._vectors(row, region, windows)
            reference = self._region(self._neutral[face.sequence]) if plan.references else None
            for record in group:
                window = windows[record.crop]
                values = {"images": self._image(region, window, face.label)}
                if reference is not None:
                    values["references"] = self._image(reference, window, face.label)
                values.update({name: lmdb_io.encode_floats(vector[record.crop], face.label)
                               for name, vector in vectors.items()})
                encoded.append((record.key, values))
        return encoded

    def describe(self, rows: Sequence[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Labels, int (images), and the features of the first window of each image before their projection."""
        described = []
        for row in rows:
            face = self._faces[row]
            window = self._plan.crops.windows("train", face.role)[:1]
            described.append(self._described(row, functools.partial(self._region, face), window))
        labels = np.array([self._faces[row].label for row in rows])
        return labels, {name: np.concatenate([raw[name] for raw in described]) for name in self._plan.features
                        if name in features.PROJECTED}

    def _region(self, face: Face) -> np.ndarray:
        plan = self._plan
        return registered(plan.crops, plan.registration, self._dataset.load(face), face.landmarks, face.source,
                          plan.target)

    def _image(self, region: np.ndarray, window: Window, label: int) -> bytes:
        return lmdb_io.encode_image(pixels(self._plan.crops, region, window), label, self._plan.encoding)

    def _vectors(self, row: int, region: np.ndarray, windows: Sequence[Window]) -> dict[str, np.ndarray]:
        """Feature -> its vectors, float32 (windows, D)."""
        plan = self._plan
        if not plan.features:
            return {}
        described = windows if plan.features_of == "crop" else windows[:1]
        raw = self._described(row, lambda: region, described)
        vectors = {name: self._projections[name](values) if name in self._projections else values
                   for name, values in raw.items()}
        if plan.features_of == "face":
            vectors = {name: np.repeat(vector, len(windows), axis=0) for name, vector in vectors.items()}
        return vectors

    def _described(self, row: int, region: Callable[[], np.ndarray], windows: Sequence[Window]
                   ) -> dict[str, np.ndarray]:
        """`Extractor.describe` of the windows of an image; read from disk where the split keeps its descriptions."""
        folder = self._plan.descriptions.get(self._split)
        if not folder:
            return self._extractor.describe(with_channels(region(), 1), windows)
        upright = described_windows(self._plan)
        blocks = descriptions.load(folder, row)
        if not blocks:
            blocks = self._extractor.blocks(with_channels(region(), 1), upright)
            descriptions.save(folder, row, blocks)
        return features.of_windows(blocks, upright, windows)
