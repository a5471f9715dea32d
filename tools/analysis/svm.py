"""LIBSVM on handcrafted features, and on what a trained net makes of the same faces ([xie2019a] Table II).

    DATA/svm/gabor.json    of handcrafted features      RUN/svm.json    of a run's deep features
    DATA/svm/gabor.csv     their decisions on the test part, one row an image      RUN/svm.csv
"""
import csv
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import numpy as np
from sklearn.svm import SVC

from common import files, progress
from common.errors import UserError
from data_prep import lmdb_io, manifest, prepared_folder, records
from data_prep.features import NAMES
from published import values as printed_figures
from tools.analysis import activations
from tools.evaluation import departures, forward
from tools.evaluation.departures import Departure
from tools.training.caffe_process import all_cores
from tools.training.run import Run, require_same_data

# Rows of Table II.
HANDCRAFTED, DEEP_SVM, DEEP_SOFTMAX = "Hand-crafted Feat. (SVM)", "Deep Feat. (SVM)", "Deep Feat. (Softmax)"
# FC2's input, as a feature.
DEEP = "x"
GAMMAS = (0.5, 1.0, 2.0, 4.0)
COSTS = (1.0, 3.0, 10.0)
# LIBSVM's Gram matrix and scikit-learn's copy of it, float64.
GRAM_BYTES = 2 * 8


class Part(NamedTuple):
    """vectors: float32 (M, D); labels: (M); own: bool (M), False for copies of training images; rows: (M), of the
    manifest."""

    vectors: np.ndarray
    labels: np.ndarray
    own: np.ndarray
    rows: np.ndarray


class Result(NamedTuple):
    """setting: "published" (an untuned SVM), "tuned" or "softmax"; kernel: with its parameters; val, test: correct
    and total; test_own: the same without copies of training images; predicted: classes of the test images;
    published: test accuracy in %, where the paper has it."""

    feature: str
    setting: str
    kernel: str
    val: tuple[int, int]
    test: tuple[int, int]
    test_own: tuple[int, int]
    predicted: Sequence[int]
    published: Optional[float] = None


class Saved(NamedTuple):
    """What an earlier call found. rows: the test images' rows of the manifest, beside each result's `predicted`."""

    results: list[Result]
    rows: list[int]

    @property
    def untuned(self) -> Result:
        """Of the untuned machines the one that is best on the validation part."""
        return max((result for result in self.results if result.setting == "published"),
                   key=lambda result: result.val[0])

    def with_setting(self, setting: str) -> Optional[Result]:
        return next((result for result in self.results if result.setting == setting), None)


def svm(data: str, names: Optional[Sequence[str]], limit: Optional[int]) -> Iterator[Result]:
    """Results for each feature of a prepared folder, which keeps them: untuned, and tuned on the validation part.
    Each test figure is looked at once. limit: of training images, the first ones in training order.

    Raises UserError where a part or a feature is missing, and where memory is too small for the kernel matrix.
    """
    note = prepared_folder.read_note(data)
    for name in names or note["features"]:
        if name not in note["features"]:
            raise UserError("{}: has no {} features; it has {}".format(
                data, name, ", ".join(note["features"]) or "none"))
        parts = {split: read(data, split, name, limit if split == "train" else None) for split in manifest.SPLITS}
        printed = published(HANDCRAFTED, name.upper()) if note["asked"]["dataset"] == "fer2013" else None
        results = [result._replace(published=printed) for result in _results(name, parts)]
        _save(data_prefix(data, name), data, results, parts["test"], limit)
        yield from results


def svm_of_run(run: Run, limit: Optional[int]) -> list[Result]:
    """The same for the deep features of a trained run, whose folder keeps them, and last the net's own softmax
    decision on the same crops.

    Raises UserError as `svm`, and where training is not complete.
    """
    info = run.info
    data = info["data"]
    require_same_data(run)
    parts, right = {}, {}
    for split in manifest.SPLITS:
        parts[split], predicted = _read_deep(run, split, limit if split == "train" else None)
        right[split] = predicted == parts[split].labels
    column = next((figure.column for figure in printed_figures.read("xie2019a") if figure.row == DEEP_SOFTMAX
                   and figure.experiment == info["experiment"]["name"]), None)
    results = [result._replace(published=published(DEEP_SVM, column)) for result in _results(DEEP, parts)]
    own = parts["test"].own
    results.append(Result(DEEP, "softmax", "softmax", _counts(right["val"]), _counts(right["test"]),
                          _counts(right["test"][own]), predicted.tolist(), published(DEEP_SOFTMAX, column)))
    _save(run_prefix(run), data, results, parts["test"], limit)
    return results


def published(row: str, column: Optional[str]) -> Optional[float]:
    """What Table II prints, in %; None where it has no such column."""
    return next((float(figure.value) for figure in printed_figures.read("xie2019a")
                 if (figure.table, figure.row, figure.column) == ("II", row, column)), None)


def departing(data: str, names: Sequence[str]) -> list[Departure]:
    """What stands against comparing handcrafted features of a prepared folder with Table II."""
    printed = next(figure for figure in printed_figures.read("xie2019a") if figure.row == HANDCRAFTED)
    return departures.of_data(prepared_folder.read_note(data), printed.data, names)


def data_prefix(data: str, name: str) -> str:
    """Of the files that keep what is known of a handcrafted feature."""
    return os.path.join(data, "svm", name)


def run_prefix(run: Run) -> str:
    return run.path("svm")


def read(data: str, split: str, name: str, limit: Optional[int] = None) -> Part:
    """The features of the first crop of each image of a split."""
    chosen = _first_crops(data, split, limit)
    reader = lmdb_io.Reader(os.path.join(data, split, name))
    size = lmdb_io.decode(reader[chosen[0].key])[0].size
    vectors = np.empty((len(chosen), size), np.float32)
    for vector, record in zip(vectors, progress.each(f"{name}: {split}", chosen)):
        vector[...] = lmdb_io.decode_floats([reader[record.key]], size)[0]
    return _part(data, chosen, vectors)


def _read_deep(run: Run, split: str, limit: Optional[int]) -> tuple[Part, np.ndarray]:
    """FC2's input for the first crop of each image, with L2 norm 1, and the class that the net decides on."""
    data, deploy = run.info["data"], run.path("deploy.prototxt")
    chosen = _first_crops(data, split, limit)
    images = lmdb_io.Reader(os.path.join(data, split, "images"))
    inputs = activations.blobs(deploy).x
    found = forward.outputs(deploy, run.caffemodel(), forward.Images(images, [record.key for record in chosen]),
                            inputs + ("prob",), forward.transform(run.experiment),
                            engine=all_cores(run.info["gpu"]))
    vectors = activations.normalised([found[name] for name in inputs])
    return _part(data, chosen, vectors), found["prob"].argmax(axis=1)


def _first_crops(data: str, split: str, limit: Optional[int]) -> list[records.Record]:
    chosen = [record for record in records.read(data, split) if record.crop == 0][:limit]
    if split == "train":
        _require_memory(data, len(chosen))
    return chosen


def _part(data: str, chosen: Sequence[records.Record], vectors: np.ndarray) -> Part:
    faces = prepared_folder.faces(data)
    return Part(vectors, np.array([faces[record.row].label for record in chosen]),
                np.array([not faces[record.row].copy_of for record in chosen]),
                np.array([record.row for record in chosen]))


def _save(prefix: str, data: str, results: Sequence[Result], test: Part, limit: Optional[int]) -> None:
    faces = prepared_folder.faces(data)
    with files.replacing(prefix + ".csv") as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(["row", "image", "label"] + [result.kernel for result in results])
        for row, label, *predicted in zip(test.rows, test.labels, *(result.predicted for result in results)):
            out.writerow([row, faces[row].source, label] + predicted)
    kept = [{key: value for key, value in result._asdict().items() if key != "predicted"} for result in results]
    files.write_json(prefix + ".json", {"manifest": prepared_folder.read_note(data)["manifest"], "limit": limit,
                                        "results": kept})


def saved(prefix: str, manifest_hash: str) -> Optional[Saved]:
    """None where nothing was kept, or of other images."""
    if not os.path.exists(prefix + ".json"):
        return None
    kept = files.read_json(prefix + ".json")
    if kept["manifest"] != manifest_hash:
        return None
    with open(prefix + ".csv", newline="", encoding="utf-8") as stream:
        _, *lines = csv.reader(stream)
    columns = [[int(line[column]) for line in lines] for column in range(3, 3 + len(kept["results"]))]
    results = [Result(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()},
                      predicted=predicted) for fields, predicted in zip(kept["results"], columns)]
    return Saved(results, [int(line[0]) for line in lines])


def handcrafted(run: Run) -> dict[str, Saved]:
    """What is known of the handcrafted features of the images that a run was trained with, by their names."""
    info = run.info
    found = {name: saved(data_prefix(info["data"], name), info["manifest"]) for name in NAMES}
    return {name: kept for name, kept in found.items() if kept}


def table(results: Sequence[Result], data: str, run: Optional[Run] = None, limit: Optional[int] = None) -> str:
    """Results as text, with the published figures and what stands against comparing with them. run: of deep ones;
    limit: of training images."""
    layout = "{:<8}{:<11}{:<26}{:>17}{:>17}{:>19}{:>11}"
    lines = [layout.format("feature", "setting", "kernel", "val", "test", "test, no copies", "published")]
    for result in results:
        lines.append(layout.format(
            result.feature, result.setting, result.kernel, *map(percent, (result.val, result.test, result.test_own)),
            "" if result.published is None else result.published))
    lines.append("geometry of the features: {}".format(prepared_folder.read_note(data)["asked"]["geometry"]))
    printed = {result.feature for result in results if result.published is not None}
    handcrafted = sorted(printed - {DEEP})
    part = [Departure("training images", f"the first {limit}", "all")] if limit else []
    for whose, found in (("handcrafted features", departing(data, handcrafted) + part if handcrafted else []),
                         ("deep features", departures.of_runs([run]) + part if run and DEEP in printed else [])):
        if found:
            lines.append("{} are not compared with the published ones: {}".format(whose, "; ".join(map(str, found))))
    return "\n".join(lines)


def percent(counts: tuple[int, int]) -> str:
    return "{:.2f} ({}/{})".format(100 * counts[0] / counts[1], *counts)


def _counts(right: np.ndarray) -> tuple[int, int]:
    return int(right.sum()), len(right)


def _results(name: str, parts: dict[str, Part]) -> Iterator[Result]:
    train = parts["train"]
    products = {split: train.vectors @ part.vectors.T for split, part in parts.items()}
    norms = {split: (part.vectors ** 2).sum(axis=1) for split, part in parts.items()}

    def kernel(split: str, gamma: Optional[float]) -> np.ndarray:
        """(M, train): linear for gamma None, else RBF."""
        if gamma is None:
            return products[split].T.astype(np.float64)
        distances = norms[split][:, None] + norms["train"][None, :] - 2 * products[split].T
        return np.exp(-gamma * np.maximum(distances, 0), dtype=np.float64)

    def fitted(gamma, cost):
        machine = SVC(C=cost, kernel="precomputed", cache_size=1000)
        return machine.fit(kernel("train", gamma), train.labels)

    def right(machine, gamma, split):
        return machine.predict(kernel(split, gamma)) == parts[split].labels

    def result(setting, words, machine, gamma):
        predicted = machine.predict(kernel("test", gamma))
        test, own = predicted == parts["test"].labels, parts["test"].own
        return Result(name, setting, words, _counts(right(machine, gamma, "val")), _counts(test), _counts(test[own]),
                      predicted.tolist())

    dimension = train.vectors.shape[1]
    yield result("published", "linear, C 1", fitted(None, 1.0), None)
    yield result("published", f"RBF, C 1, gamma 1/{dimension}", fitted(1 / dimension, 1.0), 1 / dimension)
    best, score = None, -1
    for gamma, cost in progress.each(f"{name}: tuning", [(g, c) for g in GAMMAS for c in COSTS]):
        machine = fitted(gamma, cost)
        found = right(machine, gamma, "val").sum()
        if found > score:
            best, score = (machine, gamma, cost), found
    machine, gamma, cost = best
    yield result("tuned", f"RBF, C {cost:g}, gamma {gamma:g}", machine, gamma)


def _require_memory(data: str, count: int) -> None:
    needed = GRAM_BYTES * count ** 2
    with open("/proc/meminfo") as stream:
        available = next(int(line.split()[1]) * 1024 for line in stream if line.startswith("MemAvailable"))
    if needed > available:
        raise UserError(f"{data}: the kernel matrix of {count} training images needs {needed / 1e9:.1f} GB of "
                        f"memory, {available / 1e9:.1f} GB are "
                        "available; --limit N takes fewer images")


