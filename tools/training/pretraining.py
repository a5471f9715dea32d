"""Trainings on several data sets in turn, the stages, each with the weights of the one before: [liu2017] Section 5.2.
"""
import os
from typing import Optional

from common import experiment
from common.errors import UserError
from common.experiment import Experiment
from data_prep import prepared_folder
from tools.training import run, snapshots
from tools.training.caffe_process import Engine
from tools.training.run import Run


def train(last: Experiment, data: str, folder: str, engine: Engine) -> Optional[str]:
    """Trains the stages before the last one and returns the caffemodel that it begins with; None if none of their data
    are there. A stage without data is skipped, with a message.

    data: folder of prepared folders, named as the experiments' data are; folder: of the stages' runs, which other
    experiments may share.
    Raises UserError if an experiment has no stages before it.
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
        weights = passed_on(trained)
        print(f"stage {stage.name}: {weights}")
    return weights


def passed_on(trained: Run) -> str:
    """The weights of a trained run that another one begins with: the last or the best, as its experiment says."""
    best = trained.experiment.passes_on == snapshots.BEST
    return trained.caffemodel(snapshots.iteration(trained, snapshots.BEST if best else None))
