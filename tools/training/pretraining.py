"""Trainings in turn on several data sets, each with the weights of the one before: [liu2017] Section 5.2."""
import os
from typing import Optional

from common import experiment
from common.errors import UserError
from common.experiment import Experiment
from data_prep import prepared_folder
from tools.training import caffe_log, chain, run
from tools.training.caffe_process import Engine
from tools.training.run import Run

# Those that pick the snapshot with "the highest accuracy" for the next stage.
PICKED = ("liu2017",)


def train(last: Experiment, data: str, folder: str, engine: Engine) -> Optional[str]:
    """Trains the stages before the last one and returns the caffemodel that it begins with; None where no data of
    theirs are there. A stage without data is skipped, and said to be.

    data: folder of prepared folders, named as the experiments' data are; folder: of the stages' runs, which other
    experiments may share.
    Raises UserError where an experiment has no stages before it.
    """
    before = experiment.stages(last)[:-1]
    if not before:
        raise UserError(f"{last.name}: has no stages before it")
    weights = None
    for stage in before:
        source = os.path.join(data, stage.data)
        if not prepared_folder.is_prepared(source):
            print(f"stage {stage.name}: skipped, no prepared data in {source}")
            continue
        trained = run.train(stage, source, os.path.join(folder, stage.name.replace("/", "-")), weights, engine)
        weights = handed_on(trained)
        print(f"stage {stage.name}: {weights}")
    return weights


def handed_on(one: Run) -> str:
    """The weights of a trained run that another one begins with: the last, or the best where the paper picks them."""
    return best(one) if one.experiment.paper in PICKED else one.caffemodel()


def best(one: Run) -> str:
    """The weights with the highest validation accuracy, the first of equals, of the snapshots that Caffe tested."""
    accuracies = {}
    for span in chain.spans(one):
        tested = dict(caffe_log.curves(span.segment.path("caffe.log")).get("val accuracy", []))
        accuracies.update({span.start + iteration: value for iteration, value in tested.items()})
    kept = [iteration for iteration in one.snapshots() if iteration in accuracies]
    if not kept:
        solver = one.experiment.solver
        raise UserError("{}: no snapshot was tested, with solver.snapshot {snapshot} and solver.test_interval "
                        "{test_interval}".format(one.folder, **solver))
    return one.weights_of(max(kept, key=lambda iteration: accuracies[iteration]))
