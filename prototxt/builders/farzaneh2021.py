"""The nets of [farzaneh2021]: a ResNet with softmax loss and the (sparse) center loss with its attention network."""
from collections.abc import Sequence

import caffe
from caffe import layers as L

from common.experiment import Experiment
from prototxt.builders.backbones import BACKBONES, HE
from prototxt.builders.parts import Data, NetParameter, augmented_data, linear, merge, python_layer, validation_net


def _body(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    backbone = BACKBONES[experiment.net]
    backbone.build(net)
    net.fc = linear(net.pool5, backbone.width, data.classes)


def _attention(net: caffe.NetSpec, width: int) -> None:
    """The attention network, Eq. (5) to (7): res5b -> `attention`, (M, 1, width) weights.

    The layers of the context encoder have 7, 1 and 1/8 times the channels of the map: 3584, 512 and 64 for the 512
    channels of ResNet-18.
    """
    below = net.res5b_relu
    for number, outputs, activation in ((1, 7 * width, L.ReLU), (2, width, L.ReLU), (3, width // 8, L.TanH)):
        name = f"attention_{number}{{}}"
        encoded = net[name.format("")] = L.InnerProduct(below, num_output=outputs, weight_filler=HE)
        batch = net[name.format("_bn")] = L.BatchNorm(encoded, in_place=True, moving_average_fraction=0.9)
        scaled = net[name.format("_scale")] = L.Scale(batch, in_place=True, bias_term=True)
        below = net[name.format("_activation")] = activation(scaled, in_place=True)
    net.attention_heads = L.InnerProduct(below, num_output=2 * width, weight_filler=HE)
    scores = net.attention_scores = L.Reshape(net.attention_heads, shape=dict(dim=[0, 2, width]))
    shares = net.attention_shares = L.Softmax(scores, axis=1)
    net.attention, net.attention_excluded = L.Slice(shares, ntop=2, axis=1)
    net.attention_silence = L.Silence(net.attention_excluded, ntop=0)


def _center_loss(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    """Eq. (4) with the attention network, or Eq. (3) without it."""
    settings = dict(experiment.losses["sparse_center"])
    bottoms = [net.pool5, net.label]
    if experiment.head["attention"] == "network":
        _attention(net, BACKBONES[experiment.net].width)
        bottoms.append(net.attention)
    net.sparse_center_loss = python_layer(
        "sparse_center_loss", "sparse_center_loss", "SparseCenterLossLayer", *bottoms, stateful=True,
        loss_weight=settings.pop("weight"), classes=data.classes, seed=experiment.solver["random_seed"], **settings)


def trains_on_cut(experiment: Experiment) -> Sequence[bool]:
    """A window of a record that has the size of the window is the whole record."""
    return True, False


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The training net, and the net that the solver tests on the validation split, if there is one."""
    backbone = BACKBONES[experiment.net]
    train = caffe.NetSpec()
    augmented_data(train, data, backbone.transform, experiment.solver, augmentation="five_crops",
                   side=backbone.shape[1])
    _body(train, experiment, data)
    train.softmax_loss = L.SoftmaxWithLoss(train.fc, train.label)
    if "sparse_center" in experiment.losses:
        _center_loss(train, experiment, data)
    val = validation_net(data, backbone.transform, lambda net: _body(net, experiment, data))
    return merge(experiment.name, train.to_proto(), val)


def deploy(experiment: Experiment, data: Data) -> NetParameter:
    """The deploy net, with the input `data` and the output `prob`."""
    net = _image(data)
    _body(net, experiment, data)
    net.prob = L.Softmax(net.fc)
    return _named(net, experiment)


def learned(experiment: Experiment, data: Data) -> NetParameter:
    """The net with all layers that learn, also the attention network. It has no centers: they are state of a run."""
    net = _image(data)
    _body(net, experiment, data)
    if experiment.head["attention"] == "network":
        _attention(net, BACKBONES[experiment.net].width)
    return _named(net, experiment)


def classified(experiment: Experiment) -> str:
    """The name of the blob with the backbone's features."""
    return "pool5"


def attention(experiment: Experiment, data: Data) -> NetParameter:
    """The net that computes the attention weights of a trained model (Fig. 5): `data` in, `attention` out."""
    net = _image(data)
    BACKBONES[experiment.net].build(net)
    _attention(net, BACKBONES[experiment.net].width)
    return _named(net, experiment)


def _image(data: Data) -> caffe.NetSpec:
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1] + list(data.shape)))
    return net


def _named(net: caffe.NetSpec, experiment: Experiment) -> NetParameter:
    proto = net.to_proto()
    proto.name = experiment.name
    return proto
