"""How far the handcrafted features get by themselves: LIBSVM on prepared data, beside the published figures."""
import os
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from sklearn.svm import SVC

from data_prep import lmdb_io, manifest, prepare, progress, records
from data_prep.errors import UserError

# Test accuracies on FER2013 in % ([xie2019a] II-B).
PUBLISHED = {"gsf": 48.12, "gabor": 46.06, "sift": 44.36}
GAMMAS = (0.5, 1.0, 2.0, 4.0)
COSTS = (1.0, 3.0, 10.0)
# LIBSVM's Gram matrix and scikit-learn's copy of it, float64.
GRAM_BYTES = 2 * 8


class Part(NamedTuple):
    """vectors: float32 (M, D); labels: (M); own: bool (M), False for copies of training images."""

    vectors: np.ndarray
    labels: np.ndarray
    own: np.ndarray


class Result(NamedTuple):
    """setting: "published" (untuned) or "tuned"; kernel: with its parameters; val, test: correct and total;
    test_own: the same without copies of training images."""

    feature: str
    setting: str
    kernel: str
    val: Tuple[int, int]
    test: Tuple[int, int]
    test_own: Tuple[int, int]


def svm(data: str, names: Optional[Sequence[str]], limit: Optional[int]) -> Iterator[Result]:
    """Results for each feature of a prepared folder: untuned, and tuned on the validation part. Each test figure
    is looked at once. limit: of training images, the first ones in training order.

    Raises UserError where a part or a feature is missing, and where memory is too small for the kernel matrix.
    """
    note = prepare.read_note(data)
    for name in names or note["features"]:
        if name not in note["features"]:
            raise UserError("{}: has no {} features; it has {}".format(
                data, name, ", ".join(note["features"]) or "none"))
        parts = {split: read(data, split, name, limit if split == "train" else None) for split in manifest.SPLITS}
        yield from _results(name, parts)


def read(data: str, split: str, name: str, limit: Optional[int] = None) -> Part:
    """The features of the first crop of each image of a split."""
    chosen = [record for record in records.read(data, split) if record.crop == 0][:limit]
    if split == "train":
        _require_memory(data, len(chosen))
    faces = manifest.read(os.path.join(data, "manifest.csv"))
    reader = lmdb_io.Reader(os.path.join(data, split, name))
    size = lmdb_io.decode(reader[chosen[0].key])[0].size
    vectors = np.empty((len(chosen), size), np.float32)
    for vector, record in zip(vectors, progress.each("{}: {}".format(name, split), chosen)):
        vector[...] = lmdb_io.decode_floats(reader[record.key], size)
    return Part(vectors, np.array([faces[record.row].label for record in chosen]),
                np.array([not faces[record.row].copy_of for record in chosen]))


def table(results: List[Result], data: str) -> str:
    """Results as text, with the published figures where the data are FER2013."""
    note = prepare.read_note(data)
    lines = ["{:<8}{:<11}{:<26}{:>17}{:>17}{:>19}{:>11}".format(
        "feature", "setting", "kernel", "val", "test", "test, no copies", "published")]
    for result in results:
        published = PUBLISHED[result.feature] if note["asked"]["dataset"] == "fer2013" else ""
        lines.append("{:<8}{:<11}{:<26}{:>17}{:>17}{:>19}{:>11}".format(
            result.feature, result.setting, result.kernel, *map(_percent, (result.val, result.test, result.test_own)),
            published))
    lines.append("geometry of the features: {}".format(note["asked"]["geometry"]))
    return "\n".join(lines)


def _percent(counts: Tuple[int, int]) -> str:
    return "{:.2f} ({}/{})".format(100 * counts[0] / counts[1], *counts)


def _results(name: str, parts: Dict[str, Part]) -> Iterator[Result]:
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
        val, test, own = right(machine, gamma, "val"), right(machine, gamma, "test"), parts["test"].own
        return Result(name, setting, words, (int(val.sum()), len(val)), (int(test.sum()), len(test)),
                      (int(test[own].sum()), int(own.sum())))

    dimension = train.vectors.shape[1]
    yield result("published", "linear, C 1", fitted(None, 1.0), None)
    yield result("published", "RBF, C 1, gamma 1/{}".format(dimension), fitted(1 / dimension, 1.0), 1 / dimension)
    best, score = None, -1
    for gamma, cost in progress.each("{}: tuning".format(name), [(g, c) for g in GAMMAS for c in COSTS]):
        machine = fitted(gamma, cost)
        found = right(machine, gamma, "val").sum()
        if found > score:
            best, score = (machine, gamma, cost), found
    machine, gamma, cost = best
    yield result("tuned", "RBF, C {:g}, gamma {:g}".format(cost, gamma), machine, gamma)


def _require_memory(data: str, count: int) -> None:
    needed = GRAM_BYTES * count ** 2
    with open("/proc/meminfo") as stream:
        available = next(int(line.split()[1]) * 1024 for line in stream if line.startswith("MemAvailable"))
    if needed > available:
        raise UserError("{}: the kernel matrix of {} training images needs {:.1f} GB of memory, {:.1f} GB are "
                        "available; --limit N takes fewer images".format(data, count, needed / 1e9, available / 1e9))


