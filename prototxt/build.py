"""Writes the definitions of an experiment: train_val, deploy and solver prototxt.

    ./fer python -m prototxt.build        writes the committed ones of all experiments

The committed ones train with plain `caffe train`. An experiment with adaptive loss weights or self-paced learning has
none: its nets are those of the one without, trained by `./fer train` in many restarts. Where a set has folds, they are
for fold01, and take each fold for an equal share of what is published: the record counts in them (test_iter,
epoch_size) are close to, not those of, the prepared fold; so it is with a part that is held out. `./fer train` writes
exact ones.
"""
import os

import caffe
from google.protobuf import text_format

from common import files
from common.errors import UserError
from common.experiment import ROOT, Experiment, load, names
from data_prep import crops, datasets
from prototxt import nets
from prototxt.builders import backbones, parts

FILES = ("train_val.prototxt", "deploy.prototxt", "solver.prototxt")


# Training images of each class, for committed class weights. FER2013: of its CSV; CK+: of all folds.
CLASS_COUNTS = {"fer2013": (3995, 436, 4097, 7215, 4830, 3171, 4965), "ckplus": (135, 177, 75, 207, 84, 249, 106)}


def definitions(experiment: Experiment, data: parts.Data, folder: str, snapshot_prefix: str,
                tested: bool = True) -> dict[str, str]:
    """File name -> text. folder: where the files will lie; snapshot_prefix: as Caffe has it; tested: whether the
    solver looks at the validation part.

    Raises UserError where the loss weights are adaptive: a definition has one choice of them,
    `experiment.weighted(gsf=..., sift=...)`.
    """
    if experiment.weighting or experiment.pacing:
        raise UserError("{}: its {}, so it takes many trainings in turn".format(
            experiment.name, "loss weights are adaptive" if experiment.weighting else "samples come by and by"))
    texts = {"train_val.prototxt": nets.train_val(experiment, data),
             "deploy.prototxt": nets.deploy(experiment, data),
             "solver.prototxt": solver(experiment, data, folder, snapshot_prefix, tested)}
    return {name: text(proto) for name, proto in texts.items()}


def text(proto) -> str:
    """Caffe's text format; a net has one line a layer."""
    if not isinstance(proto, parts.NetParameter):
        return text_format.MessageToString(proto, float_format=".8g")
    return "".join([f'name: "{proto.name}"\n'] + ["layer {{ {} }}\n".format(
        text_format.MessageToString(layer, as_one_line=True, float_format=".8g")) for layer in proto.layer])


def parse(text: str, message):
    """Fills a message of Caffe's from its text format, and returns it."""
    return text_format.Merge(text, message)


def solver(experiment: Experiment, data: parts.Data, folder: str, snapshot_prefix: str, tested: bool = True):
    """Caffe's SolverParameter. Each test sees the validation part once where it fits in whole batches."""
    settings = {key: value for key, value in experiment.solver.items() if key != "batch_size"}
    if tested and "val" in data.counts:
        settings["test_iter"] = [-(-data.counts["val"] // parts.test_batch(data.counts["val"]))]
    else:
        del settings["test_interval"]
    return caffe.proto.caffe_pb2.SolverParameter(
        net=folder + "/train_val.prototxt", test_initialization=False, snapshot_prefix=snapshot_prefix,
        solver_mode=caffe.proto.caffe_pb2.SolverParameter.CPU, **settings)


def committed_names() -> list[str]:
    return [name for name in names() if not load(name).weighting and not load(name).pacing]


def committed(name: str) -> dict[str, str]:
    """Path from the project root -> text, for plain `caffe train` from there, data in data/<data set>."""
    experiment = load(name)
    folder = "prototxt/" + name
    texts = definitions(experiment, expected(experiment), folder, "models/" + name.replace("/", "-"))
    return {f"{folder}/{file}": text for file, text in texts.items()}


def expected(experiment: Experiment) -> parts.Data:
    """What is published of an experiment's data; of a set with folds: the first."""
    protocol = datasets.protocol(experiment.data)
    root, images = "data/" + experiment.data, protocol.counts
    if protocol.folds:
        share = protocol.counts["images"] / protocol.folds
        validated = protocol.validation == "fold"
        images = {"train": round((protocol.folds - 1 - validated) * share), "test": round(share)}
        if validated:
            images["val"] = round(share)
        root += "/fold01"
    elif "images" in protocol.counts:
        images = {"train": protocol.counts["images"]}
    elif protocol.hold_out:
        images = {"train": round(images["train"] * (1 - protocol.hold_out)),
                  "val": round(images["train"] * protocol.hold_out)}
    counts = {split: count * crops.SETS[protocol.crops].count(split, "peak") for split, count in images.items()}
    return parts.Data(root, len(protocol.classes), counts, backbones.BACKBONES[experiment.net].shape,
                     CLASS_COUNTS.get(experiment.data.partition("-")[0], ()))


def main() -> None:
    for name in committed_names():
        for path, text in committed(name).items():
            files.write_text(os.path.join(ROOT, path), text)


if __name__ == "__main__":
    main()
