"""The nets of [wu2023]: softmax on the features of a ResNet. The features of a neutral face may be subtracted first."""
import caffe
from caffe import layers as L
from caffe import params as P

from common.experiment import Experiment
from prototxt.builders.backbones import BACKBONES
from prototxt.builders.parts import Data, NetParameter, augmented_data, linear, merge, validation_net

# Suffix of the layers of the backbone that extracts neutral information from the target itself.
NEUTRAL = "_neutral"


def needs_references(experiment: Experiment) -> bool:
    """Whether a sample is a target with its reference."""
    return experiment.head["subtracted"] == "reference"


def _body(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    """Adds the features, Eq. (3), Eq. (8) or only V_tar, and `fc`.

    Targets and references go through the backbone in one batch, so that BatchNorm computes its statistics over both,
    Eq. (4) to (6).
    """
    backbone = BACKBONES[experiment.net]
    build = backbone.build
    if needs_references(experiment):
        net.pair = L.Concat(net.data, net.reference, axis=0)
        build(net, bottom=net.pair)
        net.target, net.neutral = L.Slice(net.pool5, ntop=2, axis=0)
        net.features = _difference(net.target, net.neutral)
    else:
        build(net)
        if experiment.head["subtracted"] == "backbone":
            build(net, suffix=NEUTRAL)
            net.features = _difference(net.pool5, net["pool5" + NEUTRAL])
    net.fc = linear(net[classified(experiment)], backbone.width, data.classes)


def classified(experiment: Experiment) -> str:
    """The name of the blob that is classified."""
    return "pool5" if experiment.head["subtracted"] == "none" else "features"


def copied_suffix(experiment: Experiment) -> str:
    """The suffix of the second backbone's layers. It starts from the weights of the first if a caffemodel has only
    one backbone."""
    return NEUTRAL if experiment.head["subtracted"] == "backbone" else ""


def _difference(target, neutral):
    return L.Eltwise(target, neutral, operation=P.Eltwise.SUM, coeff=[1, -1])


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The training net, and the net that the solver tests on the validation split, if there is one."""
    transform, paired = BACKBONES[experiment.net].transform, needs_references(experiment)
    train = caffe.NetSpec()
    augmented_data(train, data, transform, experiment.solver, paired, augmentation="mirror_or_noise",
                   deviation=experiment.head["noise"])
    _body(train, experiment, data)
    train.softmax_loss = L.SoftmaxWithLoss(train.fc, train.label)
    val = validation_net(data, transform, lambda net: _body(net, experiment, data), paired)
    return merge(experiment.name, train.to_proto(), val)


def deploy(experiment: Experiment, data: Data) -> NetParameter:
    """The deploy net, with the input `data`, the input `reference` for pairs, and the output `prob`."""
    net = caffe.NetSpec()
    for name in ("data", "reference") if needs_references(experiment) else ("data",):
        net[name] = L.Input(shape=dict(dim=[1] + list(data.shape)))
    _body(net, experiment, data)
    net.prob = L.Softmax(net.fc)
    proto = net.to_proto()
    proto.name = experiment.name
    return proto


def deploy_words(experiment: Experiment, data: Data) -> list[str]:
    """The words in the deploy net's name: what is subtracted from the features."""
    subtracted = experiment.head["subtracted"]
    return [] if subtracted == "none" else ["minus_" + subtracted]
