"""Commands that are disturbed, and what they must leave."""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

import cv2

from common.experiment import ROOT
from data_prep.datasets import synthetic
from tests import small_data
from tests.tools import small_pairs

# In the environment of all processes of a command.
MARK = "CAFFE_FER_DISTURBED"
# What differs between two undisturbed calls: logs, and the notes of Snakemake, say when, and plans how much memory was
# measured.
DIFFERS, NOTES_OF_JOBS = (".log", "plan.json"), ".snakemake"
# What the user has beside what a command makes.
NOTES = "my notes.txt"
SHORT = ["solver.batch_size=8", "solver.snapshot=4", "solver.test_interval=4", "solver.display=1"]
TOY = [*SHORT, "solver.max_iter=24"]
ALAW = [*SHORT, "weighting.restart_iterations=8", "weighting.rounds=2", "losses.gsf.weight=1e-2",
        "losses.sift.weight=1e-2"]
PACED = ["solver.batch_size=6", "solver.test_interval=50", "solver.snapshot=2", "solver.display=1", "pacing.paces=2",
         "pacing.more=50", "pacing.epochs=2"]
TABLE = ["net=toy", "solver.batch_size=4", "solver.max_iter=12", "solver.snapshot=4", "solver.display=4"]


class Inputs:
    """What the commands read."""

    def __init__(self, folder: str):
        self.csv = small_data.write_csv(os.path.join(folder, "fer2013.csv"), small_data.rows((84, 14, 14)))
        self.data, self.run, self.photograph = (os.path.join(folder, name) for name in ("data", "run", "face.png"))
        pairs = pathlib.Path(folder) / "pairs"
        pairs.mkdir()
        self.pairs = small_pairs.prepared(pairs)
        for words in (["prepare", "fer2013", self.csv, "--features", "gabor", "gsf", "sift", "--out", self.data],
                      ["train", "xie2019a/fer2013-toy-softmax", "--data", self.data, "--out", self.run, *changed(TOY)],
                      ["evaluate", self.run], ["evaluate", self.run, "--split", "val"]):
            done = call(words, folder)
            assert done.returncode == 0, done.stderr
        cv2.imwrite(self.photograph, cv2.resize(synthetic.draw_face(700, 3, 4)[0], (300, 300)))


@dataclass(frozen=True)
class Case:
    """A command that is given in a folder of its own, in which it makes `out`."""

    name: str
    words: Callable[[Inputs], list[str]]
    # Whether a trained and evaluated run is there as `run`.
    on_run: bool = False

    def begin(self, inputs: Inputs, folder: str) -> None:
        """Makes the folder as the command finds it."""
        os.makedirs(folder)
        with open(os.path.join(folder, NOTES), "w", encoding="utf-8") as stream:
            stream.write("of the user")
        if self.on_run:
            shutil.copytree(inputs.run, os.path.join(folder, "run"))


def changed(changes: Sequence[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def _training(name: str, changes: Sequence[str], pairs: bool = False) -> Callable[[Inputs], list[str]]:
    return lambda inputs: ["train", name, "--data", inputs.pairs if pairs else inputs.data, "--out", "out",
                           "--threads", "1", "--processes", "2", *changed(changes)]


CASES = (
    Case("prepare", lambda inputs: ["prepare", "fer2013", inputs.csv, "--features", "gabor", "gsf", "sift", "--out",
                                    "out", "--processes", "2"]),
    Case("train", _training("xie2019a/fer2013-toy-softmax", TOY)),
    Case("train with adaptive weights", _training("xie2019a/fer2013-toy-alaw", ALAW)),
    Case("train self-paced", _training("wu2023/synthetic-spndl", PACED, pairs=True)),
    Case("evaluate", lambda inputs: ["evaluate", "run", "--every-snapshot"], on_run=True),
    Case("reproduce", lambda inputs: ["reproduce", "xie2019b-table4", "--data", "fer2013-xie2019a=" + inputs.data,
                                      "--out", "out", *changed(TABLE)]),
    Case("report", lambda inputs: ["report", "run", "--out", "out"], on_run=True),
    Case("predict", lambda inputs: ["predict", "run", inputs.photograph, "--draw", "out"], on_run=True))


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "tools.cli", *words]


def environment(mark: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ROOT, MARK: mark}


def call(words: Sequence[str], folder: str, mark: str = "") -> "subprocess.CompletedProcess[str]":
    """Gives a command in a folder."""
    return subprocess.run(command(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", cwd=folder,
                          env=environment(mark))


def left(folder: str) -> dict[str, str]:
    """Path -> digest of each file below a folder."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != NOTES_OF_JOBS]
        for name in names:
            if not name.endswith(DIFFERS):
                path = os.path.join(place, name)
                with open(path, "rb") as stream:
                    found[os.path.relpath(path, folder)] = hashlib.sha256(stream.read()).hexdigest()
    return found


def processes(mark: str) -> list[str]:
    """The command lines of the processes that a command has left, after some seconds in which they may end."""
    until = time.monotonic() + 10
    while True:
        found = [line for number in filter(str.isdigit, os.listdir("/proc")) for line in _marked(number, mark)]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def _marked(number: str, mark: str) -> list[str]:
    try:
        with open(f"/proc/{number}/environ", "rb") as stream:
            if f"{MARK}={mark}".encode() not in stream.read().split(b"\0"):
                return []
        with open(f"/proc/{number}/cmdline", "rb") as stream:
            words = stream.read().split(b"\0")
    except OSError:  # it has ended
        return []
    return [b" ".join(words).decode(errors="replace")] if any(words) else []  # one without words is a zombie
