"""`./fer train`: trains an experiment, or continues."""
import argparse
import os
from typing import TYPE_CHECKING, Optional, Union

from common import experiment, suggestions
from common.errors import UserError
from common.machine import Device
from tools.cli.arguments import MOST_THREADS, Commands, add_device, add_several, at_least, change, cores, device, path
from tools.training import snapshots

if TYPE_CHECKING:
    from tools.training.groups import Group
    from tools.training.run import Run

# Options that a run which continues does not take.
ONLY_ANEW = ("data", "out", "weights", "fresh_head", "stages", "seeds", "threads", "set")


def add(commands: Commands) -> None:
    command = commands.add(
        "train", run, "Train an experiment, or continue a training that was stopped. If the data have folds, a net is "
        "trained for each fold. `./fer experiments` lists the experiments, and `./fer experiments show "
        "PAPER/EXPERIMENT` prints the settings of one. docs/training.md says how to write one's own file.",
        "train xie2019a/fer2013-toy-softmax --data data/fer2013 --out runs/softmax",
        "train xie2019a/ckplus-alaw --data data/ckplus-xie2019a --out runs/alaw --weights models/face_model.caffemodel",
        "train xie2019a/fer2013-toy-alaw --data data/fer2013 --out runs/ten --seeds 1 2 3 4 5 6 7 8 9 10",
        "train my.yml --data data/mine --out runs/mine --weights runs/softmax@best --fresh-head",
        "train xie2019a/fer2013-alaw --data data/fer2013 --out runs/fast --engine torch --gpu 0,1",
        "train runs/mine", continues=True)
    command.usage = ("fer train [-h] PAPER/EXPERIMENT|FILE.yml --data DATA --out RUN [options]\n"
                     "       fer train RUN [--processes N] [--engine ENGINE] [--gpu NUMBERS] [--precision PRECISION]")
    command.add_argument("experiment", type=path, metavar="PAPER/EXPERIMENT|FILE.yml|RUN",
                         help="The experiment; or the file of your own one; or the folder of a run or group that "
                         "continues with all that it was begun with.")
    command.add_argument("--data", type=path, help="The folder that `./fer prepare` made.")
    command.add_argument("--out", type=path, metavar="RUN", help="The folder of the run.")
    command.add_argument("--weights", metavar="CAFFEMODEL|RUN", type=path,
                         help="Initialises the net from a .caffemodel file or a run. Of a group of folds or seeds, "
                         f"each run takes the member of its own name. {snapshots.HELP}")
    command.add_argument("--fresh-head", action="store_true",
                         help="With --weights: layers that they do not fit, such as a head for other classes, start "
                         "afresh. Without it, they are an error.")
    command.add_argument("--stages", type=path, metavar="DATA",
                         help="First train the experiments whose weights this one begins with, on the prepared "
                         "folders in DATA, each in a folder beside RUN. Those whose data are missing are skipped.")
    add_several(command, "--seeds", "Train once with each of these seeds, in RUN/seed01 and so on.", type=at_least(0),
                metavar="SEED")
    command.add_argument("--processes", type=at_least(1), default=cores(),
                         help="How many trainings run side by side: folds, seeds, trials of adaptive weights "
                         "(default: one per core; with --gpu one per card).")
    command.add_argument("--threads", type=at_least(1, MOST_THREADS),
                         help="The number of BLAS threads of each training (default: that of the run; for a new run "
                         "one per core, or 1 if several run side by side).")
    add_device(command, continues=True)
    add_several(command, "--set", "Change settings of the experiment, e.g. solver.max_iter=3000 "
                "losses.gabor.weight=1e-3.", type=change, metavar="KEY=VALUE")


def run(options: argparse.Namespace) -> int:
    from tools.training import groups, switching
    is_folder = os.path.isdir(options.experiment) or snapshots.split(options.experiment)[1] is not None
    if is_folder and options.experiment not in experiment.names():
        folder, snapshot = snapshots.split(options.experiment)
        if snapshot is not None:
            raise UserError(f"{options.experiment}: a run continues from its last snapshot; give {folder}, or an "
                            f"experiment with --weights {options.experiment}")
        given = [name for name in ONLY_ANEW if getattr(options, name) not in (None, [], False)]
        # Without a run that has begun, `resume` says so.
        begun = [one for one in groups.runs(groups.open_(options.experiment)) if one.has_begun]
        if given and begun:
            raise UserError("{}: continues as it was begun; leave out --{}, or give an experiment instead".format(
                options.experiment, given[0].replace("_", "-")))
        trained = groups.resume(options.experiment, options.processes, _continues_on(
            options, switching.continuing(begun) if begun else None))
    else:
        if not options.experiment.endswith(experiment.ENDINGS) and options.experiment not in experiment.names():
            raise UserError("{}; and no folder has this name".format(suggestions.unknown(
                "experiment", options.experiment, experiment.names(), "`./fer experiments` lists them all")))
        missing = ["--" + name for name in ("data", "out") if getattr(options, name) is None]
        if missing:
            options.parser.error("the following arguments are required: " + ", ".join(missing))
        trained = _anew(options)
    for member in groups.runs(trained):
        print(f"trained: {member.caffemodel()}")
    return 0


def _continues_on(options: argparse.Namespace, begun: "Optional[Run]") -> Optional[Device]:
    """The device on which a run or group continues; None for its own. Another engine is asked for by --engine alone,
    since both have the same files. Its bytes differ, and so do those of a card; so a card is asked for as when the run
    was begun."""
    if options.engine:
        return device(options)
    if begun and options.gpu != begun.device.gpu:
        was = begun.device
        raise UserError("{}: was begun on {}; give --engine {} as well to continue on another device".format(
            options.experiment, "the processor; leave out --gpu" if was.gpu is None
            else f"card {was.gpu}; continue it with {' '.join(was.options())}", was.engine))
    return None


def _anew(options: argparse.Namespace) -> "Union[Run, Group]":
    """Trains an experiment, or continues it."""
    from data_prep import prepared_folder
    from tools.training import caffe_process, groups, pretraining
    weights = options.weights
    source = weights and snapshots.split(weights)[0]
    if source and not os.path.exists(source):
        raise UserError(f"{source}: no such file or folder")
    if weights and options.stages:
        raise UserError("--weights and --stages cannot be used together")
    if options.fresh_head and not weights:
        raise UserError("--fresh-head needs --weights")
    settings = experiment.opened(options.experiment, options.set)
    if options.stages:
        prepared_folder.require_prepared(options.data)
        threads = options.threads or caffe_process.all_cores().threads
        weights = pretraining.train(settings, options.stages, os.path.dirname(os.path.abspath(options.out)),
                                    caffe_process.Engine(threads, device(options)))
    elif settings.begins_with and not weights:
        print("note: {} begins with random weights; with --stages DATA, {} is trained before it".format(
            settings.name, ", ".join(stage.name for stage in experiment.stages(settings)[:-1])))
    return groups.train(settings, options.data, options.out, weights, options.seeds, options.threads, device(options),
                        options.processes, options.fresh_head)
