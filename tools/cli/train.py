"""`./fer train`: trains an experiment, or continues."""
import argparse
import os

from common import experiment
from common.errors import UserError
from tools.cli.arguments import MOST_THREADS, Commands, add_gpu, add_several, at_least, change, cores, path


def add(commands: Commands) -> None:
    command = commands.add(
        "train", run, "Train an experiment, or continue a training that was stopped. If the data have folds, a net is "
        "trained for each fold. `./fer experiments` lists the experiments, and `./fer experiments show "
        "PAPER/EXPERIMENT` prints the settings of one.",
        "train xie2019a/fer2013-toy-softmax --data data/fer2013 --out runs/softmax",
        "train xie2019a/ckplus-alaw --data data/ckplus-xie2019a --out runs/alaw --weights models/face_model.caffemodel",
        "train xie2019a/fer2013-toy-alaw --data data/fer2013 --out runs/ten --seeds 1 2 3 4 5 6 7 8 9 10")
    command.add_argument("experiment", metavar="PAPER/EXPERIMENT", help="The experiment.")
    command.add_argument("--data", type=path, required=True, help="The folder that `./fer prepare` made.")
    command.add_argument("--out", type=path, required=True, metavar="RUN", help="The folder of the run.")
    command.add_argument("--weights", metavar="CAFFEMODEL|RUN", type=path,
                         help="Initialises the net from a .caffemodel file or a finished run.")
    command.add_argument("--stages", type=path, metavar="DATA",
                         help="First train the experiments whose weights this one begins with, on the prepared "
                         "folders in DATA, each in a folder beside RUN. Those whose data are missing are skipped.")
    add_several(command, "--seeds", "Train once with each of these seeds, in RUN/seed01 and so on.", type=at_least(0),
                metavar="SEED")
    command.add_argument("--processes", type=at_least(1), default=cores(),
                         help="How many trainings run side by side: folds, seeds, trials of adaptive weights "
                         "(default: one a core; always one with --gpu).")
    command.add_argument("--threads", type=at_least(1, MOST_THREADS),
                         help="The number of BLAS threads of each training (default: that of the run; for a new run "
                         "one a core, or 1 if several run side by side).")
    add_gpu(command)
    add_several(command, "--set", "Change settings of the experiment, e.g. solver.max_iter=3000 "
                "losses.gabor.weight=1e-3.", type=change, metavar="KEY=VALUE")


def run(options: argparse.Namespace) -> int:
    from data_prep import prepared_folder
    from tools.training import caffe_process, groups, pretraining
    from tools.training.run import Run
    weights = options.weights
    if weights and not os.path.exists(weights):
        raise UserError(f"{weights}: no such file or folder")
    if weights and options.stages:
        raise UserError("--weights and --stages cannot be used together")
    settings = experiment.load(options.experiment, options.set)
    if weights and os.path.isdir(weights):
        source = groups.open_(weights)
        if not isinstance(source, Run):
            raise UserError("--weights {}: holds several runs; use one of them: {}".format(
                weights, ", ".join(os.path.join(weights, name) for name in source.members)))
        weights = pretraining.passed_on(source)
    elif options.stages:
        prepared_folder.require_prepared(options.data)
        threads = options.threads or caffe_process.all_cores().threads
        weights = pretraining.train(settings, options.stages, os.path.dirname(os.path.abspath(options.out)),
                                    caffe_process.Engine(threads, options.gpu))
    elif settings.begins_with and not weights:
        print("note: {} begins with random weights; with --stages DATA, {} is trained before it".format(
            settings.name, ", ".join(stage.name for stage in experiment.stages(settings)[:-1])))
    trained = groups.train(settings, options.data, options.out, weights, options.seeds, options.threads, options.gpu,
                           options.processes)
    for member in groups.runs(trained):
        print(f"trained: {member.caffemodel()}")
    return 0
