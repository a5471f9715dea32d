"""`./fer prepare`: from a raw data set to the manifest and the LMDBs."""
import argparse
import os
import time
from typing import TYPE_CHECKING

from common import experiment
from common.errors import UserError
from data_prep import datasets
from tools.cli.arguments import Commands, Parser, add_processes, add_several, at_least, name_of, number, path

if TYPE_CHECKING:
    from data_prep import prepare


def add(commands: Commands) -> None:
    from data_prep import crops, features
    from data_prep.settings import FACES
    command = commands.add("prepare", run, "Make the manifest and the LMDBs of a data set.",
                           "prepare fer2013 fer2013.csv --out data/fer2013",
                           "prepare ckplus CK+ --protocol xie2019a --fold 1 2 --features gsf sift",
                           "prepare folder MY_FACES --folds 5 --subject-pattern '^(s[0-9]+)_' --out data/mine")
    add_source(command)
    command.add_argument("--out", type=path, help="The folder to make (default: data/DATASET or "
                         "data/DATASET-PROTOCOL in the project).")
    command.add_argument("--protocol", help="How a paper uses the data set, such as xie2019a. A protocol decides which "
                         "images and classes take part, the folds, the alignment and the crops (default: the first "
                         "protocol of the data set).")
    command.add_argument("--crops", type=name_of("set of crops", sorted(crops.SETS)), metavar="CROPS",
                         help=f"The crops, one of: {', '.join(sorted(crops.SETS))} (default: those of the protocol).")
    add_several(command, "--features", "Handcrafted features to compute, of: {}. Without a value, none are computed "
                "(default: those of the protocol).".format(", ".join(features.NAMES)), nargs="*", default=None,
                type=name_of("handcrafted feature", features.NAMES), metavar="FEATURE")
    command.add_argument("--geometry", choices=sorted(features.GEOMETRIES),
                         help="The geometry of the handcrafted features: literal is what the paper describes, compact "
                         "is faster and more accurate (default: that of the protocol; for xie2019a literal).")
    command.add_argument("--features-of", choices=("crop", "face"), default="crop",
                         help="Whether each crop has features of its own, or all crops of a face share those of the "
                         "face (default: crop).")
    command.add_argument("--encoding", choices=("raw", "png"), default="raw",
                         help="How images are stored; png takes less space and more time to read (default: raw).")
    add_several(command, "--fold", "Folds to make, for a protocol with cross-validation (default: all).",
                type=at_least(1), default=None, metavar="FOLD")
    command.add_argument("--folds", type=at_least(2), metavar="NUMBER",
                         help="For data of your own (folder), where the subject of each image is known: make this "
                         "many person-independent folds, each of which is the test split once.")
    command.add_argument("--validation", choices=("fold", "none"),
                         help="For a protocol with cross-validation: fold makes one of the folds the validation split; "
                         "with none, all folds but the test fold are for training (default: as the paper has it).")
    command.add_argument("--hold-out", type=number, metavar="SHARE",
                         help="For a protocol without folds: take this share of the training images for the "
                         "validation split (default: that of the protocol, which is 0.1 for multi_pie and for "
                         "the protocol public of fer2013, and otherwise 0).")
    command.add_argument("--frames", choices=datasets.FRAMES,
                         help="For mmi: which three frames of a sequence are its peak. middle takes those in the "
                         "middle. deformation takes those whose landmarks are farthest from the landmarks of the "
                         "first frame, and detects the face in every frame (default: middle).")
    command.add_argument("--detect", action="store_true",
                         help="For folder: the images are photographs. Faces are detected by MTCNN and aligned to the "
                         "template, as predict does it (default: each image is taken as one face).")
    command.add_argument("--faces", choices=FACES,
                         help="With --detect: the faces to take of each photograph (default: largest).")
    command.add_argument("--subjects", type=path, metavar="CSV",
                         help="A table with the columns path and subject, for a data set that does not say who is on "
                         "an image.")
    command.add_argument("--subject-pattern", metavar="REGEX",
                         help="For data of your own (folder): a regular expression that finds the subject in the name "
                         "of each file, with one group around it, such as '^(s[0-9]+)_'. If it has a slash, "
                         "such as '(s[0-9]+)/', it is searched for in the path below SOURCE.")
    command.add_argument("--template", type=path, metavar="FILE",
                         help="For a protocol that aligns faces: the template to align them to, made by `./fer "
                         "template` (default: data_prep/template.json, measured on FER2013).")
    command.add_argument("--seed", type=at_least(0), default=0,
                         help="The seed of the training order (default: 0).")
    add_processes(command)


def add_source(command: Parser) -> None:
    command.add_argument("dataset", type=name_of("data set", datasets.NAMES), metavar="DATASET",
                         help=f"The data set, one of: {', '.join(datasets.NAMES)}.")
    command.add_argument("source", type=path, nargs="?", metavar="SOURCE",
                         help="The file or folder of the data set. synthetic has none: its faces are drawn.")


def require_source(options: argparse.Namespace, command: str, rest: str = "") -> None:
    if options.source is None and options.dataset != "synthetic":
        raise UserError(f"{options.dataset} needs its file or folder: ./fer {command} {options.dataset} SOURCE{rest}")


def run(options: argparse.Namespace) -> int:
    from common import files
    from data_prep import contact_sheet, prepare, prepared_folder
    require_source(options, "prepare")
    began = time.time()
    out = options.out or os.path.join(experiment.ROOT, "data", "-".join(
        filter(None, [options.dataset, options.protocol])))
    print(prepared_folder.summary(out, prepare.prepare(settings(options), out, options.processes)))
    sheet = os.path.join(out, contact_sheet.FILE)
    if os.path.exists(sheet):  # earlier versions wrote none
        print(f"{sheet} shows some of the faces; look at it before a training")
    print(f"{files.amount(files.size(out))}, {time.time() - began:.0f} s")
    return 0


def settings(options: argparse.Namespace) -> "prepare.Settings":
    """The settings of the preparation that a command line asks for."""
    from data_prep import prepare
    from data_prep.settings import LARGEST
    if options.faces and not options.detect:
        raise UserError(f"--faces {options.faces}: chooses among the faces of a photograph that --detect finds; give "
                        "--detect too")
    return prepare.Settings(
        dataset=options.dataset, source=_absolute(options.source), protocol=options.protocol, crops=options.crops,
        features=None if options.features is None else sorted(set(options.features)), geometry=options.geometry,
        features_of=options.features_of, encoding=options.encoding, folds=options.fold, validation=options.validation,
        hold_out=options.hold_out, seed=options.seed, subjects=_absolute(options.subjects),
        template=_absolute(options.template), frames=options.frames, fold_count=options.folds,
        subject_pattern=options.subject_pattern, detect=(options.faces or LARGEST) if options.detect else None)


def _absolute(given):
    return given and os.path.abspath(given)
