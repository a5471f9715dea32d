"""The nets of [wu2023]: softmax on a ResNet's features, from which those of a neutral face may be subtracted."""
import caffe
from caffe import layers as L
from caffe import params as P

from common.experiment import Experiment
from prototxt.builders.backbones import BACKBONES, HE
from prototxt.builders.parts import Data, NetParameter, augmented_data, merge, validation_net

# Of the layers of the backbone that extracts neutral information from the target itself.
NEUTRAL = "_neutral"


def needs_references(experiment: Experiment) -> bool:
    """Whether a sample is a target and its reference."""
    return experiment.head["subtracted"] == "reference"


def _body(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    """`features`, Eq. (3), (8) or V_tar alone, and `fc`.

    A reference goes through the backbone in one batch with its target, so that BatchNorm's statistics are those of
    both together, Eq. (4) to (6).
    """
    build = BACKBONES[experiment.net].build
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
    net.fc = L.InnerProduct(net[classified(experiment)], num_output=data.classes, weight_filler=HE)


def classified(experiment: Experiment) -> str:
    """The blob that is classified."""
    return "pool5" if experiment.head["subtracted"] == "none" else "features"


def copied_suffix(experiment: Experiment) -> str:
    """The second backbone begins as the first, where a given caffemodel has one backbone."""
    return NEUTRAL if experiment.head["subtracted"] == "backbone" else ""


def _difference(one, other):
    return L.Eltwise(one, other, operation=P.Eltwise.SUM, coeff=[1, -1])


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The net that trains, and where there is a validation split the one that the solver tests on it."""
    transform, paired = BACKBONES[experiment.net].transform, needs_references(experiment)
    train = caffe.NetSpec()
    augmented_data(train, data, transform, experiment.solver, paired, augmentation="mirror_or_noise",
                   deviation=experiment.head["noise"])
    _body(train, experiment, data)
    train.softmax_loss = L.SoftmaxWithLoss(train.fc, train.label)
    val = validation_net(data, transform, lambda net: _body(net, experiment, data), paired)
    return merge(experiment.name, train.to_proto(), val)


def deploy(experiment: Experiment, data: Data) -> NetParameter:
    """The net that predicts: `data`, and of pairs `reference`, in, `prob` out."""
    net = caffe.NetSpec()
    for name in ("data", "reference") if needs_references(experiment) else ("data",):
        net[name] = L.Input(shape=dict(dim=[1] + list(data.shape)))
    _body(net, experiment, data)
    net.prob = L.Softmax(net.fc)
    proto = net.to_proto()
    proto.name = experiment.name
    return proto


def deploy_words(experiment: Experiment, data: Data) -> list[str]:
    """For the name of the deploy net: what is subtracted from the features."""
    subtracted = experiment.head["subtracted"]
    return [] if subtracted == "none" else ["minus_" + subtracted]
