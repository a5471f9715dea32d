"""LIBSVM on handcrafted features of faces, and on the features of a trained net ("deep features").

    DATA/svm/gabor.json, RUN/svm.json    results for a handcrafted feature, and for a run's deep features
    DATA/svm/gabor.csv, RUN/svm.csv      predictions on the test split, with a row for each image
"""
import csv
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
import tabulate

from common import files, papers, progress
from common.errors import UserError
from data_prep import lmdb_io, manifest, prepared_folder, records
from data_prep.features import NAMES
from published import values
from published.values import Figure
from tools.analysis import activations, kernels
from tools.evaluation import departures, forward
from tools.evaluation.departures import Departure
from tools.training.caffe_process import all_cores
from tools.training.run import DEPLOY, Run, require_same_data

# The name of the deep feature, FC2's input.
DEEP = "x"


@dataclass(frozen=True)
class Split:
    """The M images of a split."""

    # Features, float32 (M, D).
    vectors: np.ndarray
    # Class indices, (M,).
    labels: np.ndarray
    # Bool (M,), False for copies of training images.
    own: np.ndarray
    # Rows of the manifest, (M,).
    rows: np.ndarray


@dataclass(frozen=True)
class Result:
    """The accuracy of an SVM, or of a net."""

    # Name of the feature.
    feature: str
    # "published" (an untuned SVM), "tuned" or "softmax" (the net itself).
    setting: str
    # Kernel and its parameters, as text.
    kernel: str
    # Correct and total on the validation and test splits.
    val: tuple[int, int]
    test: tuple[int, int]
    # `test` without copies of training images.
    test_own: tuple[int, int]
    # Predicted classes of the test images.
    predicted: Sequence[int]
    # Test accuracy in %, if a paper prints it.
    published: Optional[float] = None


@dataclass(frozen=True)
class Saved:
    """Results of an earlier call."""

    results: list[Result]
    # Rows of the manifest: the test images, in the order of each result's `predicted`.
    rows: list[int]
    # What computed the net whose features they are.
    engine: str = departures.ENGINE

    @property
    def untuned(self) -> Result:
        """The untuned SVM that is best on the validation split."""
        return max((result for result in self.results if result.setting == "published"),
                   key=lambda result: result.val[0])

    def with_setting(self, setting: str) -> Optional[Result]:
        return next((result for result in self.results if result.setting == setting), None)


def svm(data: str, names: Optional[Sequence[str]], limit: Optional[int], tunes: bool = True) -> Iterator[Result]:
    """Yields each result for each feature of a prepared folder when it is known, and saves those of a feature there: of
    untuned SVMs, and of one that is tuned on the validation split. The test split is used once for each result.

    names: of the features; None for all. limit: maximum number of training images, the first ones in training order.
    tunes: whether an SVM is tuned.
    Raises UserError if a split or a feature is missing, or if the kernel matrix does not fit in memory.
    """
    note = prepared_folder.read_note(data)
    if not names and not note["features"]:
        raise UserError(f"{data}: has no handcrafted features; prepare it with --features gabor, gsf or sift")
    for name in names or note["features"]:
        if name not in note["features"]:
            raise UserError(f"{data}: has no {name} features; it has {', '.join(note['features']) or 'none'}")
        splits = {split: read(data, split, name, limit if split == "train" else None) for split in manifest.SPLITS}
        printed = published_handcrafted(name)
        value = float(printed.value) if printed and _is_of_same_images(note, printed.data) else None
        results = []
        for result in _results(name, splits, tunes):
            results.append(replace(result, published=value))
            yield results[-1]
        _save(data_prefix(data, name), data, results, splits["test"], limit)


def svm_of_run(run: Run, limit: Optional[int], tunes: bool = True) -> Iterator[Result]:
    """Yields the same results for the deep features of a trained run, and saves them in its folder. The last result is
    that of the net's own softmax on the same crops.

    Raises UserError as `svm` does, and if training is not complete.
    """
    info = run.info
    data = info["data"]
    require_same_data(run)
    splits, right, predicted = {}, {}, np.empty(0, int)
    for split in manifest.SPLITS:
        splits[split], predicted = _read_deep(run, split, limit if split == "train" else None)
        right[split] = predicted == splits[split].labels
    with_svm, with_softmax = (float(figure.value) if figure else None
                               for figure in published_deep(info["experiment"]["name"]))
    results = []
    for result in _results(DEEP, splits, tunes):
        results.append(replace(result, published=with_svm))
        yield results[-1]
    own = splits["test"].own
    results.append(Result(DEEP, "softmax", "softmax", _counts(right["val"]), _counts(right["test"]),
                          _counts(right["test"][own]), predicted.tolist(), with_softmax))
    yield results[-1]
    _save(run_prefix(run), data, results, splits["test"], limit, engine=all_cores().device.engine)


def published_handcrafted(name: str) -> Optional[Figure]:
    """The figure that a paper prints for an SVM on a handcrafted feature; None if there is none."""
    return next((figure for paper in papers.names() for figure in values.read(paper)
                 if (figure.measure, figure.experiment, figure.column) == ("svm", "", name.upper())), None)


def published_deep(experiment: str) -> tuple[Optional[Figure], Optional[Figure]]:
    """The figures that the experiment's paper prints for an SVM on the deep feature, and for softmax in the same
    table; None if there is none."""
    figures = [figure for figure in values.read(experiment.split("/")[0]) if figure.experiment == experiment]
    with_svm = next((figure for figure in figures if figure.measure == "svm"), None)
    return with_svm, with_svm and next((figure for figure in figures if (figure.table, figure.measure) == (
        with_svm.table, "accuracy")), None)


def _is_of_same_images(note: dict, data: str) -> bool:
    """Whether prepared data are from the same data set, with any protocol. data: "<data set>-<protocol>"."""
    return note["asked"]["dataset"] == data.split("-")[0]


def departing(data: str, names: Sequence[str]) -> list[Departure]:
    """The departures of the results for handcrafted features of a prepared folder from the published results; empty if
    no paper prints any."""
    figures = [figure for figure in map(published_handcrafted, names) if figure]
    return departures.of_data(prepared_folder.read_note(data), figures[0].data, names) if figures else []


def data_prefix(data: str, name: str) -> str:
    """The path, without extension, of the files with the results for a handcrafted feature."""
    return os.path.join(data, "svm", name)


def run_prefix(run: Run) -> str:
    """The path, without extension, of the files with the results for deep features."""
    return run.path("svm")


def read(data: str, split: str, name: str, limit: Optional[int] = None) -> Split:
    """The features of the first crop of each image of a split. limit: see `svm`."""
    first_crops = _first_crops(data, split, limit)
    reader = lmdb_io.Reader(os.path.join(data, split, name))
    size = lmdb_io.decode(reader[first_crops[0].key])[0].size
    vectors = np.empty((len(first_crops), size), np.float32)
    for vector, record in zip(vectors, progress.each(f"{name}: {split}", first_crops)):
        vector[...] = lmdb_io.decode_floats([reader[record.key]], size)[0]
    return _split(data, first_crops, vectors)


def _read_deep(run: Run, split: str, limit: Optional[int]) -> tuple[Split, np.ndarray]:
    """FC2's input for the first crop of each image, with L2 norm 1, and the class that the net predicts."""
    data, deploy = run.info["data"], run.path(DEPLOY)
    first_crops = _first_crops(data, split, limit)
    images = lmdb_io.Reader(os.path.join(data, split, "images"))
    inputs = activations.blobs(deploy).x
    outputs = forward.outputs(deploy, run.caffemodel(), forward.Images(images, [record.key for record in first_crops]),
                              inputs + ("prob",), forward.transform(run.experiment),
                              engine=all_cores())
    vectors = activations.normalised([outputs[name] for name in inputs])
    return _split(data, first_crops, vectors), outputs["prob"].argmax(axis=1)


def _first_crops(data: str, split: str, limit: Optional[int]) -> list[records.Record]:
    first_crops = [record for record in records.read(data, split) if record.crop == 0][:limit]
    if split == "train":
        kernels.require_memory(data, len(first_crops))
    return first_crops


def _split(data: str, crops: Sequence[records.Record], vectors: np.ndarray) -> Split:
    faces = prepared_folder.faces(data)
    return Split(vectors, np.array([faces[record.row].label for record in crops]),
                 np.array([not faces[record.row].copy_of for record in crops]),
                 np.array([record.row for record in crops]))


def _save(prefix: str, data: str, results: Sequence[Result], test: Split, limit: Optional[int],
          **more: str) -> None:
    """more: of the file, beside what it has anyway."""
    faces = prepared_folder.faces(data)
    with files.replacing(prefix + ".csv") as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(["row", "image", "label"] + [result.kernel for result in results])
        for row, label, *predicted in zip(test.rows, test.labels, *(result.predicted for result in results)):
            out.writerow([row, faces[row].source, label] + predicted)
    without_predictions = [{key: value for key, value in vars(result).items() if key != "predicted"}
                           for result in results]
    files.write_json(prefix + ".json", {"manifest": prepared_folder.read_note(data)["manifest"], "limit": limit,
                                        "results": without_predictions, **more})


def saved(prefix: str, manifest_hash: str) -> Optional[Saved]:
    """The results that were saved under a prefix; None if there are none, or if they are of other images.

    manifest_hash: the hash of the manifest in prepare.json or run.json.
    """
    if not os.path.exists(prefix + ".json"):
        return None
    note = files.read_json(prefix + ".json")
    if note["manifest"] != manifest_hash:
        return None
    with open(prefix + ".csv", newline="", encoding="utf-8") as stream:
        _, *lines = csv.reader(stream)
    columns = [[int(line[column]) for line in lines] for column in range(3, 3 + len(note["results"]))]
    return Saved([_result(fields, predicted) for fields, predicted in zip(note["results"], columns)],
                 [int(line[0]) for line in lines], departures.engine_of(note))


def _result(fields: dict[str, Any], predicted: Sequence[int]) -> Result:
    """A result from its fields in JSON, where tuples have become lists."""
    return Result(**{**fields, **{key: tuple(fields[key]) for key in ("val", "test", "test_own")}},
                  predicted=predicted)


def handcrafted(run: Run) -> dict[str, Saved]:
    """Name of a handcrafted feature -> its saved results, for the images that a run was trained with."""
    info = run.info
    results = {name: saved(data_prefix(info["data"], name), info["manifest"]) for name in NAMES}
    return {name: result for name, result in results.items() if result}


HEADER = ("feature", "setting", "kernel", "val", "test", "test, no copies", "published")


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The cells of a table with HEADER."""
    return [(result.feature, result.setting, result.kernel, *map(percent, (result.val, result.test, result.test_own)),
             "" if result.published is None else str(result.published)) for result in results]


def notes(results: Sequence[Result], data: str, run: Optional[Run] = None, limit: Optional[int] = None) -> list[str]:
    """The lines below the table: the geometry, and why results are not compared with the published ones.

    run: the run, for deep features; limit: see `svm`.
    """
    lines = [f"geometry of the features: {prepared_folder.read_note(data)['asked']['geometry']}"]
    published = {result.feature for result in results if result.published is not None}
    names = sorted(published - {DEEP})
    limited = [Departure("training images", f"the first {limit}", "all")] if limit else []
    deep = [] if not run or DEEP not in published else departures.of_runs([run]) + departures.of_engine(
        {"engine": all_cores().device.engine}) + limited
    for kind, departs in (("handcrafted features", departing(data, names) + limited if names else []),
                          ("deep features", deep)):
        if departs:
            lines.append(f"{kind} are not compared with the published ones: {'; '.join(map(str, departs))}")
    return lines


def table(results: Sequence[Result], data: str, run: Optional[Run] = None, limit: Optional[int] = None) -> str:
    """The `rows` and `notes` as text."""
    text = tabulate.tabulate(rows(results), HEADER, tablefmt="plain", disable_numparse=True,
                             colalign=("left",) * 3 + ("right",) * 4)
    return "\n".join([text] + notes(results, data, run, limit))


def percent(counts: tuple[int, int]) -> str:
    """Correct and total as text, such as "50.00 (6/12)"."""
    return "{:.2f} ({}/{})".format(100 * counts[0] / counts[1], *counts)


def _counts(right: np.ndarray) -> tuple[int, int]:
    return int(right.sum()), len(right)


def _results(name: str, splits: dict[str, Split], tunes: bool) -> Iterator[Result]:
    labels = {split: images.labels for split, images in splits.items()}
    made = kernels.Kernels({split: images.vectors for split, images in splits.items()})

    def result(setting, words, svc, gamma):
        val = svc.predict(made.matrix("val", gamma)) == labels["val"]
        predicted = svc.predict(made.matrix("test", gamma))
        test = predicted == labels["test"]
        return Result(name, setting, words, _counts(val), _counts(test), _counts(test[splits["test"].own]),
                      predicted.tolist())

    dimension = splits["train"].vectors.shape[1]
    began = time.monotonic()
    for words, gamma in (("linear, C 1", None), (f"RBF, C 1, gamma 1/{dimension}", 1 / dimension)):
        yield result("published", words, kernels.fitted(made.matrix("train", gamma), labels["train"], 1.0), gamma)
    if tunes:
        svc, gamma, cost = kernels.tuned(name, made, labels, (time.monotonic() - began) / 2)
        yield result("tuned", f"RBF, C {cost:g}, gamma {gamma:g}", svc, gamma)
