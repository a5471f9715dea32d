"""The nets of [xie2019a]: a backbone, FC1 and FC2, and feature losses on the inputs of FC1 and FC2."""
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

import caffe
import numpy as np
from caffe import layers as L
from caffe import params as P

from common.errors import UserError
from common.experiment import Experiment
from data_prep import features as handcrafted
from layers.functions import class_weights
from prototxt.builders.backbones import BACKBONES, inner_product
from prototxt.builders.parts import MEAN, SCALE, Data, NetParameter, merge, python_layer, validation_data

# Blocks per side of the handcrafted features for x, FC1's output. Each block has (number of classes - 1) values.
GRIDS = {name: handcrafted.GRIDS[name] for name in handcrafted.PROJECTED}
# All handcrafted features. GABOR is for z, FC1's input.
FEATURES = ("gabor",) + tuple(GRIDS)
# Added to the squared norm (with a fixed scale: to |x|^2 / scale^2), so that a zero vector is normalised to 0.
EPSILON = 1e-10


@dataclass(frozen=True)
class Branch:
    """A branch of FC1 and FC2 on z."""

    # Suffix of its layers' names.
    suffix: str
    # The handcrafted features of the blocks of x, in order.
    features: Sequence[str]

    def widths(self, classes: int) -> list[int]:
        """The widths of the blocks. If there is no feature loss on x, x has the width of GSF."""
        return [GRIDS[feature] ** 2 * (classes - 1) for feature in self.features or ("gsf",)]


def branches(experiment: Experiment) -> list[Branch]:
    """The branches of a net, [xie2019a] Fig. 4. "single" has one branch, in which GSF and SIFT share
    x = (x_gsf, x_sift), the alternative loss. "branched" has one for each of the two features."""
    features = [feature for feature in GRIDS if feature in experiment.losses]
    if experiment.head.get("structure") == "branched":
        return [Branch("_" + feature, (feature,)) for feature in features]
    return [Branch("", features)]


def features(experiment: Experiment) -> list[str]:
    """The handcrafted features that the training reads."""
    return [name for name in FEATURES if name in experiment.losses]


def inputs(experiment: Experiment, data: Data) -> dict[str, Sequence[int]]:
    """The shapes of the handcrafted features of one image."""
    return {"gabor": (BACKBONES[experiment.net].values(data.shape),),
            **{feature: (side ** 2 * (data.classes - 1),) for feature, side in GRIDS.items()}}


def require_buildable(experiment: Experiment, data: Data) -> None:
    """Raises UserError if there is a loss of GABOR, but z has another length."""
    if "gabor" not in experiment.losses:
        return
    length, values = handcrafted.length("gabor", data.classes), BACKBONES[experiment.net].values(data.shape)
    if values != length:
        raise UserError("{}: losses.gabor needs a z of {} values, but z of the net {} has {} for images of {}".format(
            experiment.name, length, experiment.net, values, "x".join(map(str, data.shape))))


# A function that adds the layers from `data` to `fc2`; the last argument says whether it is the training net.
Body = Callable[[caffe.NetSpec, Experiment, Data, bool], None]


def _body(net: caffe.NetSpec, experiment: Experiment, data: Data, training: bool, only: Optional[str] = None) -> None:
    backbone = BACKBONES[experiment.net]
    backbone.build(net)
    for branch in branches(experiment):
        net["fc1" + branch.suffix] = inner_product(net[backbone.output], sum(branch.widths(data.classes)))
        normalize(net, branch.suffix, **experiment.head)
        x = net[fc2_input(experiment, branch.suffix)]
        if only:
            x = net.masked = _masked(net, x, branch, data, only)
        net["fc2" + branch.suffix] = inner_product(x, data.classes)


def _masked(net: caffe.NetSpec, x, branch: Branch, data: Data, only: str):
    """Fig. 4 (c), (d): x with all blocks but one set to 0, so that FC2's weights for them have no effect."""
    blocks = _blocks(net, x, branch, data)
    return L.Concat(*(block if feature == only else L.Power(block, scale=0) for feature, block in blocks.items()))


def _blocks(net: caffe.NetSpec, x, branch: Branch, data: Data) -> dict[str, caffe.net_spec.Top]:
    """The blocks of x: feature -> its block."""
    if len(branch.features) == 1:
        return {branch.features[0]: x}
    ends = list(itertools.accumulate(branch.widths(data.classes)))
    blocks = dict(zip(branch.features, L.Slice(x, ntop=len(ends), axis=1, slice_point=ends[:-1])))
    for feature, block in blocks.items():
        net["x_" + feature] = block
    return blocks


def readings(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """Feature -> blobs of the deploy net for adaptive weights, Eq. (11): the feature's block of x, and the
    probabilities. For the alternative loss the deploy net is the one with `only` this feature."""
    net_branches = branches(experiment)
    if len(net_branches) == 1:
        return {feature: ("x_" + feature, "prob") for feature in net_branches[0].features}
    return {branch.features[0]: (fc2_input(experiment, branch.suffix), "prob" + branch.suffix)
            for branch in net_branches}


def classified(experiment: Experiment) -> str:
    """The name of the blob x of the only branch."""
    return fc2_input(experiment)


def fc2_input(experiment: Experiment, suffix: str = "") -> str:
    """The name of the blob x, FC2's input, on which the center, GSF and SIFT losses act. suffix: the branch's."""
    return {"none": "fc1", "fixed": "normalized", "learned": "scaled"}[experiment.head["normalize"]] + suffix


def normalize(net: caffe.NetSpec, suffix: str, normalize: str, scale: float, **_) -> None:
    """Adds L2-constrained features ([xie2019a] ref. [40], [xie2019b] Eq. (3)): x = scale * FC1 / |FC1|."""
    if normalize == "none":
        return
    learned = normalize == "learned"
    fc1 = net["fc1" + suffix]
    square = net["square" + suffix] = L.Reduction(fc1, operation=P.Reduction.SUMSQ, axis=1)
    inverse = net["inverse" + suffix] = L.Power(
        square, power=-0.5, scale=1 if learned else scale ** -2, shift=EPSILON)
    net["normalized" + suffix] = L.Scale(fc1, inverse, axis=0)
    if learned:
        net["scaled" + suffix] = L.Scale(
            net["normalized" + suffix], axis=0, num_axes=0, filler=dict(type="constant", value=scale),
            param=dict(lr_mult=1, decay_mult=0))


def _train_data(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    names = features(experiment)
    tops = python_layer("train_data", "lmdb_data", "LmdbDataLayer", ntop=2 + len(names), stateful=True,
                        images=data.lmdb("train", "images"),
                        features=[data.lmdb("train", name) for name in names],
                        batch_size=experiment.solver["batch_size"], mean=MEAN, scale=SCALE)
    for name, top in zip(["data", "label"] + names, tops):
        net[name] = top


def _softmax_loss(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    """Adds the softmax loss of each branch: Eq. (1), or Eq. (14) with class weights.

    The class weights of Eq. (13) sum to 1. So the average loss of an image is smaller than without them (by a factor
    of 15 on FER2013), while the other losses keep their size. "balanced" compensates for this by the loss weight.
    """
    kind, share = experiment.head.get("class_weights", "none"), 1.0
    if kind != "none":
        if len(data.class_counts) != data.classes:
            raise UserError(f"{experiment.name}: class weights need the training samples of each of {data.classes} "
                            f"classes, not of {len(data.class_counts)}")
        if kind == "balanced":
            share = float(np.dot(class_weights.inverse(data.class_counts), data.class_counts) / sum(data.class_counts))
        net.class_weights = python_layer("class_weights", "class_weights", "ClassWeightsLayer",
                                         counts=list(data.class_counts))
    for branch in branches(experiment):
        fc2 = net["fc2" + branch.suffix]
        net["softmax_loss" + branch.suffix] = L.InfogainLoss(
            fc2, net.label, net.class_weights,
            loss_weight=1 / share) if kind != "none" else L.SoftmaxWithLoss(fc2, net.label)


def _train_losses(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    if "center" in experiment.losses:
        for branch in branches(experiment):
            center_loss(net, experiment, data, branch.suffix)
    if "gabor" in experiment.losses:
        _feature_loss(net, experiment, data, "gabor", net[BACKBONES[experiment.net].output])
    for branch in branches(experiment):
        if branch.features:
            for feature, block in _blocks(net, net[fc2_input(experiment, branch.suffix)], branch, data).items():
                _feature_loss(net, experiment, data, feature, block)


def center_loss(net: caffe.NetSpec, experiment: Experiment, data: Data, suffix: str = "") -> None:
    """Adds the center loss on x. suffix: the branch's."""
    settings = dict(experiment.losses["center"])
    name = "center_loss" + suffix
    net[name] = python_layer(
        name, "center_loss", "CenterLossLayer", net[fc2_input(experiment, suffix)], net.label,
        loss_weight=settings.pop("weight"), classes=data.classes, seed=experiment.solver["random_seed"], **settings)


def _feature_loss(net: caffe.NetSpec, experiment: Experiment, data: Data, feature: str, blob) -> None:
    settings = dict(experiment.losses[feature])
    name = feature + "_loss"
    net[name] = python_layer(
        name, "feature_loss", "FeatureLossLayer", blob, net[feature], stateful=True,
        loss_weight=settings.pop("weight"), epoch_size=data.counts["train"], **settings)


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The training net, and the net that the solver tests on the validation split, if there is one."""
    return both_phases(experiment, data, _body, _train_losses)


def both_phases(experiment: Experiment, data: Data, body: Body,
                train_losses: Callable[[caffe.NetSpec, Experiment, Data], None]) -> NetParameter:
    """The training net, and the net that the solver tests on the validation split, if there is one.

    `accuracy` is the accuracy of the predictions of `deploy`; if there are two branches, each also has its own.
    train_losses: a function that adds the losses of the training net other than the softmax loss.
    """
    train = caffe.NetSpec()
    _train_data(train, experiment, data)
    body(train, experiment, data, True)
    _softmax_loss(train, experiment, data)
    train_losses(train, experiment, data)

    val = caffe.NetSpec()
    if "val" not in data.counts:
        return merge(experiment.name, train.to_proto(), val.to_proto())
    validation_data(val, data)
    body(val, experiment, data, False)
    _softmax_loss(val, experiment, data)
    net_branches = branches(experiment)
    if len(net_branches) == 1:
        val.accuracy = L.Accuracy(val.fc2, val.label)
    else:
        for branch in net_branches:
            val["accuracy" + branch.suffix] = L.Accuracy(val["fc2" + branch.suffix], val.label)
        _probabilities(val, net_branches)
        val.accuracy = L.Accuracy(val.prob, val.label)
    return merge(experiment.name, train.to_proto(), val.to_proto())


def _probabilities(net: caffe.NetSpec, net_branches: Sequence[Branch]) -> None:
    """Adds `prob`, the average of the branches' probabilities, [xie2019a] II-D."""
    for branch in net_branches:
        net["prob" + branch.suffix] = L.Softmax(net["fc2" + branch.suffix])
    if len(net_branches) > 1:
        net.prob = L.Eltwise(*(net["prob" + branch.suffix] for branch in net_branches), operation=P.Eltwise.SUM,
                             coeff=[1 / len(net_branches)] * len(net_branches))


def deploy(experiment: Experiment, data: Data, only: Optional[str] = None) -> NetParameter:
    """The deploy net. only: for the alternative loss, the feature whose block of x is not masked."""
    return predicting(experiment, data, functools.partial(_body, only=only))


def predicting(experiment: Experiment, data: Data, body: Body) -> NetParameter:
    """The deploy net, with the input `data` and the output `prob`."""
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1] + list(data.shape)))
    body(net, experiment, data, False)
    _probabilities(net, branches(experiment))
    proto = net.to_proto()
    proto.name = experiment.name
    return proto


def deploy_words(experiment: Experiment, data: Data) -> list[str]:
    """The words in the deploy net's name: the width of each branch's FC1, and how x is normalised."""
    widths = [sum(branch.widths(data.classes)) for branch in branches(experiment)]
    return ["fc1_" + "_".join(map(str, widths)), *norm_words(**experiment.head)]


def norm_words(normalize: str, scale: float, **_) -> list[str]:
    """The words in a deploy net's name that say how x is normalised."""
    return {"none": [], "fixed": [f"norm_{scale:g}"], "learned": [f"norm_learned_{scale:g}"]}[normalize]
