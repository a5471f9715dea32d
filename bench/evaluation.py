"""Records evaluated per second, compared with plain `caffe test` on the same records with the same weights.

Both use one BLAS thread for each core; `caffe test` also runs with one thread. The times include all of the work: make
the net, read its weights, pass all records through the net once. The weights are random.
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
    """Evaluates a net with random weights on the validation split of a prepared folder, in both ways.

    records: the least number of records to evaluate. The split is repeated until there are enough.
    """

    def __init__(self, settings: experiment.Experiment, folder: str, scratch: str, records: int):
        note = prepared_folder.read_note(folder)
        data = parts.prepared(os.path.abspath(folder), note)
        self._batch = parts.test_batch(data.counts["val"])
        self._iterations = -(-records // self._batch)
        self.settings, self.split = settings, forward.read(folder, note, "val")
        self.deploy, self.tested, self.weights = (
            os.path.join(scratch, name) for name in ("deploy.prototxt", "tested.prototxt", "random.caffemodel"))
        files.write_text(self.deploy, build.text(nets.deploy(settings, data)))
        files.write_text(self.tested, build.text(nets.train_val(settings, data)))
        # A forward pass in the TRAIN phase sets the statistics of BatchNorm, which would divide by 0 without them.
        net = caffe.Net(self.deploy, caffe.TRAIN)
        net.blobs["data"].reshape(4, *net.blobs["data"].shape[1:])
        net.blobs["data"].data[...] = np.random.RandomState(0).normal(size=net.blobs["data"].shape)
        net.forward()
        net.save(self.weights)

    def caffe_test(self, threads: int) -> int:
        """Evaluates with `caffe test`. Returns the number of records."""
        log = caffe_program.log(["test", "-model", self.tested, "-weights", self.weights, "-iterations",
                                  str(self._iterations)], threads)
        self.theirs = float(ACCURACY.findall(log)[-1])
        return self._iterations * self._batch

    def ours(self, cores: int) -> int:
        """Evaluates with our `forward.outputs`. Returns the number of records."""
        self.order = np.resize(np.arange(len(self.split.images)), self._iterations * self._batch)
        self.prob = forward.outputs(self.deploy, self.weights, forward.Images(self.split.images, self.order), ["prob"],
                                    forward.transform(self.settings), engine=Engine(cores))["prob"]
        return len(self.prob)

    def require_agreement(self) -> None:
        """Raises RuntimeError if the accuracies differ by more than 0.02. They may differ a little: with random weights
        two classes may have the same probability up to rounding."""
        ours = np.mean(self.prob.argmax(axis=1) == np.array(self.split.labels)[self.order])
        if abs(ours - self.theirs) > 0.02:
            raise RuntimeError(f"caffe test has an accuracy of {self.theirs}, ours is {ours}")
