"""The networks: Caffe's NetParameter of an experiment, and what else generic code must know of a paper's nets.

A paper's builder has `train_val(experiment, data)` and `deploy(experiment, data)`. It may have each further function of
this module under the same name; the defaults here are for papers without it.
"""
from collections.abc import Sequence
from typing import Any, Optional

from common import papers
from common.experiment import Experiment
from prototxt.builders.parts import Data, NetParameter


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The net that trains, and where there is a validation split the one that the solver tests on it.

    `accuracy` is that of what `deploy` predicts.
    """
    return papers.builder(experiment.paper).train_val(experiment, data)


def deploy(experiment: Experiment, data: Data, only: Optional[str] = None) -> NetParameter:
    """The net that predicts: `data` in, `prob` out.

    only: of a net with adaptive loss weights, the loss whose share of the classified features alone counts.
    """
    builder = papers.builder(experiment.paper)
    return builder.deploy(experiment, data, only) if only else builder.deploy(experiment, data)


def deploy_name(experiment: Experiment, data: Data) -> str:
    """What the net that predicts is, the same for all experiments that share it: backbone, what the paper adds, number
    of classes, such as "face_resnet-fc1_384-norm_16-7"."""
    words = _ask(experiment, "deploy_words", lambda *_: [], data)
    return "-".join([experiment.net, *words, str(data.classes)])


def learned(experiment: Experiment, data: Data) -> NetParameter:
    """The net whose layers a given caffemodel may fill: all that learns, and no state of a run. By default that is the
    net that predicts."""
    return _ask(experiment, "learned", deploy, data)


def features(experiment: Experiment) -> list[str]:
    """Handcrafted features that the training reads beside the images."""
    return _ask(experiment, "features", lambda _: [])


def needs_references(experiment: Experiment) -> bool:
    """Whether a sample is a face and its neutral reference."""
    return _ask(experiment, "needs_references", lambda _: False)


def inputs(experiment: Experiment, data: Data) -> dict[str, Sequence[int]]:
    """What data layers may hand out for one image: blob -> shape, without the batch's axis."""
    return {"data": data.shape, "reference": data.shape, "label": (),
            **_ask(experiment, "inputs", lambda *_: {}, data)}


def classified(experiment: Experiment) -> str:
    """The blob that the last fully connected layer classifies."""
    return papers.builder(experiment.paper).classified(experiment)


def copied_suffix(experiment: Experiment) -> str:
    """Of the layers of a second backbone, which begins with the weights of the first; "" where there is none."""
    return _ask(experiment, "copied_suffix", lambda _: "")


def readings(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """Of a net with adaptive loss weights: loss -> the blob whose sparseness counts, and that of the probabilities by
    which the loss is judged."""
    return papers.builder(experiment.paper).readings(experiment)


def _ask(experiment: Experiment, name: str, default: Any, *arguments: Any) -> Any:
    return getattr(papers.builder(experiment.paper), name, default)(experiment, *arguments)
