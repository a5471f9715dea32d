"""Records evaluated per second against plain `caffe test`, on the same records with the same weights.

`caffe test` computes with all cores as BLAS threads; ours with a process of one BLAS thread on each core. Both times
are of the whole program's work: the net is made, its weights are read, all records pass once. The weights are random.
"""
import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import caffe
import numpy as np

from bench import caffe_program, drawn, timing
from common import experiment, files
from data_prep import prepared_folder
from prototxt import build, nets
from prototxt.builders import parts
from tools.evaluation import forward
from tools.training.caffe_process import Engine

ACCURACY = re.compile(r"\] accuracy = ([\d.]+)")


@dataclass(frozen=True)
class Case:
    """A net, and the data whose validation split it is evaluated on."""

    # Name of the experiment.
    experiment: str
    # The data's crops, as `--crops` names them.
    crops: str
    # The data's handcrafted features.
    features: Sequence[str]
    # Number of records to evaluate. The split is repeated until there are enough.
    records: int


SUBJECTS = 6
CASES = {"toy": Case("xie2019a/fer2013-toy-softmax", "whole", ("gsf", "sift"), 3000),
         "face ResNet, ten crops": Case("xie2019a/fer2013-softmax", "xie2019a", ("gsf", "sift"), 70),
         "inception": Case("liu2017/fer2013-softmax", "liu2017", (), 400),
         "ResNet-18": Case("farzaneh2021/raf_db-softmax", "farzaneh2021", (), 100)}


def measure(options) -> list[dict]:
    rows = []
    for name in ["toy"] if options.quick else CASES:
        case = CASES[name]
        folder = drawn.prepared(options.data, SUBJECTS, case.crops, case.features, options.cores)
        pair = Pair(experiment.load(case.experiment), folder, os.path.join(options.scratch, name.replace(" ", "-")),
                    10 if options.quick else case.records)
        took = timing.in_turn({"caffe test": functools.partial(pair.caffe_test, options.cores),
                               "caffe test, one thread": functools.partial(pair.caffe_test, 1),
                               "ours": functools.partial(pair.ours, options.cores)}, 1 if options.quick else 3)
        pair.require_agreement()
        rows += [dict({"net": name}, **row) for row in timing.rows(took, "records")]
    return rows


class Pair:
    """Both ways, of one net with random weights, over the validation split of a prepared folder; records: how many, at
    least."""

    def __init__(self, chosen: experiment.Experiment, folder: str, scratch: str, records: int):
        note = prepared_folder.read_note(folder)
        data = parts.prepared(os.path.abspath(folder), note)
        self._batch = parts.test_batch(data.counts["val"])
        self._iterations = -(-records // self._batch)
        self.chosen, self.part = chosen, forward.read(folder, note, "val")
        self.deploy, self.tested, self.weights = (
            os.path.join(scratch, name) for name in ("deploy.prototxt", "tested.prototxt", "random.caffemodel"))
        files.write_text(self.deploy, build.text(nets.deploy(chosen, data)))
        files.write_text(self.tested, build.text(nets.train_val(chosen, data)))
        # One pass of training gives BatchNorm the statistics without which it divides by nothing.
        net = caffe.Net(self.deploy, caffe.TRAIN)
        net.blobs["data"].reshape(4, *net.blobs["data"].shape[1:])
        net.blobs["data"].data[...] = np.random.RandomState(0).normal(size=net.blobs["data"].shape)
        net.forward()
        net.save(self.weights)

    def caffe_test(self, threads: int) -> int:
        said = caffe_program.log(["test", "-model", self.tested, "-weights", self.weights, "-iterations",
                                  str(self._iterations)], threads)
        self.theirs = float(ACCURACY.findall(said)[-1])
        return self._iterations * self._batch

    def ours(self, cores: int) -> int:
        self.order = np.resize(np.arange(len(self.part.images)), self._iterations * self._batch)
        self.prob = forward.outputs(self.deploy, self.weights, forward.Images(self.part.images, self.order), ["prob"],
                                    forward.transform(self.chosen), engine=Engine(cores))["prob"]
        return len(self.prob)

    def require_agreement(self) -> None:
        """That both measured the same; random weights may find two classes equal to within rounding."""
        ours = np.mean(self.prob.argmax(axis=1) == np.array(self.part.labels)[self.order])
        if abs(ours - self.theirs) > 0.02:
            raise RuntimeError(f"caffe test has an accuracy of {self.theirs}, ours is {ours}")
