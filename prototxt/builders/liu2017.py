"""The nets of [liu2017]: the inception FER net, one or two branches of FC layers, softmax loss, and a tuplet loss."""
import os
from collections.abc import Sequence

import caffe
from caffe import layers as L

from common.errors import UserError
from common.experiment import Experiment
from data_prep import prepared_folder
from layers.functions import tuplets
from prototxt.builders.backbones import BACKBONES, inner_product
from prototxt.builders.parts import Data, NetParameter, Transform, merge, python_layer, validation_data
from prototxt.schemas.liu2017 import TUPLET_LOSSES

LAYERS = {"tuplet": "TupletLossLayer", "clusters": "AdaptiveClustersLossLayer",
          "fixed_clusters": "FixedClustersLossLayer"}
# The label of all images of a tuplet but the query: the softmax loss ignores them.
NO_LABEL = -1


def _tuplet_loss(experiment: Experiment) -> str:
    """The name of the tuplet loss; "" if softmax is the only loss."""
    losses = [loss for loss in experiment.losses if loss in TUPLET_LOSSES]
    if len(losses) < len(experiment.losses) or len(losses) > 1:
        raise UserError("{}: losses {}, expected none or one of {}".format(
            experiment.name, ", ".join(experiment.losses), ", ".join(TUPLET_LOSSES)))
    return losses[0] if losses else ""


def _positives(experiment: Experiment) -> int:
    """M, the number of positives with the query; in Eq. (1) it is 2."""
    return 2 if "tuplet" in experiment.losses else experiment.tuplets["positives"]


def _data_set(experiment: Experiment) -> str:
    return experiment.data.partition("-")[0]


def _fc(net: caffe.NetSpec, name: str, bottom, outputs: int):
    net[name] = inner_product(bottom, outputs)
    net["relu_" + name] = L.PReLU(net[name], in_place=True)
    return net["relu_" + name]


def _classification_branch(net: caffe.NetSpec, experiment: Experiment, data: Data):
    """The layers from the image to the class scores. The name of the last layer contains the data set: each data set
    has its own classes, and an experiment takes over layers of an earlier one by their names."""
    backbone = BACKBONES[experiment.net]
    backbone.build(net)
    head = experiment.head
    fc2 = _fc(net, "fc2", _fc(net, "fc1", net[backbone.output], head["fc1"]), head["fc2"])
    name = "classifier_" + _data_set(experiment)
    net[name] = inner_product(fc2, data.classes)
    return net[name]


def _metric_loss(net: caffe.NetSpec, experiment: Experiment) -> None:
    """The metric loss on FC2 or, if there are two branches, on FC4: FC3, then the connecting layer of Eq. (13)."""
    features = net.relu_fc2
    if experiment.head["branches"] == 2:
        fc3 = _fc(net, "fc3", net[BACKBONES[experiment.net].output], experiment.head["fc2"])
        net.fc2_fc3 = L.Concat(features, fc3)
        features = net.fc4 = L.InnerProduct(net.fc2_fc3, num_output=experiment.head["fc4"], bias_term=False,
                                            weight_filler=dict(type="xavier"))
    loss = _tuplet_loss(experiment)
    settings = dict(experiment.losses[loss], negatives=experiment.tuplets["negatives"])
    if loss != "tuplet":
        settings["positives"] = _positives(experiment)
    if loss == "clusters":
        settings["seed"] = experiment.solver["random_seed"]
        if settings["metric"] == "printed":
            # The layer's default. So the definitions of earlier versions stay as they are.
            del settings["metric"]
    name = loss + "_loss"
    net[name] = python_layer(name, "tuplet_loss", LAYERS[loss], features, loss_weight=settings.pop("weight"),
                             **settings)


def _softmax_loss(net: caffe.NetSpec, scores):
    return L.SoftmaxWithLoss(scores, net.label, loss_param=dict(ignore_label=NO_LABEL))


def _train_data(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    """The data layer. Its name contains the data set, so that training on another data set does not take over its
    position."""
    layer, of_tuplets = "WindowDataLayer", {}
    if _tuplet_loss(experiment):
        layer = "TupletDataLayer"
        of_tuplets = dict(positives=_positives(experiment), negatives=experiment.tuplets["negatives"])
    net.data, net.label = python_layer(
        "train_data_" + _data_set(experiment), "window_data", layer, ntop=2, stateful=True, data=data.root,
        batch_size=experiment.solver["batch_size"], seed=experiment.solver["random_seed"], **of_tuplets)


def trains_on_cut(experiment: Experiment) -> Sequence[bool]:
    """The data layer also normalises the illumination of the windows that it cuts."""
    return (False,)


def require_drawable(experiment: Experiment, data: Data) -> None:
    """Raises UserError if there is a tuplet loss, but the training images make no tuplets."""
    if not _tuplet_loss(experiment):
        return
    faces = [face for face in prepared_folder.faces(data.root) if face.split == "train"]
    try:
        tuplets.sampler([face.label for face in faces], [face.subject for face in faces], _positives(experiment),
                        experiment.tuplets["negatives"])
    except ValueError as error:
        raise UserError(f"{os.path.join(data.root, prepared_folder.MANIFEST)}: {error}") from None


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The training net, and the net that the solver tests on the validation split."""
    train = caffe.NetSpec()
    _train_data(train, experiment, data)
    train.softmax_loss = _softmax_loss(train, _classification_branch(train, experiment, data))
    if _tuplet_loss(experiment):
        _metric_loss(train, experiment)

    val = caffe.NetSpec()
    # The preparation has already normalised the images.
    validation_data(val, data, Transform((0,), 1))
    scores = _classification_branch(val, experiment, data)
    val.softmax_loss = _softmax_loss(val, scores)
    val.accuracy = L.Accuracy(scores, val.label)
    return merge(experiment.name, train.to_proto(), val.to_proto())


def deploy(experiment: Experiment, data: Data) -> NetParameter:
    """The deploy net, with the input `data` and the output `prob`: only the classification branch."""
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1] + list(data.shape)))
    net.prob = L.Softmax(_classification_branch(net, experiment, data))
    return _named(experiment, net)


def deploy_words(experiment: Experiment, data: Data) -> list[str]:
    """The words in the deploy net's name: the widths of the FC layers, and the data set, which is part of its last
    layer's name."""
    return [f"{name}_{experiment.head[name]}" for name in ("fc1", "fc2")] + [_data_set(experiment)]


def learned(experiment: Experiment, data: Data) -> NetParameter:
    """The net with both branches and the learned metric, for one tuplet."""
    net = caffe.NetSpec()
    images = _positives(experiment) + experiment.tuplets["negatives"] if _tuplet_loss(experiment) else 1
    net.data = L.Input(shape=dict(dim=[images] + list(data.shape)))
    _classification_branch(net, experiment, data)
    if _tuplet_loss(experiment):
        _metric_loss(net, experiment)
    return _named(experiment, net)


def classified(experiment: Experiment) -> str:
    """The name of FC2's blob, after the activation."""
    return "relu_fc2"


def _named(experiment: Experiment, net: caffe.NetSpec) -> NetParameter:
    proto = net.to_proto()
    proto.name = experiment.name
    return proto
