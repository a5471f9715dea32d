"""Peak anonymous memory (RssAnon) of a preparation, summed over all its processes, for two numbers of images.

The preparation makes ten crops with all features of random images in FER2013's format. It uses the compact geometry,
which is faster. The mapped pages of LMDB belong to files, so they do not count.
"""
import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from common import files


def measure(options) -> list[dict]:
    rows: list[dict] = []
    for count in (100, 300) if options.quick else (500, 5000):
        folder = os.path.join(options.scratch, str(count))
        os.makedirs(folder)
        began = time.time()
        megabytes = of_preparation(folder, count, options.cores) / 1e6
        rows.append({"images": count, "MB at the peak": megabytes, "times the first": megabytes / (
            rows[0]["MB at the peak"] if rows else megabytes), "seconds": time.time() - began})
        files.remove(folder)
    return rows


def of_preparation(folder: str, count: int, processes: int = 2) -> int:
    """Peak memory of a preparation of `count` images, in bytes. folder: for its files."""
    source = os.path.join(folder, "fer2013.csv")
    random = np.random.RandomState(0)
    with open(source, "w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["emotion", "pixels", "Usage"])
        for number in range(count):
            usage = ("Training",) * 8 + ("PublicTest", "PrivateTest")
            out.writerow([number % 7, " ".join(map(str, random.randint(0, 256, 48 * 48))), usage[number % 10]])
    return peak([sys.executable, "-m", "tools.cli", "prepare", "fer2013", source, "--protocol", "xie2019a",
                 "--features", "gabor", "gsf", "sift", "--geometry", "compact", "--processes", str(processes),
                 "--out", os.path.join(folder, "out")])


def peak(command: list[str], expected: Sequence[int] = (0,)) -> int:
    """Runs the command, and returns the peak memory of it and its descendants together, in bytes.

    Raises RuntimeError if the command ends with another status than the expected ones.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        most = max(most, sum(map(anonymous, descendants(process.pid))))
        time.sleep(0.05)
    if process.returncode not in expected:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return most


def descendants(pid: int) -> list[int]:
    """The process itself and all its descendants."""
    pids, generation = [], [pid]
    while generation:
        pids += generation
        generation = [child for parent in generation for child in _children(parent)]
    return pids


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for thread in os.listdir(f"/proc/{pid}/task")
                for child in open(f"/proc/{pid}/task/{thread}/children").read().split()]
    except OSError:
        return []


def anonymous(pid: int) -> int:
    """RssAnon in bytes; 0 for a process that has ended."""
    try:
        with open(f"/proc/{pid}/status") as stream:
            return next((int(line.split()[1]) * 1024 for line in stream if line.startswith("RssAnon")), 0)
    except OSError:
        return 0

