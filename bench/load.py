"""Much data: the time, the memory and the disk space that commands need, for some data and for ten times as many.

The images are small drawn faces with noise, so no two of them are the same. The photographs have 640x480 pixels and one
drawn face each. The exponent is that of the processor time; above 1, something grows faster than the data.
"""
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np

from bench import drawn, memory, timing
from bench.scaling import exponent
from common import files
from common.expressions import SEVEN
from data_prep import prepared_folder

SUBJECTS = 12
EXPERIMENT = "xie2019a/fer2013-toy-softmax"
# The toy net's own size of a batch.
BATCH = 64
# The least number of each kind of thing; each is measured once more with ten times as many.
FEW = {"images": 20_000, "crops": 5_000, "photographs": 300, "runs": 50, "seeds": 10}
QUICK = {"images": 210, "crops": 5, "photographs": 2, "runs": 2, "seeds": 1}
# The split of an image, by the last digit of its number.
SPLITS = ("train",) * 8 + ("val", "test")


@dataclass(frozen=True)
class Took:
    """What a command needed."""

    seconds: float
    # Seconds of processor time of all its processes.
    processor: float
    # Peak of the anonymous memory of all its processes.
    memory: int
    # Bytes of what it left.
    disk: int


def measure(options) -> Iterator[dict]:
    few = QUICK if options.quick else FEW
    pictures = _pictures(options)
    small, large = [_Case(options, few, times, pictures) for times in (1, 10)]
    for name, (unit, step) in STEPS.items():
        first, second = step(small), step(large)
        for case, took in ((small, first), (large, second)):
            yield {"what": name, "of": case.numbers[unit], "unit": unit, "s": took.seconds, "CPU s": took.processor,
                   "MB at the peak": took.memory / 1e6, "MB on disk": took.disk / 1e6,
                   "exponent": exponent((1, 10), (first.processor, second.processor)) if case is large else None}


class _Case:
    """A number of images, and what the commands make of them in a folder of its own."""

    def __init__(self, options, few: dict[str, int], times: int, pictures: Sequence[tuple[str, np.ndarray]]):
        self.numbers = {unit: times * count for unit, count in few.items()}
        self.folder = os.path.join(options.scratch, str(times))
        self.faces, self.data, self.run = (os.path.join(self.folder, name) for name in ("faces", "data", "run"))
        self._pictures = pictures
        self._cores = str(options.cores)
        _write_faces(pictures, self.faces, self.numbers["images"])

    def prepare(self) -> Took:
        return _command(self.data, "prepare", "folder", self.faces, "--crops", "whole", "--features", "--processes",
                        self._cores, "--out", self.data)

    def train(self) -> Took:
        iterations = max(1, prepared_folder.read_note(self.data)["records"]["train"] // BATCH)
        return _command(self.run, "train", EXPERIMENT, "--data", self.data, "--out", self.run, "--set",
                        f"solver.max_iter={iterations}", f"solver.test_interval={iterations}", "solver.snapshot=0")

    def evaluate(self) -> Took:
        return _command(None, "evaluate", self.run)

    def report(self) -> Took:
        page = os.path.join(self.folder, "report.html")
        return _command(page, "report", self.run, "--out", page)

    def predict_crops(self) -> Took:
        folder = os.path.join(self.folder, "crops")
        os.makedirs(folder)
        for number in range(self.numbers["crops"]):
            cv2.imwrite(os.path.join(folder, f"{number:06d}.png"), _face(self._pictures, number))
        return self._predict(folder, "--whole")

    def predict_photographs(self) -> Took:
        folder = os.path.join(self.folder, "photographs")
        os.makedirs(folder)
        for number in range(self.numbers["photographs"]):
            cv2.imwrite(os.path.join(folder, f"{number:06d}.jpg"), _photograph(self._pictures, number))
        return self._predict(folder)

    def _predict(self, folder: str, *options: str) -> Took:
        table = os.path.join(self.folder, "faces.csv")
        # The status is 1 if a photograph shows no face that the detector finds.
        return _command(table, "predict", self.run, folder, "--csv", table, "--processes", self._cores, *options,
                        expected=(0, 1))

    def many_runs(self) -> Took:
        """A page on many runs, all of which are the same run under other names: the pages of real ones are as long."""
        runs = [os.path.join(self.folder, "runs", f"run{number:04d}") for number in range(self.numbers["runs"])]
        source = os.path.join(os.path.dirname(self.folder), "1", "run")
        for run in runs:
            shutil.copytree(source, run, copy_function=os.link)
        page = os.path.join(self.folder, "many.html")
        return _command(page, "report", *runs, "--out", page)

    def train_seeds(self) -> Took:
        seeds, folder = map(str, range(1, 1 + self.numbers["seeds"])), os.path.join(self.folder, "seeds")
        data = os.path.join(os.path.dirname(self.folder), "1", "data")
        return _command(folder, "train", EXPERIMENT, "--data", data, "--out", folder, "--processes", self._cores,
                        "--set", "solver.max_iter=5", "solver.test_interval=5", "solver.snapshot=0",
                        "solver.batch_size=8", "--seeds", *seeds)

    def evaluate_seeds(self) -> Took:
        return _command(None, "evaluate", os.path.join(self.folder, "seeds"))

    def report_seeds(self) -> Took:
        page = os.path.join(self.folder, "seeds.html")
        return _command(page, "report", os.path.join(self.folder, "seeds"), "--out", page)


# What is measured -> the unit that counts, and the step. A step uses what the ones before it made.
STEPS = {
    "prepare": ("images", _Case.prepare), "train, one pass": ("images", _Case.train),
    "evaluate": ("images", _Case.evaluate), "report": ("images", _Case.report),
    "predict --whole": ("crops", _Case.predict_crops), "predict": ("photographs", _Case.predict_photographs),
    "report of many runs": ("runs", _Case.many_runs), "train a group of seeds": ("seeds", _Case.train_seeds),
    "evaluate the group": ("seeds", _Case.evaluate_seeds), "report of the group": ("seeds", _Case.report_seeds),
}


def _command(left: Optional[str], *words: str, expected: Sequence[int] = (0,)) -> Took:
    """Runs a command of the project. left: the file or folder that it makes, if any; expected: exit statuses."""
    began, used = time.perf_counter(), timing.of_children()
    most = memory.peak([sys.executable, "-m", "tools.cli", *words], expected)
    seconds, processor = time.perf_counter() - began, timing.of_children() - used
    disk = 0 if left is None else files.size(left) if os.path.isdir(left) else os.path.getsize(left)
    return Took(seconds, processor, most, disk)


def _pictures(options) -> list[tuple[str, np.ndarray]]:
    """Class and image of each drawn face, in grey."""
    folder = os.path.join(drawn.faces(options.data, SUBJECTS, options.cores), "faces", "train")
    return [(name, cv2.imread(os.path.join(folder, name, file), cv2.IMREAD_GRAYSCALE))
            for name in SEVEN for file in sorted(os.listdir(os.path.join(folder, name)))]


def _write_faces(pictures: Sequence[tuple[str, np.ndarray]], folder: str, count: int) -> None:
    """Writes `count` faces to folder/<split>/<class>, eight tenths for training."""
    for split in set(SPLITS):
        for name in SEVEN:
            os.makedirs(os.path.join(folder, split, name))
    for number in range(count):
        name, _ = pictures[number % len(pictures)]
        path = os.path.join(folder, SPLITS[number % len(SPLITS)], name, f"{number:06d}.png")
        cv2.imwrite(path, _face(pictures, number))


def _face(pictures: Sequence[tuple[str, np.ndarray]], number: int) -> np.ndarray:
    """A face of 48x48 pixels. The noise is that of the number."""
    return _noisy(cv2.resize(pictures[number % len(pictures)][1], (48, 48), interpolation=cv2.INTER_AREA), number)


def _photograph(pictures: Sequence[tuple[str, np.ndarray]], number: int) -> np.ndarray:
    """A face of 200x200 pixels somewhere in a photograph of 640x480."""
    random = np.random.RandomState(number)
    image = np.full((480, 640), 120, np.uint8)
    top, left = random.randint(0, 280), random.randint(0, 440)
    image[top:top + 200, left:left + 200] = cv2.resize(pictures[number % len(pictures)][1], (200, 200))
    return _noisy(image, number)


def _noisy(image: np.ndarray, seed: int) -> np.ndarray:
    return np.clip(np.random.RandomState(seed).randint(-8, 9, image.shape) + image, 0, 255).astype(np.uint8)
