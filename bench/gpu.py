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
from typing import Any, Optional

from bench import gpu_data, gpu_nets, gpu_rows, layer_check
from common import files
from common.errors import UserError
from engine import tuning

# Seconds after which nothing new is begun, and what runs is stopped.
BUDGET = 450
PRECISIONS = ("float32", "tf32", "bf16")
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
        found = everything(options.device, options.quick, options.budget)
        files.write_json(out, found)
    except UserError as error:
        print(f"bench/gpu.sh: {error}", file=sys.stderr)
        return 1
    say(f"{found['seconds']:.0f} s; all of it is in {out}")
    return 0 if not found["layers"]["different"] else 1


def everything(device: str, quick: bool, budget: float) -> dict:
    """All that the JSON file has. Prints it as it comes. Raises UserError if there is no card."""
    began = time.monotonic()
    left = gpu_rows.Budget(budget)
    found: dict[str, Any] = {"format": FORMAT, "date": time.strftime("%Y-%m-%d %H:%M:%S"), "quick": quick}
    found.update(facts(device))
    say(f"{found['device']}; PyTorch {found['torch']}, CUDA {found['cuda']}, driver {found['driver']}, "
        f"Python {found['python']}; commit {found['commit']}")
    with tempfile.TemporaryDirectory() as scratch:
        found["layers"] = layers(device, scratch, left)
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
    found["seconds"] = time.monotonic() - began
    return found


def layers(device: str, scratch: str, left: gpu_rows.Budget) -> dict:
    """Checks the layers in this process."""
    from engine import precision
    precision.use("float32", device)
    cases, recorded = layer_check.read()
    images = gpu_data.write_small_images(scratch)
    results = layer_check.check(cases, recorded, "cuda:0" if device == "cuda" else device, images,
                                lambda: left.seconds() > 0)
    if len(results) < len(cases):
        left.leave_out(f"layers from {cases[len(results)].name} on")
    different = [one for one in results if not one.good]
    found = {"recorded_sha256": files.digest(layer_check.RECORDED), "cases": len(cases), "checked": len(results),
             "different": [one.name for one in different], "output_tolerance": layer_check.OUTPUT,
             "gradient_tolerance": layer_check.GRADIENT,
             "largest_output_difference": max((one.output for one in results), default=None),
             "largest_gradient_difference": max((one.gradient for one in results), default=None),
             "each": [vars(one) for one in results]}
    say(f"layers: {len(results) - len(different)} of {len(cases)} cases are as in Caffe")
    if results:
        say(f"  largest difference of an output {found['largest_output_difference']:.1e}, of a gradient "
            f"{found['largest_gradient_difference']:.1e}, as parts of the largest value")
    for one in different:
        say(f"  {one.name}: output {one.output:.1e}, gradient {one.gradient:.1e} {one.error or ''}")
    return found


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
