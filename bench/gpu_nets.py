"""The trainings of `bench.gpu`: their drawn data and definitions, from the committed prototxts, without Caffe."""
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import text_format

from bench import gpu_data
from common import files
from engine import messages, solver_param

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The drawn images have labels, but nothing to learn. With a smaller rate no training of them diverges.
RATE = 0.1


@dataclasses.dataclass(frozen=True)
class Net:
    """A net to train."""

    # The experiment.
    experiment: str
    # Shape of a record of its image LMDB.
    shape: Sequence[int]
    # Handcrafted feature -> number of its values.
    features: Mapping[str, int]
    # Batch size of a quick measurement.
    few: int


FEATURES = {"gsf": 384, "sift": 294}
NETS = {"toy": Net("xie2019a/fer2013-toy-alfw", (1, 48, 48), FEATURES, 8),
        "face ResNet": Net("xie2019a/fer2013-alfw", (1, 227, 227), FEATURES, 2),
        "ResNet-18": Net("farzaneh2021/raf_db-dacl", (3, 256, 256), {}, 2)}


@dataclasses.dataclass(frozen=True)
class Definitions:
    """Paths of two solvers. Both end after `iterations`. The snapshots of the first one, also after half of them, are
    `straight_iter_N` in `folder`, and that of the second one `resumed_iter_N`. batch: how many images."""

    folder: str
    straight: str
    resumed: str
    iterations: int
    batch: int


def write(net: Net, folder: str, iterations: int, quick: bool) -> Definitions:
    """Draws the data and writes the definitions into a new folder. iterations: an even number."""
    os.makedirs(folder)
    source = os.path.join(ROOT, "prototxt", net.experiment)
    definition = messages.read_text(os.path.join(source, "train_val.prototxt"), "NetParameter")
    training = [layer for layer in definition.layer
                if not any(rule.HasField("phase") and rule.phase == messages.TEST for rule in layer.include)]
    [data] = [layer for layer in training if "images" in _settings(layer)]
    settings = _settings(data)
    batch = net.few if quick else settings["batch_size"]
    images = os.path.join(folder, "images")
    gpu_data.write_images(images, 2 * batch + 3, net.shape)  # an epoch ends within a batch
    settings.update(images=images, batch_size=batch)
    if net.features:
        names = [os.path.basename(path) for path in settings["features"]]
        settings["features"] = [os.path.join(folder, name) for name in names]
        for name, path in zip(names, settings["features"]):
            gpu_data.write_features(path, 2 * batch + 3, net.features[name])
    data.python_param.param_str = json.dumps(settings)
    kept = messages.NetParameter(name=definition.name, layer=training)
    files.write_text(os.path.join(folder, "train_val.prototxt"), text_format.MessageToString(kept))
    paths = [_write_solver(source, folder, name, iterations, snapshot)
             for name, snapshot in (("straight", iterations // 2), ("resumed", 0))]
    return Definitions(folder, paths[0], paths[1], iterations, batch)


def _settings(layer: Any) -> dict:
    """The settings of a Python layer; {} of another one."""
    return json.loads(layer.python_param.param_str) if layer.type == "Python" else {}


def _write_solver(source: str, folder: str, name: str, iterations: int, snapshot: int) -> str:
    solver = solver_param.read(os.path.join(source, "solver.prototxt"))
    for field in ("test_iter", "test_interval"):
        solver.ClearField(field)
    solver.net, solver.snapshot_prefix = os.path.join(folder, "train_val.prototxt"), os.path.join(folder, name)
    solver.max_iter, solver.snapshot, solver.display = iterations, snapshot, 1
    solver.base_lr *= RATE
    solver.solver_mode = messages.SolverParameter.CPU  # -gpu says otherwise
    path = os.path.join(folder, f"{name}.prototxt")
    files.write_text(path, text_format.MessageToString(solver))
    return path
