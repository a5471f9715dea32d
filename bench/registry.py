"""What `./fer bench` can measure, and how it is printed and kept."""
import importlib
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from common import files

# Name, of a module here with a function `measure(options) -> rows`, and what it tells.
BENCHMARKS = {
    "layers": "where an iteration goes, in four nets",
    "crops": "records written, against Caffe's convert_imageset",
    "gabor": "features, against scikit-image's filters",
    "evaluation": "evaluating, against plain `caffe test`",
    "side_by_side": "trainings side by side, a thread each, against one after the other with all threads",
    "kernels": "OpenBLAS's kernels that this processor can run",
    "adaptive": "a training with adaptive loss weights, against one with fixed ones",
    "scaling": "how time grows with the number of images",
    "memory": "peak memory of a preparation, of ten times the images",
}

KIND = "folder of benchmarks"


@dataclass(frozen=True)
class Options:
    """The options of a benchmark."""

    # Folder of the synthetic faces and the prepared data, which later benchmarks use again.
    data: str
    # Folder of the results.
    out: str
    # Whether to measure less of everything.
    quick: bool
    # Largest number of processes and threads.
    cores: int
    # Folder of temporary files, which is removed afterwards.
    scratch: str = ""


def measure(name: str, options: Options) -> dict:
    """What is printed of a benchmark, and kept in OUT/<name>.json."""
    began = time.time()
    machine_before = machine()
    for folder in (options.data, options.out):
        files.claim(folder, KIND)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=options.out) as scratch:
        rows = importlib.import_module("bench." + name).measure(replace(options, scratch=scratch))
    found = {"benchmark": name, "tells": BENCHMARKS[name], "quick": options.quick, "machine": machine_before,
            "date": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began)), "seconds": time.time() - began,
            "rows": rows}
    files.write_json(os.path.join(options.out, name + ".json"), found)
    return found


def machine() -> dict:
    """Facts that the figures depend on. load: processes that wanted a core in the last minute, ours among them."""
    from tools.training import run  # loads Caffe, which the command line's help needs not
    with open("/proc/cpuinfo") as stream:
        models = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    return {"processor": next(iter(models), platform.machine()), "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "kernel": platform.release(),
            "load": os.getloadavg()[0], "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
            "python": platform.python_version(), **run.versions()}


def table(rows: Sequence[dict]) -> str:
    """Text and numbers in columns."""
    names = list(rows[0])
    cells = [names] + [[_cell(row[name]) for name in names] for row in rows]
    numeric = [not any(isinstance(row[name], str) for row in rows) for name in names]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) if right else cell.ljust(width)
                               for cell, width, right in zip(line, widths, numeric)).rstrip() for line in cells)


def _cell(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def headline(found: dict) -> str:
    facts = found["machine"]
    return "{}: {} ({}, {} cores, load {:.1f}; {:.0f} s)".format(
        found["benchmark"], found["tells"], facts["processor"], facts["cores"], facts["load"], found["seconds"])

