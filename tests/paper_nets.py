"""The papers' nets in real Caffe, on blobs that a test fills."""
import caffe
import numpy as np
from caffe import layers as L

from prototxt import nets
from prototxt.builders import backbones, parts


def net_of(folder, proto, phase=caffe.TEST):
    (folder / "net.prototxt").write_text(str(proto))
    return caffe.Net(str(folder / "net.prototxt"), phase)


def top_shapes(data):
    """The shapes of one record of a data layer's tops, by their names."""
    return {"data": data.shape, "reference": data.shape, "label": (), "gabor": (12800,),
            "gsf": (64 * (data.classes - 1),), "sift": (49 * (data.classes - 1),)}


def without_lmdbs(experiment_, classes, batch):
    """The training net on blobs to be filled."""
    data = parts.Data("data", classes, {"train": 10, "val": 10}, backbones.BACKBONES[experiment_.net].shape,
                     range(1, classes + 1))
    proto = nets.train_val(experiment_, data)
    layers = [layer for layer in proto.layer if layer.name not in ("train_data", "val_data")]
    sizes = top_shapes(data)
    inputs = caffe.NetSpec()
    for top in next(layer for layer in proto.layer if layer.name == "train_data").top:
        inputs[top] = L.Input(shape=dict(dim=[batch] + list(sizes[top])))
    joined = inputs.to_proto()
    joined.layer.extend(layers)
    return joined


def fill(net, seed=0):
    random = np.random.RandomState(seed)
    for name in ("data", "gabor", "gsf", "sift"):
        if name in net.blobs:
            values = random.rand(*net.blobs[name].shape)
            if name != "data":
                values /= np.linalg.norm(values, axis=1, keepdims=True)
            net.blobs[name].data[...] = values
    net.blobs["label"].data[...] = np.arange(len(net.blobs["label"].data))


def shapes(net):
    return {name: tuple(blob.shape) for name, blob in net.blobs.items() if "_split_" not in name}
