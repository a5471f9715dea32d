"""The LMDBs of a prepared folder: for each split, images and handcrafted features in step."""
import csv
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable, NamedTuple, Optional

import numpy as np

from common import children, files, progress
from common.errors import UserError
from data_prep import alignment, crops, descriptions, features, lmdb_io
from data_prep.crops import CropSet
from data_prep.images import square, with_channels
from data_prep.manifest import Dataset, Face

NOTE = "records.json"
# Faces that a worker takes at a time.
CHUNK = 8


class Plan(NamedTuple):
    """What a folder's LMDBs hold. registration: see datasets.Protocol; references: whether each record has its
    sequence's neutral frame in a second image LMDB; features: names; geometry: of the features; features_of:
    "crop", or "face" for those of the first window in all records of an image; encoding: "raw" or "png" of the
    images; seed: of the training order; kept: folder of `descriptions` of the splits that have them; target: of
    `registered`."""

    crops: CropSet
    registration: str
    references: bool
    features: Sequence[str]
    geometry: str
    features_of: str
    encoding: str
    seed: int
    classes: int
    kept: Mapping[str, str] = {}
    target: Optional[np.ndarray] = None


class Record(NamedTuple):
    """One record. key: its position in the LMDBs; row: of the manifest, from 0; crop: number of the window."""

    key: int
    row: int
    crop: int


def lay_out(plan: Plan, faces: Sequence[Face], split: str) -> list[Record]:
    """The records of a split, image by image; the training part's keys are shuffled once.

    Images of one record each come in the order of the keys, so that they are written front to back.
    """
    rows = [row for row, face in enumerate(faces) if face.split == split]
    order = np.random.RandomState(plan.seed)
    counts = [plan.crops.count(split, faces[row].role) for row in rows]
    if split == "train" and set(counts) == {1}:
        order.shuffle(rows)
    pairs = [(row, crop) for row, count in zip(rows, counts) for crop in range(count)]
    keys = np.arange(len(pairs))
    if split == "train" and set(counts) != {1}:
        order.shuffle(keys)
    return [Record(int(key), row, crop) for key, (row, crop) in zip(keys, pairs)]


def databases(plan: Plan, split: str, count: int) -> dict[str, int]:
    """Name -> bytes on disk, from above, of the LMDBs of `count` records."""
    window = plan.crops.windows(split, "")[0]
    values = plan.crops.channels * window.side ** 2
    size = values * (lmdb_io.FLOAT_FIELD.itemsize if plan.crops.evens(window) else 1)
    sizes = {"images": size, **({"references": size} if plan.references else {})}
    sizes.update({name: features.length(name, plan.classes) * lmdb_io.FLOAT_FIELD.itemsize
                  for name in plan.features})
    return {name: lmdb_io.estimate(count, size) for name, size in sizes.items()}


def write_split(plan: Plan, dataset: Dataset, faces: Sequence[Face], split: str, folder: str, note: dict,
                projections: dict[str, features.Projection], processes: int) -> int:
    """Writes folder/records.csv and the LMDBs, and returns the number of records. The note (records.json) comes
    last: with it the split is whole, and a later call does nothing."""
    if os.path.exists(os.path.join(folder, NOTE)):
        return files.read_json(os.path.join(folder, NOTE))["count"]
    files.remove(folder)
    os.makedirs(folder)
    records = lay_out(plan, faces, split)
    with open(os.path.join(folder, "records.csv"), "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(
            [Record._fields] + sorted(records))
    writers = {name: lmdb_io.Writer(os.path.join(folder, name), size, note)
               for name, size in databases(plan, split, len(records)).items()}
    with progress.bar("{}: {}".format(split, ", ".join(writers)), len(records)) as bar:
        for written in children.in_order(processes, _start, (plan, dataset, faces, split, projections), _records,
                                         list(_chunks(records))):
            for key, values in written:
                for name, value in values.items():
                    writers[name].put(key, value)
            bar.update(len(written))
    for writer in writers.values():
        writer.close()
    files.write_json(os.path.join(folder, NOTE), dict(note, count=len(records)))
    return len(records)


def read(folder: str, split: str) -> list[Record]:
    """The records of a split in the order of their keys. Raises UserError where the split is missing."""
    path = os.path.join(folder, split, "records.csv")
    if not os.path.exists(path):
        raise UserError(f"{folder}: has no {split} part")
    with open(path, newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        try:
            if tuple(next(rows, ())) != Record._fields:
                raise ValueError
            return [Record(*map(int, row)) for row in rows]
        except (ValueError, TypeError, csv.Error):
            raise UserError("{}:{}: expected {}".format(path, rows.line_num, ",".join(Record._fields))) from None


def fit(plan: Plan, dataset: Dataset, faces: Sequence[Face], folder: str, processes: int) -> dict:
    """The projections (PCA and LDA) of the features that need one, fitted on the training part's first windows;
    written to folder/projections/<feature>.npz, or read from there."""
    names = [name for name in plan.features if name in features.PROJECTED]
    paths = {name: os.path.join(folder, "projections", name + ".npz") for name in names}
    missing = [name for name in names if not os.path.exists(paths[name])]
    if missing:
        os.makedirs(os.path.join(folder, "projections"), exist_ok=True)
        fitters = {name: features.fitter(name, plan.classes) for name in missing}
        rows = [row for row, face in enumerate(faces) if face.split == "train"]
        chunks = [rows[i:i + CHUNK] for i in range(0, len(rows), CHUNK)]
        arguments = plan if "train" in plan.kept else plan._replace(features=missing), dataset, faces, "train", {}
        with progress.bar("projections: " + ", ".join(missing), len(rows)) as bar:
            for labels, described in children.in_order(processes, _start, arguments, _describe, chunks):
                for name, fitter in fitters.items():
                    fitter.add(described[name], labels)
                bar.update(len(labels))
        for name, fitter in fitters.items():
            with files.replacing(paths[name]) as partial:
                fitter.finish(processes).save(partial)
    return {name: features.Projection.load(path) for name, path in paths.items()}


def registered(crop_set: CropSet, registration: str, image: np.ndarray, landmarks: Optional[tuple[float, ...]],
               where: str, target: Optional[np.ndarray] = None) -> np.ndarray:
    """The registered face of an image (uint8, grey or BGR): uint8 (region, region) grey or (region, region, 3) BGR.

    registration: see datasets.Protocol; target: of alignment.align, None for the shipped template. Raises UserError
    that names `where` on landmarks that are no face's.
    """
    image = with_channels(image, crop_set.channels)
    if registration == "template":
        image = alignment.align(image, landmarks, crop_set.region, where, target)
    elif registration == "box":
        image = alignment.box(image, landmarks, crop_set.region, where)
    else:
        image = square(image, crop_set.region)
    return crops.stretch(image) if crop_set.stretched else image


def pixels(crop_set: CropSet, region: np.ndarray, window: crops.Window) -> np.ndarray:
    """A window of a registered face as it is recorded: uint8, or float32 where its illumination is evened."""
    image = window.cut(region)
    return crops.even_illumination(image) if crop_set.evens(window) else image


# ---------------------------------------------------------------- in the workers

class _Worker:
    pass


def _start(plan: Plan, dataset: Dataset, faces: Sequence[Face], split: str, projections: dict) -> None:
    _Worker.plan, _Worker.dataset, _Worker.faces, _Worker.split = plan, dataset, faces, split
    _Worker.projections = projections
    _Worker.extractor = features.Extractor(plan.features, plan.geometry, plan.crops.side) if plan.features else None
    if plan.references:
        _Worker.neutral = {face.sequence: face for face in faces if face.role == "neutral" and not face.split}


def _chunks(records: list[Record]) -> Iterator[list[Record]]:
    """Whole images together, so that each is read and filtered once."""
    chunk, rows = [], 0
    for record in records:
        if not chunk or record.row != chunk[-1].row:
            rows += 1
            if rows > CHUNK:
                yield chunk
                chunk, rows = [], 1
        chunk.append(record)
    if chunk:
        yield chunk


def _records(chunk: list[Record]) -> list[tuple[int, dict[str, bytes]]]:
    """(key, LMDB's name -> record) of each record."""
    plan, written = _Worker.plan, []
    by_row: dict[int, list[Record]] = {}
    for record in chunk:
        by_row.setdefault(record.row, []).append(record)
    for row, group in by_row.items():
        face = _Worker.faces[row]
        region = _region(face)
        windows = plan.crops.windows(_Worker.split, face.role)
        vectors = _features(row, region, windows)
        reference = _region(_Worker.neutral[face.sequence]) if plan.references else None
        for record in group:
            window = windows[record.crop]
            values = {"images": _image(region, window, face.label)}
            if plan.references:
                values["references"] = _image(reference, window, face.label)
            values.update({name: lmdb_io.encode_floats(vector[record.crop], face.label)
                           for name, vector in vectors.items()})
            written.append((record.key, values))
    return written


def _region(face: Face) -> np.ndarray:
    plan = _Worker.plan
    return registered(plan.crops, plan.registration, _Worker.dataset.load(face), face.landmarks, face.source,
                      plan.target)


def _image(region: np.ndarray, window: crops.Window, label: int) -> bytes:
    return lmdb_io.encode_image(pixels(_Worker.plan.crops, region, window), label, _Worker.plan.encoding)


def _features(row: int, region: np.ndarray, windows: list[crops.Window]) -> dict[str, np.ndarray]:
    """Name -> float32 (windows, D)."""
    plan = _Worker.plan
    if not plan.features:
        return {}
    described = windows if plan.features_of == "crop" else windows[:1]
    raw = _described(row, lambda: region, described)
    vectors = {name: _Worker.projections[name](values) if name in _Worker.projections else values
               for name, values in raw.items()}
    if plan.features_of == "face":
        vectors = {name: np.repeat(vector, len(windows), axis=0) for name, vector in vectors.items()}
    return vectors


def _describe(rows: list[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels, and the unprojected features of the first window of each image."""
    plan, found = _Worker.plan, []
    for row in rows:
        face = _Worker.faces[row]
        window = plan.crops.windows("train", face.role)[:1]
        found.append(_described(row, functools.partial(_region, face), window))
    labels = np.array([_Worker.faces[row].label for row in rows])
    return labels, {name: np.concatenate([raw[name] for raw in found]) for name in plan.features
                    if name in features.PROJECTED}


def _described(row: int, region: Callable[[], np.ndarray], windows: list[crops.Window]) -> dict[str, np.ndarray]:
    """Extractor.describe of an image's windows; where descriptions are kept, from there."""
    plan, extractor = _Worker.plan, _Worker.extractor
    folder = plan.kept.get(_Worker.split)
    if not folder:
        return extractor.describe(with_channels(region(), 1), windows)
    known = described_windows(plan)
    blocks = descriptions.load(folder, row)
    if not blocks:
        blocks = extractor.blocks(with_channels(region(), 1), known)
        descriptions.save(folder, row, blocks)
    return features.of_windows(blocks, known, windows)


def described_windows(plan: Plan) -> list[crops.Window]:
    """All different ones that are described, of training and of test images, not mirrored."""
    first = 1 if plan.features_of == "face" else None
    return features.upright([*plan.crops.train[:first], *plan.crops.test[:first]])
