"""Images per second that data layers give without a net, in Caffe and in the engine, from LMDBs in memory.

Each process has a net that is only the data layer. Layers run ahead in the engine, so a process of it makes batches in
one thread and hands them out in another.
"""
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Callable

from bench import drawn
from bench.layers import SUBJECTS
from common import files
from common.experiment import ROOT
from prototxt.builders.parts import NetParameter

HOSTS = ("Caffe", "engine")


@dataclass(frozen=True)
class Case:
    """A data layer."""

    # The data's crops and handcrafted features.
    crops: str
    features: tuple[str, ...]
    # Number of images in a batch.
    images: int
    # Makes the layer's fields from the path of the prepared folder.
    layer: Callable[[str], dict]


def ours(module: str, name: str, tops: int, **param) -> dict:
    """The fields of one of our layers with so many tops."""
    return {"type": "Python", "top": [f"top{number}" for number in range(tops)],
            "param": [{"lr_mult": 0, "decay_mult": 0}],
            "python_param": {"module": f"layers.{module}", "layer": name, "param_str": json.dumps(param)}}


def images(folder: str) -> str:
    return os.path.join(folder, "train", "images")


def data(folder: str) -> dict:
    """The fields of Caffe's own layer."""
    return {"type": "Data", "top": ["top0", "top1"],
            "data_param": {"source": images(folder), "backend": "LMDB", "batch_size": 128},
            "transform_param": {"mean_value": [127.5], "scale": 1 / 128, "mirror": True, "crop_size": 200}}


def lmdb(folder: str, features: tuple[str, ...] = ()) -> dict:
    return ours("lmdb_data", "LmdbDataLayer", 2 + len(features), images=images(folder), batch_size=128, mean=127.5,
                scale=1 / 128, features=[os.path.join(folder, "train", name) for name in features])


def pairs(folder: str) -> dict:
    return ours("augmented_data", "AugmentedDataLayer", 3, images=images(folder), references=images(folder),
                batch_size=32, augmentation="five_crops", side=224, mean=[102, 114, 146], scale=1 / 128)


def noisy_pairs(folder: str) -> dict:
    return ours("augmented_data", "AugmentedDataLayer", 3, images=images(folder), references=images(folder),
                batch_size=32, augmentation="mirror_or_noise", deviation=4, mean=127.5, scale=1 / 128)


def tuplets(folder: str) -> dict:
    return ours("window_data", "TupletDataLayer", 2, data=folder, batch_size=12, positives=6, negatives=6, seed=1)


GSF_SIFT = ("gsf", "sift")
CASES = {"227x227 grey": Case("xie2019a", GSF_SIFT, 128, lmdb),
         "227x227 grey, GSF and SIFT": Case("xie2019a", GSF_SIFT, 128, lambda folder: lmdb(folder, GSF_SIFT)),
         "Caffe's Data, 200 of 227": Case("xie2019a", GSF_SIFT, 128, data),
         "224x224 colour pairs, five crops": Case("farzaneh2021", (), 64, pairs),
         "224x224 colour pairs, noise": Case("wu2023", (), 64, noisy_pairs),
         "48x48 tuplets": Case("liu2017", (), 144, tuplets)}


def measure(options) -> Iterator[dict]:
    for name, case in CASES.items():
        folder = drawn.prepared(options.data, SUBJECTS, case.crops, case.features, options.cores)
        path = write(case.layer(folder), options.scratch)
        for host in HOSTS:
            for processes in sorted({1, options.cores}):
                yield dict({"data": name, "host": host, "processes": processes},
                           **speed(host, path, case.images, processes, 0.2 if options.quick else 5))


def write(layer: dict, folder: str) -> str:
    """Writes a net that is only this data layer, and returns its path."""
    path = os.path.join(folder, "net.prototxt")
    files.write_text(path, str(NetParameter(layer=[dict(layer, name="data")])))
    return path


def speed(host: str, path: str, count: int, processes: int, seconds: float) -> dict:
    """What so many processes side by side do together. count: images of a batch. Raises RuntimeError if one fails."""
    children = [subprocess.Popen([sys.executable, "-m", "bench.feeder", host, path], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, cwd=ROOT, env=dict(os.environ, OPENBLAS_NUM_THREADS="1"),
                                 encoding="utf-8") for _ in range(processes)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()  # it is warm, or has failed
    with ThreadPool(processes) as threads:  # they begin together
        outs = [out for out, _ in threads.map(lambda child: child.communicate(f"{seconds}\n"), children)]
    if any(child.returncode for child in children):
        raise RuntimeError(f"{host}: a process of the benchmark failed, see above")
    found = [[float(word) for word in out.split()] for out in outs]
    rates, processor, size = zip(*found)
    return {"images/s": count * sum(rates), "MB/s": sum(rates) * size[0] / 1e6,
            "CPU us each": 1e6 * sum(processor) / len(processor) / count}
