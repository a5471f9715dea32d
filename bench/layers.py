"""The time of each type of layer in an iteration: `caffe time` on the training nets of six experiments.

The batches are small. So the fixed cost of our layers in an iteration has a larger share here than in a training.
"""
import collections
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import caffe_program, drawn
from common import experiment, files
from data_prep import prepared_folder
from prototxt import build
from prototxt.builders import parts
from tools.training.caffe_process import all_cores

TIME = re.compile(r"\]\s+(\S+)\s+(forward|backward): ([\d.e+-]+) ms")
SUBJECTS = 6


@dataclass(frozen=True)
class Net:
    """A net to time, and its data."""

    # Name of the experiment.
    experiment: str
    # The data's crops, as `--crops` names them.
    crops: str
    # The data's handcrafted features.
    features: Sequence[str]
    # Number of images that the softmax loss sees in an iteration.
    batch: int
    # Number of iterations that are timed.
    iterations: int


NETS = {"toy": Net("xie2019a/fer2013-toy-alfw", "whole", ("gsf", "sift"), 64, 20),
        "toy, GABOR": Net("xie2019a/fer2013-toy-center-gabor", "whole", ("gabor",), 64, 20),
        "toy, hidden units": Net("xie2019b/fer2013-toy-hidden-l2", "whole", (), 64, 20),
        "face ResNet": Net("xie2019a/fer2013-alfw", "xie2019a", ("gsf", "sift"), 16, 3),
        "inception": Net("liu2017/ckplus-2b-nm", "liu2017", (), 12, 5),
        "ResNet-18": Net("farzaneh2021/raf_db-dacl", "farzaneh2021", (), 16, 3)}


def measure(options) -> Iterator[dict]:
    for name, net in NETS.items():
        data = drawn.prepared(options.data, SUBJECTS, net.crops, net.features, options.cores)
        yield from of_net(name, net, data, options.scratch, 1 if options.quick else net.iterations)


def of_net(name: str, net: Net, data_folder: str, scratch: str, iterations: int) -> list[dict]:
    """The rows of a net: first the sums over all layers, the data layers and our other layers, then one row for each
    type of layer, the slowest first."""
    changes = [f"solver.batch_size={net.batch}"]
    settings = experiment.load(net.experiment, changes)
    data = parts.prepared(os.path.abspath(data_folder), prepared_folder.read_note(data_folder))
    times = of_experiment(settings, data, scratch, iterations)
    total = sum(times.values())
    kinds: dict[str, float] = collections.defaultdict(float)
    sums = dict.fromkeys(("all", "data", "our layers"), 0.0)
    for layer, milliseconds in times.items():
        kinds[layer.kind] += milliseconds
        sums["all"] += milliseconds
        if layer.ours:
            sums["our layers" if layer.bottoms else "data"] += milliseconds
    lines = list(sums.items()) + [(kind, milliseconds) for kind, milliseconds in sorted(
        kinds.items(), key=lambda item: -item[1])]
    return [{"net": name, "batch": net.batch, "layers": kind, "ms": milliseconds, "%": 100 * milliseconds / total}
            for kind, milliseconds in lines]


@dataclass(frozen=True)
class Layer:
    """A layer of a net."""

    # Its name in the net.
    name: str
    # Caffe's type, or the class of a Python layer.
    kind: str
    # Whether it is a Python layer.
    ours: bool
    # Number of bottoms.
    bottoms: int


def of_experiment(settings: experiment.Experiment, data: parts.Data, scratch: str, iterations: int
                  ) -> dict[Layer, float]:
    """Layer of a training net -> milliseconds of its forward and backward pass in an iteration."""
    text = build.definitions(settings.one_training(), data, scratch, scratch)["train_val.prototxt"]
    path = os.path.join(os.path.abspath(scratch), "train_val.prototxt")
    files.write_text(path, text)
    log = caffe_program.log(["time", "-model", path, "-phase", "TRAIN", "-iterations", str(iterations)],
                             all_cores().threads)
    layers = {layer.name: Layer(layer.name, layer.python_param.layer or layer.type, layer.type == "Python",
                                len(layer.bottom)) for layer in build.parse(text, parts.NetParameter()).layer}
    times: dict[Layer, float] = collections.defaultdict(float)
    for name, _, milliseconds in TIME.findall(log):
        # A name that is not in the prototxt is a Split layer, which Caffe inserts.
        times[layers.get(name, Layer(name, "Split", False, 1))] += float(milliseconds)
    return times
