"""The rows of `bench.gpu`: a net is trained in one precision, in processes of its own, and resumed."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Optional

from bench import gpu_nets

HEADER = (f"{'net':<12} {'batch':>5} {'precision':<9} {'images/s':>9} {'waiting for data':>16} {'peak MB':>8} "
          "resumed to the same bytes")
# A process that takes longer is stopped.
LONGEST = 120.0
# So many seconds the check of the layers has to end when its time is over.
MARGIN = 3.0
SPEED = re.compile(r"Iteration (\d+) \(([\d.e+-]+) iter/s")
ERROR = re.compile(r"(?m)^F\d{4} .*?\] (.*)|^engine: (.*)")


class Budget:
    """How much time is left, and what was left out for want of it."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds
        self.left_out: list[str] = []

    def seconds(self) -> float:
        return self._end - time.monotonic()

    def leave_out(self, what: str) -> dict:
        """Notes it. Returns the fields of a row that was left out."""
        self.left_out.append(what)
        return {"note": "left out: the time was over"}


def layers(device: str, left: Budget) -> dict:
    """The result of `bench.layer_check`, or a `note` that says why there is none."""
    seconds = left.seconds() - MARGIN
    run = _run([sys.executable, "-m", "bench.layer_check", _named(device), str(seconds)], left)
    if run is None:
        return left.leave_out("layers")
    if run.returncode:
        return {"note": _last_line(run.stderr)}
    found = json.loads(run.stdout.splitlines()[-1])
    if found["checked"] < found["cases"]:
        left.leave_out(f"{found['cases'] - found['checked']} cases of layers")
    return found


def text_of_layers(found: Mapping) -> str:
    """What is printed of `layers`."""
    if "note" in found:
        return f"layers: {found['note']}"
    lines = [f"layers: {found['checked'] - len(found['different'])} of {found['cases']} cases are as in Caffe"]
    if found["checked"]:
        lines.append(f"  largest difference of an output {found['largest_output_difference']:.1e}, of a gradient "
                     f"{found['largest_gradient_difference']:.1e}, as parts of the largest value")
    lines += [f"  {one['name']}: output {one['output']:.1e}, gradient {one['gradient']:.1e}"
              + (f", {one['error']}" if one["error"] else "")
              for one in found["each"] if one["name"] in found["different"]]
    return "\n".join([*lines, *(f"  warning: {text}" for text in found["warnings"])])


def training(name: str, definitions: gpu_nets.Definitions, device: str, precision: str, seconds: float,
             left: Budget) -> dict:
    """The row of a net; its `note` says why figures are missing. seconds: how long the speed is measured."""
    row: dict = {"net": name, "batch": definitions.batch, "precision": precision}
    if precision == "tf32" and device == "cpu":
        return dict(row, note="not on the processor")
    what, words = f"{name}, {precision}", [definitions.straight, _named(device), precision, str(seconds)]
    run = _run([sys.executable, "-m", "bench.gpu_training", *words], left)
    if run is None:
        return dict(row, **left.leave_out(what))
    found = json.loads(run.stdout.splitlines()[-1]) if run.stdout else {"note": _last_line(run.stderr)}
    if "note" not in found:
        found["images_per_second"] = found["iterations_per_second"] * definitions.batch
        found.update(_resumed(what, definitions, device, precision, left))
    return dict(row, **found)


def _resumed(what: str, definitions: gpu_nets.Definitions, device: str, precision: str, left: Budget) -> dict:
    """Goes on from the first half of the training, by the engine's program, and compares the weights."""
    half = os.path.join(definitions.folder, f"straight_iter_{definitions.iterations // 2}.solverstate")
    words = ["train", "-solver", definitions.resumed, "-snapshot", half, "-precision", precision]
    run = _run([sys.executable, "-m", "engine", *words, *(["-gpu", "0"] if device == "cuda" else [])], left)
    if run is None:
        return left.leave_out(f"{what}, resumed")
    if run.returncode:
        return {"note": f"resumed: {_last_line(run.stderr)}"}
    paths = [os.path.join(definitions.folder, f"{which}_iter_{definitions.iterations}.caffemodel")
             for which in ("straight", "resumed")]
    contents = []
    for path in paths:
        with open(path, "rb") as stream:
            contents.append(stream.read())
        os.remove(path)
    return {"deterministic_resume": contents[0] == contents[1]}


def all_cards(made: Mapping[str, gpu_nets.Definitions], cards: int, left: Budget) -> dict:
    """The speed of the last net on all cards, if the engine can use them together."""
    name = list(made)[-1]
    if cards < 2:
        return {"note": f"{cards or 'no'} card{'s' * (cards > 1)}, expected 2 or more"}
    numbers = ",".join(map(str, range(cards)))
    run = _run([sys.executable, "-m", "engine", "train", "-solver", made[name].resumed, "-gpu", numbers], left)
    if run is None:
        return left.leave_out("all cards")
    speeds = SPEED.findall(run.stderr)
    if run.returncode or not speeds:
        return {"note": _last_line(run.stderr)}
    # The last iterations: the first ones allocate memory.
    last = sorted(float(speed) for _, speed in speeds[len(speeds) // 2:])
    return {"net": name, "batch": made[name].batch, "cards": cards,
            "images_per_second": last[len(last) // 2] * made[name].batch}


def line(row: Mapping) -> str:
    """A row as a line under HEADER."""
    start = f"{row['net']:<12} {row['batch']:>5} {row['precision']:<9} "
    if "images_per_second" not in row:
        return start + row["note"]
    memory, same = row["peak_memory_bytes"], row.get("deterministic_resume")
    return start + "{:>9.1f} {:>15.1f}% {:>8} {}".format(
        row["images_per_second"], 100 * row["waiting_for_data"], "-" if memory is None else round(memory / 1e6),
        row.get("note") if same is None else "yes" if same else "no")


def _named(device: str) -> str:
    """A device as the engine names it."""
    return "cuda:0" if device == "cuda" else device


def _run(command: Sequence[str], left: Budget) -> Optional[subprocess.CompletedProcess]:
    """Runs a program of the project. None if there is no time for it."""
    return finished(command, min(LONGEST, left.seconds())) if left.seconds() > 0 else None


def finished(command: Sequence[str], seconds: float) -> Optional[subprocess.CompletedProcess]:
    """Runs a program in the project's folder, with its output as text. None if it takes longer: then it is killed, with
    all that it has started."""
    process = subprocess.Popen(command, cwd=gpu_nets.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               errors="replace", start_new_session=True)
    try:
        out, errors = process.communicate(timeout=seconds)
    except BaseException as error:  # also Ctrl-C, which a process of another session does not get
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def _last_line(log: str) -> str:
    """Why a program failed: its last error, or else its last line."""
    found = [first or second for first, second in ERROR.findall(log)]
    lines = [text.strip() for text in log.splitlines() if text.strip()]
    return (found or lines or ["it said nothing"])[-1]
