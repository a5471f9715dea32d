"""How the time grows with the number of images: the exponent of the number of images, from three numbers of faces.

An exponent of 1 means that the time is proportional to the number of images. It is below 1 if fixed costs matter, and
above 1 if something looks at all images for each image. The benchmark prepares synthetic faces, and trains the toy net
for one epoch.
"""
import functools
import os
import time
from collections.abc import Sequence

import numpy as np

from bench import drawn
from common import experiment, files
from data_prep import prepare, prepared_folder
from tools.training import run
from tools.training.caffe_process import Engine

BATCH = 8
WHOLE = "preparation, whole faces"
PREPARATIONS = {WHOLE: ("whole", ()), "preparation, ten crops": ("xie2019a", ()),
                "preparation, ten crops, GSF and SIFT": ("xie2019a", ("gsf", "sift"))}


def measure(options) -> list[dict]:
    subjects = (6, 12, 24) if options.quick else (60, 120, 240)
    times: dict[str, list[float]] = {}
    images = []
    for count in subjects:
        faces = drawn.faces(options.data, count, options.cores)
        folder = os.path.join(options.scratch, str(count))

        steps = {name: functools.partial(_prepare, faces, os.path.join(folder, name), crops, features, options.cores)
                 for name, (crops, features) in PREPARATIONS.items()}
        steps["training, one epoch of the toy net"] = functools.partial(_train, os.path.join(folder, WHOLE), folder)
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times.setdefault(name, []).append(time.perf_counter() - began)
        images.append(sum(files.read_json(os.path.join(folder, WHOLE, prepared_folder.NOTE))["counts"].values()))
        files.remove(folder)
    return [dict({"what": name}, **{f"{count} images, s": seconds for count, seconds in zip(images, step_times)},
                 exponent=exponent(images, step_times)) for name, step_times in times.items()]


def exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """b in seconds = a * count^b, fitted by least squares of the logarithms."""
    return float(np.polyfit(np.log(counts), np.log(seconds), 1)[0])


def _prepare(faces: str, out: str, crops: str, features: Sequence[str], cores: int) -> None:
    prepare.prepare(drawn.settings(faces, crops, features), out, cores)


def _train(data: str, folder: str) -> None:
    iterations = prepared_folder.read_note(data)["records"]["train"] // BATCH
    settings = experiment.load("xie2019a/fer2013-toy-softmax", [
        f"solver.batch_size={BATCH}", f"solver.max_iter={iterations}", "solver.snapshot=0",
        f"solver.test_interval={iterations + 1}"])
    run.train(settings, data, os.path.join(folder, "run"), None, Engine(1))
