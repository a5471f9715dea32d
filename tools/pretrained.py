"""Caffemodels given from outside: what of them fits a net."""
from typing import Dict, Tuple

import caffe
import numpy as np

from data_prep import files
from data_prep.errors import UserError

Shapes = Dict[str, Tuple[Tuple[int, ...], ...]]


def read(path: str):
    """A caffemodel as Caffe's NetParameter."""
    model = caffe.proto.caffe_pb2.NetParameter()
    try:
        with open(path, "rb") as stream:
            model.ParseFromString(stream.read())
    except OSError as error:
        raise UserError("{}: {}".format(path, error.strerror)) from None
    except Exception:
        raise UserError("{}: not a caffemodel".format(path)) from None
    return model


def shapes(model) -> Shapes:
    """Layer -> shapes of its blobs."""
    return {layer.name: tuple(tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
                              for blob in layer.blobs) for layer in model.layer if layer.blobs}


def net_shapes(deploy: str) -> Shapes:
    net = caffe.Net(deploy, caffe.TEST)
    return {name: tuple(tuple(blob.shape) for blob in blobs) for name, blobs in net.params.items()}


def write_fitting(path: str, deploy: str, out: str) -> None:
    """Writes the layers of a caffemodel that the net of `deploy` has.

    A deploy net holds weights alone: positions in the data, clocks and centers of another run stay behind.
    Raises UserError where no layer matches, or where one of the same name has other shapes.
    """
    model, wanted = read(path), net_shapes(deploy)
    for name, given in shapes(model).items():
        if name in wanted and wanted[name] != given:
            raise UserError("{}: layer {} has blobs {}, the net {}".format(path, name, given, wanted[name]))
    fitting = caffe.proto.caffe_pb2.NetParameter(name=model.name)
    for layer in model.layer:
        if layer.name in wanted and layer.blobs:
            fitting.layer.add().CopyFrom(layer)
    if not fitting.layer:
        raise UserError("{}: no layer matches the net's; it has {}, the net {}".format(
            path, ", ".join(sorted(shapes(model))) or "none", ", ".join(sorted(wanted))))
    with files.replacing(out) as partial, open(partial, "wb") as stream:
        stream.write(fitting.SerializeToString())


def is_finite(path: str) -> bool:
    return all(np.isfinite(blob.data).all() for layer in read(path).layer for blob in layer.blobs)
