"""Caffemodels given from outside: what of them fits a net."""
import warnings
from typing import Dict, List, NamedTuple, Tuple

import caffe
import numpy as np

from data_prep import files
from data_prep.errors import UserError
from prototxt.wu2023 import NEUTRAL

Shapes = Dict[str, Tuple[Tuple[int, ...], ...]]


def read(path: str):
    """A caffemodel as Caffe's NetParameter."""
    model = caffe.proto.caffe_pb2.NetParameter()
    try:
        with open(path, "rb") as stream, warnings.catch_warnings():
            # The parser only warns where a text begins like a model.
            warnings.simplefilter("error", RuntimeWarning)
            model.ParseFromString(stream.read())
    except OSError as error:
        raise UserError("{}: {}".format(path, error.strerror)) from None
    except Exception:
        raise UserError("{}: not a caffemodel".format(path)) from None
    if not model.layers and not model.layer:
        raise UserError("{}: not a caffemodel".format(path))
    if model.layers and not model.layer:
        raise UserError("{}: of Caffe's format of before 2015; `upgrade_net_proto_binary {} NEW` writes one that "
                        "fits".format(path, path))
    return model


def shapes(model) -> Shapes:
    """Layer -> shapes of its blobs."""
    return {layer.name: tuple(tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
                              for blob in layer.blobs) for layer in model.layer if layer.blobs}


def net_shapes(deploy: str) -> Shapes:
    net = caffe.Net(deploy, caffe.TEST)
    return {name: tuple(tuple(blob.shape) for blob in blobs) for name, blobs in net.params.items()}


class Fit(NamedTuple):
    """What of a caffemodel a net takes. copied: layers in both, of the same shapes; fresh: the net's alone; left:
    the caffemodel's alone; unfit: in both, of other shapes: (layer, the caffemodel's shapes, the net's)."""

    copied: List[str]
    fresh: List[str]
    left: List[str]
    unfit: List[Tuple[str, tuple, tuple]]

    def __str__(self) -> str:
        lines = ["{} {}: {}".format(what, len(layers), ", ".join(layers) or "none") for what, layers in (
            ("copied", self.copied), ("start fresh", self.fresh), ("left out", self.left))]
        return "\n".join(lines + ["does not fit: " + _unfit(*one) for one in self.unfit])


def compare(given: Shapes, wanted: Shapes) -> Fit:
    """Of a caffemodel's shapes with a net's; Caffe copies by name."""
    return Fit([name for name in wanted if given.get(name) == wanted[name]],
               [name for name in wanted if name not in given],
               [name for name in given if name not in wanted],
               [(name, given[name], wanted[name]) for name in wanted if given.get(name, wanted[name]) != wanted[name]])


def _unfit(name: str, given: tuple, wanted: tuple) -> str:
    return "layer {} has blobs {}, the net {}".format(name, given, wanted)


def write_fitting(path: str, learned: str, out: str) -> Fit:
    """Writes the layers of a caffemodel that the net of `learned` has, and returns which they are.

    That net (`nets.learned`) holds weights alone, and BatchNorm's statistics: positions in the data, clocks and centers
    of another run stay behind. A second backbone ([wu2023] Eq. (8)) that the caffemodel does not have begins as the
    first. Raises UserError where no layer matches, or where one of the same name has other shapes.
    """
    model, wanted = read(path), net_shapes(learned)
    _double(model, wanted)
    fit = compare(shapes(model), wanted)
    if fit.unfit:
        raise UserError("{}: {}".format(path, "; ".join(_unfit(*one) for one in fit.unfit)))
    if not fit.copied:
        raise UserError("{}: no layer matches the net's; it has {}, the net {}".format(
            path, ", ".join(sorted(fit.left)) or "none", ", ".join(sorted(fit.fresh))))
    fitting = caffe.proto.caffe_pb2.NetParameter(name=model.name)
    for layer in model.layer:
        if layer.name in fit.copied:
            fitting.layer.add().CopyFrom(layer)
    with files.replacing(out) as partial, open(partial, "wb") as stream:
        stream.write(fitting.SerializeToString())
    return fit


def _double(model, wanted: Shapes) -> None:
    """Adds a copy of each layer that the net has a second time, and the model has not."""
    own = {layer.name for layer in model.layer}
    for layer in list(model.layer):
        second = layer.name + NEUTRAL
        if second in wanted and second not in own:
            added = model.layer.add()
            added.CopyFrom(layer)
            added.name = second


def write_fresh(deploy: str, seed: int, out: str) -> None:
    """Writes the weights that the net of `deploy` starts from, with the seed of Caffe's random numbers.

    BatchNorm's statistics, of which Caffe has none at first, are mean 0 and variance 1, so that the net can be
    asked before it is trained.
    """
    caffe.set_random_seed(seed)
    net = caffe.Net(deploy, caffe.TEST)
    for name, kind in zip(net._layer_names, (layer.type for layer in net.layers)):
        if kind == "BatchNorm":
            mean, variance, weight = net.params[name]
            mean.data[...], variance.data[...], weight.data[...] = 0, 1, 1
    with files.replacing(out) as partial:
        net.save(partial)


def is_finite(path: str) -> bool:
    return all(np.isfinite(blob.data).all() for layer in read(path).layer for blob in layer.blobs)
