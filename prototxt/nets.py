"""The networks: Caffe's NetParameter of an experiment, by its paper's builder."""
from common.experiment import Experiment
from prototxt.builders import farzaneh2021, liu2017, wu2023, xie2019a, xie2019b
from prototxt.builders.parts import Data, NetParameter

# Each has train_val(experiment, data) and deploy(experiment, data).
BUILDERS = {"xie2019a": xie2019a, "xie2019b": xie2019b, "liu2017": liu2017, "farzaneh2021": farzaneh2021,
            "wu2023": wu2023}


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The net that trains, and where there is a validation part the one that the solver tests on it.

    `accuracy` is that of what `deploy` predicts.
    """
    return BUILDERS[experiment.paper].train_val(experiment, data)


def deploy(experiment: Experiment, data: Data) -> NetParameter:
    """The net that predicts: `data` in, `prob` out."""
    return BUILDERS[experiment.paper].deploy(experiment, data)


def deploy_name(experiment: Experiment, data: Data) -> str:
    """What the net that predicts is, the same for all experiments that share it: backbone, what the paper adds, number
    of classes, such as "face_resnet-fc1_384-norm_16-7"."""
    builder = BUILDERS[experiment.paper]
    words = builder.deploy_words(experiment, data) if hasattr(builder, "deploy_words") else []
    return "-".join([experiment.net, *words, str(data.classes)])


def learned(experiment: Experiment, data: Data) -> NetParameter:
    """The net whose layers a caffemodel that training begins with may fill, on blobs to be filled: all that learns,
    and nothing that is state of a run. It is the one that predicts, where a builder has no other."""
    builder = BUILDERS[experiment.paper]
    return getattr(builder, "learned", builder.deploy)(experiment, data)
