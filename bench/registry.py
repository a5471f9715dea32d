"""The benchmarks of `./fer bench`, their tables and their JSON files."""
import importlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from common import files

# Name of the benchmark -> what it measures. The module of this name has a function `measure(options)`,
# which returns the rows, or yields each one when it is known.
BENCHMARKS = {
    "layers": "the time of each type of layer in an iteration, for six nets",
    "crops": "records written per second, compared with Caffe's convert_imageset",
    "gabor": "features computed per second, compared with scikit-image's filters",
    "evaluation": "records evaluated per second, compared with plain `caffe test`",
    "side_by_side": "trainings side by side with one thread each, compared with one after the other with all threads",
    "kernels": "the speed of OpenBLAS's kernels that this processor can run",
    "adaptive": "a training with adaptive loss weights, compared with one with fixed weights",
    "scaling": "how time grows with the number of images",
    "memory": "peak memory of a preparation, for two numbers of images",
    "load": "time, memory and disk space of the commands, for much data and for a tenth of it",
    "feeding": "images per second that data layers give, in Caffe and in the engine",
    "engine": "iterations per second of the engine on PyTorch, compared with Caffe",
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
    """Runs a benchmark. Returns its result, and writes it to OUT/<name>.json."""
    began = time.time()
    machine_before = machine()
    for folder in (options.data, options.out):
        files.claim(folder, KIND)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=options.out) as scratch:
        rows = list(_shown(name, importlib.import_module("bench." + name).measure(replace(options, scratch=scratch))))
    result = {"benchmark": name, "tells": BENCHMARKS[name], "quick": options.quick, "machine": machine_before,
              "date": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began)), "seconds": time.time() - began,
              "rows": rows}
    files.write_json(os.path.join(options.out, name + ".json"), result)
    return result


def _shown(name: str, rows: Iterable[dict]) -> Iterator[dict]:
    """The rows. It shows on standard error which benchmark runs, and each row when it is known."""
    print(f"{name}: measures {BENCHMARKS[name]}", file=sys.stderr, flush=True)
    for row in rows:
        print(f"{name}: " + ", ".join(f"{key} {_cell(value)}" for key, value in row.items()), file=sys.stderr,
              flush=True)
        yield row


def machine() -> dict:
    """Facts about the machine, on which the results depend. load: the average number of processes that used or waited
    for a core in the last minute, including our own."""
    from tools.training import run  # here, because it loads Caffe, which the command line's help does not need
    with open("/proc/cpuinfo") as stream:
        models = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    return {"processor": next(iter(models), platform.machine()), "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "kernel": platform.release(),
            "load": os.getloadavg()[0], "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
            "python": platform.python_version(), **run.versions()}


def table(rows: Sequence[dict]) -> str:
    """The rows as a text table, with their keys as the header. Columns of numbers are aligned to the right."""
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


def headline(result: dict) -> str:
    """The line above the table of a benchmark. result: of `measure`."""
    facts = result["machine"]
    return "{}: {} ({}, {} cores, load {:.1f}; {:.0f} s)".format(
        result["benchmark"], result["tells"], facts["processor"], facts["cores"], facts["load"], result["seconds"])

