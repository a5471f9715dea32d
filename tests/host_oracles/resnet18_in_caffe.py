"""The Caffe side of test_resnet18.py, inside the environment: python3 -m tests.host_oracles.resnet18_in_caffe FOLDER.

FOLDER has weights.caffemodel, and in.npz with `images` (N, 3, height, width) uint8 in the order RGB and `labels` (N).
Writes what the committed nets of an experiment make of them into out.npz: the outputs of the deploy net, and the loss
of the training net with its blobs before and after the first step.
"""
import os
import sys

import caffe
import numpy as np
from google.protobuf import text_format

from prototxt.builders import backbones

NETS = "prototxt/farzaneh2021"
SOLVER = 'train_net: "{}" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 solver_mode: CPU\n'


def main(folder: str) -> None:
    given = np.load(os.path.join(folder, "in.npz"))
    weights = os.path.join(folder, "weights.caffemodel")
    images = backbones.named("resnet18_raf").transform(given["images"][:, ::-1].astype(np.float32))
    deploy = caffe.Net(f"{NETS}/deploy/resnet18_raf-7.prototxt", caffe.TEST, weights=weights)
    deploy.blobs["data"].reshape(*images.shape)
    deploy.blobs["data"].data[...] = images
    deploy.forward()
    found = {"pool5": deploy.blobs["pool5"].data[:, :, 0, 0].copy(), "fc": deploy.blobs["fc"].data.copy()}

    solver = caffe.get_solver(write_solver(folder, images.shape))
    solver.net.copy_from(weights)
    solver.net.blobs["data"].data[...] = images
    solver.net.blobs["label"].data[...] = given["labels"]
    keep(found, "before", solver.net)
    solver.step(1)
    found["loss"] = solver.net.blobs["softmax_loss"].data.copy()
    keep(found, "after", solver.net)
    np.savez(os.path.join(folder, "out.npz"), **found)


def write_solver(folder: str, shape: tuple) -> str:
    """The committed training net, with blobs to be filled in place of its data layer."""
    net = caffe.proto.caffe_pb2.NetParameter()
    with open(f"{NETS}/raf_db-softmax/train_val.prototxt") as stream:
        text_format.Merge(stream.read(), net)
    layers = [layer for layer in net.layer if layer.bottom]
    del net.layer[:]
    for name, sizes in (("data", shape), ("label", shape[:1])):
        net.layer.add(name=name, type="Input", top=[name]).input_param.shape.add(dim=sizes)
    net.layer.extend(layers)
    path = os.path.join(folder, "train.prototxt")
    with open(path, "w") as stream:
        stream.write(text_format.MessageToString(net))
    with open(os.path.join(folder, "solver.prototxt"), "w") as stream:
        stream.write(SOLVER.format(path))
    return stream.name


def keep(found: dict, when: str, net: caffe.Net) -> None:
    for layer, blobs in net.params.items():
        for number, blob in enumerate(blobs):
            found[f"{when} {layer} {number}"] = blob.data.copy()


main(sys.argv[1])
