"""The part of test_onnx.py that runs inside the environment. It writes a folder with

    run.onnx, run.npz               what `./fer export` makes of a trained run; the test images and Caffe's `prob`
    NET.onnx, NET.npz               the same of nets of the papers with random weights

The arrays of the images have the names of the net's inputs.
"""
import os
import pathlib
import sys
import tempfile

import caffe
import numpy as np
import onnx
from onnx import helper

from common import experiment
from common.experiment import ROOT
from data_prep import lmdb_io
from tests import small_data
from tools.conversion import export
from tools.conversion.onnx_layers import Blob
from tools.training import pretrained, run
from tools.training.caffe_process import Engine

SETTINGS = ["solver.batch_size=8", "solver.max_iter=12", "solver.snapshot=12", "solver.test_interval=12"]
NETS = ("xie2019a/deploy/toy-fc1_384_294-norm_16-7", "liu2017/deploy/inception_narrow-fc1_512-fc2_128-synthetic-7",
        "xie2019b/deploy/one_map-fc1_32-norm_learned_1-7", "wu2023/deploy/resnet_small-minus_reference-6",
        "farzaneh2021/deploy/resnet_small-6")


def save(path, net, inputs):
    """Writes the inputs and Caffe's probabilities. inputs: name -> float32 (images, channels, height, width)."""
    for name, images in inputs.items():
        net.blobs[name].reshape(*images.shape)
        net.blobs[name].data[...] = images
    np.savez(path, prob=net.forward()["prob"], **inputs)


def trained(folder, work):
    data = small_data.prepared(work, features=())
    chosen = experiment.load("xie2019a/fer2013-toy-softmax", SETTINGS)
    made = run.train(chosen, data, str(work / "run"), None, Engine(1))
    export.export(made, os.path.join(folder, "run.onnx"))
    reader = lmdb_io.Reader(os.path.join(data, "test", "images"))
    images = np.array([lmdb_io.decode(reader[record])[0] for record in range(len(reader))], np.float32)
    save(os.path.join(folder, "run.npz"), caffe.Net(made.path("deploy.prototxt"), made.caffemodel(), caffe.TEST),
         {"data": (images - np.float32(127.5)) / 128})


def untrained(folder, work, name):
    deploy, weights = os.path.join(ROOT, "prototxt", name + ".prototxt"), str(work / "weights.caffemodel")
    pretrained.write_fresh(deploy, 1, weights)
    net = caffe.Net(deploy, weights, caffe.TEST)
    os.unlink(weights)
    path, random = os.path.join(folder, os.path.basename(name)), np.random.RandomState(0)
    graph = export.graph_of(deploy, net).proto("net", [Blob("prob", tuple(net.blobs["prob"].shape))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", export.OPSET)])
    model.ir_version = export.IR
    onnx.save(model, path + ".onnx")
    save(path + ".npz", net, {name: random.uniform(-0.1, 0.1, (3, *net.blobs[name].shape[1:])).astype(np.float32)
                              for name in net.inputs})


def main(folder):
    with tempfile.TemporaryDirectory() as work:
        trained(folder, pathlib.Path(work))
        for name in NETS:
            untrained(folder, pathlib.Path(work), name)


if __name__ == "__main__":
    main(sys.argv[1])
