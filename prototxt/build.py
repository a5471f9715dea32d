"""Writes the definitions of an experiment: train_val, deploy and solver prototxt.

    ./fer python -m prototxt.build        writes the committed ones of all experiments
"""
import os
from typing import Dict

import caffe
from google.protobuf import text_format

from data_prep import datasets, files
from prototxt import nets
from prototxt.experiment import ROOT, Experiment, load, names

FILES = ("train_val.prototxt", "deploy.prototxt", "solver.prototxt")


def definitions(experiment: Experiment, data: nets.Data, folder: str, snapshot_prefix: str) -> Dict[str, str]:
    """File name -> text. folder: where the files will lie; snapshot_prefix: as Caffe has it."""
    texts = {"train_val.prototxt": nets.train_val(experiment, data),
             "deploy.prototxt": nets.deploy(experiment, data),
             "solver.prototxt": solver(experiment, data, folder, snapshot_prefix)}
    return {name: text_format.MessageToString(proto, float_format=".8g") for name, proto in texts.items()}


def solver(experiment: Experiment, data: nets.Data, folder: str, snapshot_prefix: str):
    """Caffe's SolverParameter. Each test sees the validation part once where it fits in whole batches."""
    settings = {key: value for key, value in experiment.solver.items() if key != "batch_size"}
    count = data.counts["val"]
    return caffe.proto.caffe_pb2.SolverParameter(
        net=folder + "/train_val.prototxt", test_iter=[-(-count // nets.test_batch(count))],
        test_initialization=False, snapshot_prefix=snapshot_prefix,
        solver_mode=caffe.proto.caffe_pb2.SolverParameter.CPU, **settings)


def committed(name: str) -> Dict[str, str]:
    """Path from the project root -> text, for plain `caffe train` from there, data in data/<data set>."""
    experiment = load(name)
    protocol = datasets.protocol(experiment.data)
    data = nets.Data("data/" + experiment.data, len(protocol.classes), protocol.counts,
                     nets.BACKBONES[experiment.net].shape)
    folder = "prototxt/" + name
    texts = definitions(experiment, data, folder, "models/" + name.replace("/", "-"))
    return {"{}/{}".format(folder, file): text for file, text in texts.items()}


def main() -> None:
    for name in names():
        for path, text in committed(name).items():
            files.write_text(os.path.join(ROOT, path), text)


if __name__ == "__main__":
    main()
