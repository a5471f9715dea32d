"""The same solver in real Caffe and in the engine, in this process or as files."""
import re

import caffe
import numpy as np
import torch

from engine import snapshot, solver, solver_param

# The data and labels are parameters that do not learn, so both engines can be given the same ones.
NET = """
name: "small"
layer { name: "data" type: "Parameter" top: "data" parameter_param { shape { dim: 8 dim: 5 } }
        param { lr_mult: 0 decay_mult: 0 } }
layer { name: "label" type: "Parameter" top: "label" parameter_param { shape { dim: 8 } }
        param { lr_mult: 0 decay_mult: 0 } }
layer { name: "first" type: "InnerProduct" bottom: "data" top: "first" param { lr_mult: 1 }
        param { lr_mult: 2 decay_mult: 0 } inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "second" type: "InnerProduct" bottom: "first" top: "second" param { name: "shared" decay_mult: 0.5 }
        inner_product_param { num_output: 4 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "third" type: "InnerProduct" bottom: "second" top: "third" param { name: "shared" decay_mult: 0.5 }
        inner_product_param { num_output: 4 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "third" bottom: "label" top: "loss" loss_weight: 2 }
layer { name: "accuracy" type: "Accuracy" bottom: "third" bottom: "label" top: "accuracy" include { phase: TEST } }
"""


class Log:
    """Keeps the lines."""

    def __init__(self):
        self.lines, self.places = [], []

    def info(self, place, text):
        self.lines.append(text)
        self.places.append(place)


def write(folder, settings, net=NET, name="solver"):
    """Writes a solver and its net. Returns the solver's path. settings: text of the solver; of the settings below,
    those that it does not have are added."""
    (folder / f"{name}_net.prototxt").write_text(net)
    path = folder / f"{name}.prototxt"
    defaults = {"net": f'"{folder}/{name}_net.prototxt"', "random_seed": 1, "snapshot_prefix": f'"{folder}/{name}"',
                "snapshot_after_train": "false", "lr_policy": '"fixed"', "base_lr": 0.1}
    lines = [f"{key}: {value}" for key, value in defaults.items() if not re.search(rf"\b(train_)?{key}:", settings)]
    path.write_text("\n".join([*lines, settings, ""]))
    return str(path)


def in_caffe(path):
    """Caffe's solver, with data."""
    made = caffe.get_solver(path)
    values = np.random.RandomState(0)
    if "data" in made.net.params:
        made.net.params["data"][0].data[...] = values.standard_normal((8, 5))
        made.net.params["label"][0].data[...] = values.randint(0, 4, 8)
    return made


def in_engine(path, like=None, log=None):
    """The engine's solver. like: Caffe's, whose weights it takes."""
    made = solver.Solver(solver_param.read(path), log or Log())
    if like is not None:
        with torch.no_grad():
            for layer in made.net.layers:
                for ours, theirs in zip(layer.blobs, like.net.params[layer.name] if layer.blobs else ()):
                    ours.copy_(torch.from_numpy(theirs.data))
    return made


def weights(one):
    """Layer and number to array, of a solver of Caffe or of the engine."""
    if isinstance(one, solver.Solver):
        return {(layer.name, number): blob.detach().cpu().numpy().copy()
                for layer in one.net.layers for number, blob in enumerate(layer.blobs)}
    return {(name, number): blob.data.copy() for name, blobs in one.net.params.items()
            for number, blob in enumerate(blobs)}


def difference(ours, theirs):
    """The largest difference of weights, as a part of the largest value of its parameter."""
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[key] - theirs[key]).max() / max(1e-3, np.abs(theirs[key]).max())) for key in theirs)


def history(path, shapes):
    """The history in the file of a solver's state."""
    return snapshot.read_state(path, shapes).history


def restored(path, state, engine):
    """A new solver of Caffe or of the engine that goes on from a state."""
    made = in_engine(path) if engine else caffe.get_solver(path)
    made.restore(state)
    return made
