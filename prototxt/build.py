"""Writes the definitions of experiments as Caffe's text: train_val, deploy and solver prototxt.

    ./fer python -m prototxt.build        writes the committed definitions, and removes those that are obsolete

    prototxt/<paper>/<experiment>/{train_val,solver}.prototxt     for training with plain `caffe train`
    prototxt/<paper>/deploy/<kind>.prototxt                       for predictions; one for all experiments with this net

An experiment with adaptive loss weights or self-paced learning has no committed train_val and solver: `./fer train`
trains the nets of the experiment without them, in many restarts.

If a data set has folds, the committed definitions are for fold01 and assume that all folds have the same size. Their
record counts (test_iter, epoch_size) are then close to those of the prepared fold, but not equal. The same is true if
images are held out for validation. `./fer train` writes definitions with the exact counts.
"""
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import caffe
import numpy as np
from google.protobuf import text_encoding, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from common import files
from common.errors import UserError
from common.experiment import ROOT, Experiment, load, names
from data_prep import crops, datasets
from prototxt import nets
from prototxt.builders import backbones, parts

FOLDER = "prototxt"
# The folder of the deploy nets in a paper's folder.
DEPLOY = "deploy"
# How generated files that are committed begin; no other file is replaced or removed.
GENERATED = "# Generated from experiments/"
COMMITTED = GENERATED + "{}.yml by ./fer python -m prototxt.build; do not edit.\n"
RUN = "# Generated from the experiment {} and the settings in the run's run.json; do not edit.\n"
# Training images of each class, for class weights in committed definitions. FER2013: from its CSV; CK+: in all folds.
CLASS_COUNTS = {"fer2013": (3995, 436, 4097, 7215, 4830, 3171, 4965), "ckplus": (135, 177, 75, 207, 84, 249, 106)}


def definitions(experiment: Experiment, data: parts.Data, folder: str, snapshot_prefix: str,
                tested: bool = True) -> dict[str, str]:
    """The definitions of an experiment, file name -> text. folder: the folder for the files; snapshot_prefix: Caffe's
    setting; tested: whether the solver tests on the validation split.

    Raises UserError if the experiment consists of several trainings. Each of them has its own definitions, which
    `experiment.one_training()` or `experiment.one_training(gsf=..., sift=...)` gives.
    """
    if not experiment.is_one_training:
        raise UserError(f"{experiment.name}: consists of several trainings, which `./fer train` does in turn")
    protos = {"train_val.prototxt": nets.train_val(experiment, data),
              "deploy.prototxt": nets.deploy(experiment, data),
              "solver.prototxt": solver(experiment, data, folder, snapshot_prefix, tested)}
    return {name: RUN.format(experiment.name) + text(proto) for name, proto in protos.items()}


def text(message: Message) -> str:
    """A message in Caffe's text format, written as in Caffe's own models: a line for each setting, in the order of
    caffe.proto."""
    return "".join(line + "\n" for line in _lines(message, ""))


def _lines(message: Message, indent: str) -> Iterator[str]:
    for field, value in sorted(message.ListFields(), key=lambda pair: pair[0].index):
        values = value if field.label == FieldDescriptor.LABEL_REPEATED else [value]
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in values:
                yield f"{indent}{field.name} {{"
                yield from _lines(inner, indent + "  ")
                yield indent + "}"
        elif field.type == FieldDescriptor.TYPE_STRING or len(values) == 1:
            for scalar in values:
                yield f"{indent}{field.name}: {_scalar(field, scalar)}"
        else:
            yield f"{indent}{field.name}: [{', '.join(_scalar(field, scalar) for scalar in values)}]"


def _scalar(field: FieldDescriptor, value: Any) -> str:
    if field.type == FieldDescriptor.TYPE_STRING:
        escaped = text_encoding.CEscape(value.encode("utf-8"), False)
        # JSON, which our layers have in param_str, is easier to read between single quotes.
        if '"' in value and "'" not in value:
            return "'" + escaped.replace('\\"', '"') + "'"
        return f'"{escaped}"'
    if field.type == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values_by_number[value].name
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    return _shortest(value) if field.type == FieldDescriptor.TYPE_FLOAT else str(value)


def _shortest(value: float) -> str:
    """The shortest text that is parsed to the same float32 as the text with eight digits.

    An exact text may need a ninth digit. That would change the last bit of some adaptive loss weights, and then the
    results would differ from those of earlier runs.
    """
    eight = f"{value:.8g}"
    shorter = (f"{value:.{digits}g}" for digits in (6, 7))
    return next((text for text in shorter if np.float32(text) == np.float32(eight)), eight)


def parse(text: str, message):
    """Reads a text in Caffe's text format into a message, and returns the message."""
    return text_format.Merge(text, message)


def read(path: str, message):
    """Reads the definition of a net from a file into a NetParameter, and returns it. Raises UserError if it is none."""
    try:
        return parse(files.read_bytes(path).decode(), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not the definition of a net: {error}") from None


def solver(experiment: Experiment, data: parts.Data, folder: str, snapshot_prefix: str, tested: bool = True):
    """Caffe's SolverParameter. Each test covers the validation split; some of its records come twice if they do not
    fill whole batches."""
    settings = {key: value for key, value in experiment.solver.items() if key != "batch_size"}
    if tested and "val" in data.counts:
        settings["test_iter"] = [-(-data.counts["val"] // parts.test_batch(data.counts["val"]))]
    else:
        del settings["test_interval"]
    return caffe.proto.caffe_pb2.SolverParameter(
        net=folder + "/train_val.prototxt", test_initialization=False, snapshot_prefix=snapshot_prefix,
        solver_mode=caffe.proto.caffe_pb2.SolverParameter.CPU, **settings)


def committed_names() -> list[str]:
    """The names of the experiments that plain `caffe train` can train."""
    return [name for name in names() if load(name).is_one_training]


def committed(name: str) -> dict[str, str]:
    """The committed definitions of an experiment: path from the project root -> text. They are for plain `caffe train`
    in the project root, with the data in data/<data set>."""
    experiment, folder = load(name), f"{FOLDER}/{name}"
    data = expected(experiment)
    protos = {"train_val.prototxt": nets.train_val(experiment, data),
              "solver.prototxt": solver(experiment, data, folder, "models/" + name.replace("/", "-"))}
    return {f"{folder}/{file}": COMMITTED.format(name) + text(proto) for file, proto in protos.items()}


def committed_deploys() -> dict[str, str]:
    """All deploy nets, each once: path from the project root -> text.

    Raises UserError if two different nets have the same name.
    """
    nets_by_path: dict[str, parts.NetParameter] = {}
    experiments: dict[str, list[str]] = {}
    for name in names():
        experiment = load(name).one_training()
        data = expected(experiment)
        kind = nets.deploy_name(experiment, data)
        path = f"{FOLDER}/{experiment.paper}/{DEPLOY}/{kind}.prototxt"
        net = nets.deploy(experiment, data)
        net.name = kind
        if nets_by_path.setdefault(path, net) != net:
            raise UserError(f"{path}: the deploy nets of {experiments[path][0]} and {name} differ, expected different "
                            "names from the paper's deploy_words")
        experiments.setdefault(path, []).append(name)
    return {path: _deploy_header(experiments[path]) + text(net) for path, net in nets_by_path.items()}


def _deploy_header(experiments: list[str]) -> str:
    paper = experiments[0].partition("/")[0]
    listed = textwrap.fill(", ".join(name.partition("/")[2] for name in experiments), 120, initial_indent="# For: ",
                           subsequent_indent="#   ", break_long_words=False, break_on_hyphens=False)
    return COMMITTED.format(paper + "/*") + listed + "\n"


def all_committed() -> dict[str, str]:
    """All generated files that are committed: path from the project root -> text."""
    texts = committed_deploys()
    for name in committed_names():
        texts.update(committed(name))
    return texts


def expected(experiment: Experiment) -> parts.Data:
    """An experiment's data with the published record counts. If the data set has folds, the data of the first one."""
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


def write(root: str, texts: dict[str, str]) -> None:
    """Writes all files below `root`, and removes all other generated files.

    texts: path from `root` -> text. Raises UserError if a file that was not generated would be replaced.
    """
    for path in texts:
        if os.path.exists(os.path.join(root, path)) and not _is_generated(os.path.join(root, path)):
            raise UserError(f"{path}: exists and is not a generated file; move it elsewhere")
    for path, text in texts.items():
        files.write_text(os.path.join(root, path), text)
    for path in sorted(generated(root) - set(texts)):
        files.remove(os.path.join(root, path))
        if not os.listdir(os.path.dirname(os.path.join(root, path))):
            os.rmdir(os.path.dirname(os.path.join(root, path)))


def generated(root: str) -> set[str]:
    """The paths, relative to `root`, of the generated files in its folder `prototxt`."""
    paths = (os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(root, FOLDER)) for name in names
             if name.endswith(".prototxt"))
    return {os.path.relpath(path, root) for path in paths if _is_generated(path)}


def _is_generated(path: str) -> bool:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.readline().startswith(GENERATED)


if __name__ == "__main__":
    try:
        write(ROOT, all_committed())
    except UserError as error:
        sys.exit(str(error))
