"""The networks: Caffe's NetParameter of an experiment, by its paper's builder."""
from prototxt import xie, xie2019b
from prototxt.experiment import Experiment
from prototxt.parts import Data, NetParameter

# Each has train_val(experiment, data) and deploy(experiment, data).
BUILDERS = {"xie2019a": xie, "xie2019b": xie2019b}


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The net that trains, and the one that the solver tests on the validation part.

    `accuracy` is that of what `deploy` predicts.
    """
    return BUILDERS[experiment.paper].train_val(experiment, data)


def deploy(experiment: Experiment, data: Data) -> NetParameter:
    """The net that predicts: `data` in, `prob` out."""
    return BUILDERS[experiment.paper].deploy(experiment, data)
