"""Measures and checks the engine on a graphics card, for whoever has one: `bench/gpu.sh` starts it.

It needs Python, PyTorch, NumPy, protobuf and lmdb, and no Caffe, no data and no network. It checks all types of layers
against recorded results of real Caffe, trains three nets in three precisions, and writes all that it found as JSON.
"""
import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any, Optional

from bench import gpu_nets, gpu_rows
from common import files
from common.errors import UserError
from common.machine import PRECISIONS
from engine import tuning

# Seconds after which nothing new is begun, and what runs is stopped.
BUDGET = 450
FORMAT = 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="bench/gpu.sh", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda",
                      help="where to compute (default: cuda, the first card)")
    made.add_argument("--quick", action="store_true", help="small batches and few iterations")
    made.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS",
                      help="what is not begun by then is left out (default: %(default)s)")
    made.add_argument("--out", metavar="FILE", help="the JSON file (default: runs/gpu-DATE-TIME.json)")
    return made


def main(words: list[str]) -> int:
    options = parser().parse_args(words)
    tuning.before_torch()
    try:
        out = os.path.join("runs", time.strftime("gpu-%Y%m%d-%H%M%S.json"))
        if options.out:
            out = os.path.join(os.environ.get("CALLED_FROM", ""), options.out)
        if os.path.exists(out):
            raise UserError(f"--out {out}: exists already, expected a new file")
        began = time.monotonic()
        found = {"format": FORMAT, "date": time.strftime("%Y-%m-%d %H:%M:%S"), "quick": options.quick,
                 **facts(options.device)}
        try:
            measure_all(found, options.device, options.quick, gpu_rows.Budget(options.budget))
        except Exception:  # what was found is of use all the same
            found["error"] = traceback.format_exc()
            say(found["error"])
        found["seconds"] = time.monotonic() - began
        files.write_json(out, found)
    except UserError as error:
        print(f"bench/gpu.sh: {error}", file=sys.stderr)
        return 1
    say(f"{found['seconds']:.0f} s; all of it is in {out}")
    return 0 if found.get("layers", {}).get("different") == [] and "error" not in found else 1


def measure_all(found: dict[str, Any], device: str, quick: bool, left: gpu_rows.Budget) -> None:
    """Adds all measurements to what the JSON file has, and prints them as they come."""
    say(f"{found['device']}; PyTorch {found['torch']}, CUDA {found['cuda']}, driver {found['driver']}, "
        f"Python {found['python']}; commit {found['commit']}")
    found["layers"] = gpu_rows.layers(device, left)
    say(gpu_rows.text_of_layers(found["layers"]))
    with tempfile.TemporaryDirectory() as scratch:
        found["trainings"] = []
        made = {name: gpu_nets.write(net, os.path.join(scratch, str(number)), 4 if quick else 20, quick)
                for number, (name, net) in enumerate(gpu_nets.NETS.items())}
        say(gpu_rows.HEADER)
        for precision in PRECISIONS:
            for name, definitions in made.items():
                row = gpu_rows.training(name, definitions, device, precision, 0.0 if quick else 5.0, left)
                found["trainings"].append(row)
                say(gpu_rows.line(row))
        found["all_cards"] = gpu_rows.all_cards(made, len(found["cards"]), left)
        say(f"all cards: {found['all_cards'].get('note') or found['all_cards']}")
    found["left_out"] = left.left_out


def facts(device: str) -> dict:
    """Of the project, the software and the machine. Raises UserError if the device is a card and there is none."""
    import numpy as np
    import torch
    count = torch.cuda.device_count() if device == "cuda" and torch.cuda.is_available() else 0
    if device == "cuda" and not count:
        why = "is built for the processor only" if torch.version.cuda is None else "sees no graphics card of NVIDIA"
        raise UserError(f"PyTorch {torch.__version__} {why}; --device cpu tries the script on the processor")
    cards = [torch.cuda.get_device_properties(number) for number in range(count)]
    return {"commit": _output("git", "rev-parse", "HEAD"), "changed_files": _output("git", "status", "--porcelain"),
            "torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
            "numpy": np.__version__, "python": platform.python_version(), "kernel": platform.release(),
            "device": cards[0].name if cards else _processor(), "cores": len(os.sched_getaffinity(0)),
            "cards": [{"name": card.name, "memory_bytes": card.total_memory,
                       "capability": f"{card.major}.{card.minor}"} for card in cards],
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0")}


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        models = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    return next(iter(models), platform.machine())


def _output(*command: str) -> Optional[str]:
    """What a program prints; None if it cannot."""
    try:
        done = subprocess.run(command, cwd=gpu_nets.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
