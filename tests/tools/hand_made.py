"""Runs and groups as training and evaluation leave them, made by hand: no net is trained."""
import dataclasses
import os

from common import experiment, files
from data_prep import datasets

CLASSES = ("angry", "disgust", "fear")
ITERATIONS = 4


def note(data):
    """prepare.json of a prepared folder of a data set, "<data set>-<protocol>", as its paper has it."""
    dataset, _, protocol = data.partition("-")
    settled = datasets.protocol(data)
    return {"asked": {"dataset": dataset, "source": None, "protocol": protocol or "plain", "crops": settled.crops,
                      "geometry": "literal", "features_of": "crop"},
            "template": {"dataset": settled.template}, "folds": [], "classes": list(CLASSES),
            "records": {"train": 12, "val": 6, "test": 6}, "shape": [1, 48, 48], "manifest": "m"}


def info(chosen, **others):
    """run.json of an experiment's run."""
    return {"format": 2, "project": None, "experiment": dataclasses.asdict(chosen), "data": "/not there",
            "manifest": "m", "weights": None, "threads": 1, "gpu": None, "iterations": ITERATIONS,
            "versions": {"caffe": "1.0.0", "blas": "OpenBLAS", "numpy": "1.19.5"}, **others}


def run(folder, name, data=None, changes=(), iterations=(ITERATIONS,), **written):
    """Path of a run's folder. data: a prepared folder, None for a note alone, of what the experiment is trained on;
    iterations: of the snapshots, the last one that of the end; written: name of a file without its ending -> what
    stands in it."""
    chosen = experiment.load(name, list(changes))
    prepared = files.read_json(data + "/prepare.json") if data else note(chosen.data)
    folder = str(folder)
    fold = os.path.basename(folder) if os.path.basename(folder).startswith("fold") else ""
    files.write_json(folder + "/run.json", info(
        chosen, data=data or os.path.join("/not there", chosen.data, fold), manifest=prepared["manifest"],
        iterations=iterations[-1]))
    files.write_json(folder + "/data.json", prepared)
    for iteration in iterations:
        files.write_text(f"{folder}/snapshots/iter_{iteration}.caffemodel", "")
    for path, content in written.items():
        files.write_json("{}/{}.json".format(folder, path.replace("_", "-")), content)
    return folder


def metrics(confusion, dataset):
    """metrics.json, as far as figures show it."""
    right, total = sum(row[at] for at, row in enumerate(confusion)), sum(map(sum, confusion))
    return {"dataset": dataset, "classes": list(CLASSES), "confusion": confusion, "correct": right, "total": total,
            "accuracy": right / total}


def group(folder, kind, **written):
    """Path of a group of the runs that lie in a folder."""
    folder = str(folder)
    members = sorted(name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))
    files.write_json(folder + "/group.json", {"kind": kind, "members": members})
    for name, content in written.items():
        files.write_json(f"{folder}/{name}.json", content)
    return folder


def log(folder, losses, accuracies):
    """caffe.log. losses: of training, iteration by iteration; accuracies: iteration -> of the validation split."""
    lines = []
    for iteration, loss in enumerate(losses):
        lines += [f"I solver.cpp:1] Iteration {iteration}, loss = {loss}",
                  f"I solver.cpp:2]     Train net output #0: softmax_loss = {loss} (* 1 = {loss} loss)"]
    for iteration, accuracy in accuracies.items():
        lines += [f"I solver.cpp:3] Iteration {iteration}, Testing net (#0)",
                  f"I solver.cpp:4]     Test net output #0: accuracy = {accuracy}"]
    files.write_text(str(folder) + "/caffe.log", "\n".join(lines) + "\n")
