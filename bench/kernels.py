"""Each kernel that Debian 11's OpenBLAS 0.3.13 has and this processor can run, one thread each, in processor time.

sgemm is of a convolution in the face ResNet (256 maps to 256, 3x3, of 29x29 cells). An iteration is the toy net's,
forward and backward, 32 images. `./fer` chooses by the processor's flags (`blas_kernel` in fer), and measures nothing.
"""
import ctypes
import json
import os
import subprocess
import sys
import time
from typing import Optional

from common import files
from common.experiment import ROOT

# In the order of OpenBLAS's own list, driver/others/dynamic.c; the first is its own choice.
KERNELS = ("", "Prescott", "Core2", "Penryn", "Dunnington", "Nehalem", "Sandybridge", "Haswell", "SkylakeX",
           "Cooperlake", "Atom", "Bobcat", "Barcelona", "Bulldozer", "Piledriver", "Steamroller", "Excavator", "Zen",
           "Nano")
SHAPE = 256, 256 * 9, 29 * 29
IMAGES = 32


def measure(options) -> list[dict]:
    net = os.path.join(options.scratch, "train.prototxt")
    files.write_text(net, _toy())
    found: dict[str, list[dict]] = {}
    for _ in range(1 if options.quick else 3):
        for kernel in KERNELS:
            figures = of_kernel(kernel, net)
            # A name that it does not know leaves OpenBLAS to its own choice.
            if figures and (not kernel or figures["kernel"].lower() == kernel.lower()):
                found.setdefault(kernel, []).append(figures)
    chosen = os.environ.get("OPENBLAS_CORETYPE", "")
    rows = []
    for kernel, turns in found.items():
        rows.append({"kernel": kernel or "{} (its own choice)".format(turns[0]["kernel"]),
                     "sgemm GFLOP/s": max(turn["gflops"] for turn in turns),
                     "iteration ms": min(turn["milliseconds"] for turn in turns),
                     "": "chosen by ./fer" if kernel.lower() == chosen.lower() else ""})
    return sorted(rows, key=lambda row: row["iteration ms"])


def of_kernel(kernel: str, net: str) -> Optional[dict]:
    """The kernel's name, sgemm's speed and an iteration's time; None where the processor cannot run it."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment.update(PYTHONPATH=ROOT, OPENBLAS_NUM_THREADS="1", **({"OPENBLAS_CORETYPE": kernel} if kernel else {}))
    process = subprocess.run([sys.executable, "-m", "bench.kernels", net], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, encoding="utf-8", env=environment)
    if process.returncode > 0:
        raise RuntimeError(f"{kernel}: {process.stderr[-2000:]}")
    # Killed: by an instruction that the processor has not.
    return json.loads(process.stdout) if process.returncode == 0 else None


def _toy() -> str:
    """The net that trains, with its loss: without one Caffe has nothing to go backward from."""
    from common import experiment
    from prototxt import build, nets
    from prototxt.builders import parts
    from tools.reproduce import estimate
    chosen = experiment.load("xie2019a/fer2013-toy-softmax", ["head.class_weights=none"])
    data = parts.Data("", 7, {"train": 1, "val": 1}, (1, 48, 48))
    return build.text(estimate.with_inputs(nets.train_val(chosen, data), nets.inputs(chosen, data)))


def _child(path: str) -> dict:
    import caffe
    import numpy as np
    blas = ctypes.CDLL("libopenblas.so.0")
    blas.openblas_get_corename.restype = ctypes.c_char_p
    rows, inner, columns = SHAPE
    random = np.random.RandomState(0)
    one, other = (random.normal(size=size).astype(np.float32) for size in ((rows, inner), (inner, columns)))
    net = caffe.Net(path, caffe.TRAIN)
    net.blobs["data"].reshape(IMAGES, 1, 48, 48)
    net.blobs["data"].data[...] = random.normal(size=(IMAGES, 1, 48, 48))
    net.blobs["label"].reshape(IMAGES)
    net.blobs["label"].data[...] = random.randint(7, size=IMAGES)

    def iterate():
        net.forward()
        net.backward()
    return {"kernel": blas.openblas_get_corename().decode(),
            "gflops": 2e-9 * rows * inner * columns / _fastest(lambda: np.dot(one, other), 5),
            "milliseconds": 1000 * _fastest(iterate, 5)}


def _fastest(work, times: int) -> float:
    work()
    seconds = []
    for _ in range(times):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1])))
