"""The networks: Caffe's NetParameter of an experiment, and other facts about a paper's nets for generic code.

A paper's builder has `train_val(experiment, data)` and `deploy(experiment, data)`. It may also have each of the other
functions of this module, under the same name. If it has not, the default here applies.
"""
from collections.abc import Sequence
from typing import Any, Optional

from common import papers
from common.experiment import Experiment
from prototxt.builders.parts import Data, NetParameter


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The training net, and the net that the solver tests on the validation split, if there is one.

    `accuracy` is the accuracy of the predictions of `deploy`.
    """
    return papers.builder(experiment.paper).train_val(experiment, data)


def deploy(experiment: Experiment, data: Data, only: Optional[str] = None) -> NetParameter:
    """The deploy net, with the input `data` and the output `prob`.

    only: for a net with adaptive loss weights, the loss whose part of the classified features is used; the other
    parts are set to 0.
    """
    builder = papers.builder(experiment.paper)
    return builder.deploy(experiment, data, only) if only else builder.deploy(experiment, data)


def deploy_name(experiment: Experiment, data: Data) -> str:
    """The name of the deploy net, the same for all experiments that share the net: the backbone, the paper's words, and
    the number of classes, such as "face_resnet-fc1_384-norm_16-7"."""
    words = _ask(experiment, "deploy_words", lambda *_: [], data)
    return "-".join([experiment.net, *words, str(data.classes)])


def learned(experiment: Experiment, data: Data) -> NetParameter:
    """The net with the layers that a caffemodel may initialise: all that learn, without the state of a run. By default
    it is the deploy net."""
    return _ask(experiment, "learned", deploy, data)


def features(experiment: Experiment) -> list[str]:
    """The handcrafted features that the training reads with the images."""
    return _ask(experiment, "features", lambda _: [])


def needs_references(experiment: Experiment) -> bool:
    """Whether a sample is a face with its neutral reference."""
    return _ask(experiment, "needs_references", lambda _: False)


def inputs(experiment: Experiment, data: Data) -> dict[str, Sequence[int]]:
    """The blobs that data layers may provide for one image: blob -> shape without the batch axis."""
    return {"data": data.shape, "reference": data.shape, "label": (),
            **_ask(experiment, "inputs", lambda *_: {}, data)}


def trains_on_cut(experiment: Experiment) -> Sequence[bool]:
    """Which training records it takes: those of the size of the net's input (True), larger ones out of which its data
    layer cuts windows (False), or both."""
    return _ask(experiment, "trains_on_cut", lambda _: (True,))


def require_drawable(experiment: Experiment, data: Data) -> None:
    """Raises UserError if the data layer cannot draw its samples from the training images."""
    _ask(experiment, "require_drawable", lambda *_: None, data)


def require_buildable(experiment: Experiment, data: Data) -> None:
    """Raises UserError if images of this shape, which the backbone takes, do not suit the layers after it."""
    _ask(experiment, "require_buildable", lambda *_: None, data)


def classified(experiment: Experiment) -> str:
    """The name of the blob that the last fully connected layer classifies."""
    return papers.builder(experiment.paper).classified(experiment)


def copied_suffix(experiment: Experiment) -> str:
    """The suffix of the layers of a second backbone, which starts from the weights of the first; "" if there is
    none."""
    return _ask(experiment, "copied_suffix", lambda _: "")


def readings(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """For a net with adaptive loss weights: loss -> (the blob whose sparseness is measured, the blob of the
    probabilities that are evaluated for this loss)."""
    return papers.builder(experiment.paper).readings(experiment)


def _ask(experiment: Experiment, name: str, default: Any, *arguments: Any) -> Any:
    return getattr(papers.builder(experiment.paper), name, default)(experiment, *arguments)
