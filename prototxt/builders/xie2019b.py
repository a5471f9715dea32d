"""The nets of [xie2019b]: nets of [xie2019a] with one branch, and sparseness of features, hidden units and weights."""
from collections.abc import Sequence
from typing import Optional

import caffe
from caffe import layers as L

from common.experiment import Experiment
from prototxt.builders import xie2019a
from prototxt.builders.backbones import BACKBONES, inner_product
from prototxt.builders.parts import Data, NetParameter, python_layer

# Parameter names through which layers share the weights of FC1 (V) and FC2 (W).
V, W = "V", "W"


def train_val(experiment: Experiment, data: Data) -> NetParameter:
    """The training net, and the net that the solver tests on the validation split, if there is one."""
    return xie2019a.both_phases(experiment, data, _body, _train_losses)


def deploy(experiment: Experiment, data: Data) -> NetParameter:
    """The deploy net, with the input `data` and the output `prob`."""
    return xie2019a.predicting(experiment, data, _body)


def deploy_words(experiment: Experiment, data: Data) -> list[str]:
    """The words in the deploy net's name: FC1's width and activation, how x is normalised, and dropout."""
    head = experiment.head
    activation = [head["activation"]] if head["activation"] != "none" else []
    dropout = [f"dropout_{head['dropout']:g}"] if head["dropout"] else []
    return [f"fc1_{head['fc1']}", *activation, *xie2019a.norm_words(**head), *dropout]


def classified(experiment: Experiment) -> str:
    """The name of the blob x."""
    return xie2019a.fc2_input(experiment)


def _body(net: caffe.NetSpec, experiment: Experiment, data: Data, training: bool) -> None:
    """Adds the layers z -> FC1 -> x -> FC2. The name of FC2's layer contains the number of classes. Caffe copies
    weights by name and refuses a blob of another shape, so FC2 starts from random weights if a model has another
    number of classes."""
    backbone, head = BACKBONES[experiment.net], experiment.head
    backbone.build(net)
    z = _input(net, experiment, "z", net[backbone.output], V, head["fc1"], training)
    net.fc1 = inner_product(z, head["fc1"], name=backbone.fc1, **_weights(V))
    if head["activation"] == "relu":
        net.relu_fc1 = L.ReLU(net.fc1, in_place=True)
    xie2019a.normalize(net, "", **head)
    x = _input(net, experiment, "x", net[xie2019a.fc2_input(experiment)], W, data.classes, training)
    net.fc2 = inner_product(x, data.classes, name=f"fc2_{data.classes}", **_weights(W))


def _weights(name: str):
    return dict(param=[dict(name=name, lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)])


def _input(net: caffe.NetSpec, experiment: Experiment, name: str, blob, weights: str, outputs: int, training: bool):
    """The input of FC1 (z) or FC2 (x), after dropout, and with some of the connections pruned."""
    dropout, share = experiment.head["dropout"], experiment.head["prune_" + weights.lower()]
    if dropout:
        # Not in place: the losses act on the features before dropout.
        blob = net["dropped_" + name] = L.Dropout(blob, dropout_ratio=dropout)
    if share and training:
        layer = "pruning_" + weights.lower()
        blob = net[layer] = python_layer(
            layer, "pruning", "PruningLayer", blob, outputs=outputs, share=share,
            seed=experiment.solver["random_seed"], options=dict(in_place=True, param=[
                dict(name=weights, lr_mult=1, decay_mult=1), dict(lr_mult=0, decay_mult=0)]))
    return blob


def _train_losses(net: caffe.NetSpec, experiment: Experiment, data: Data) -> None:
    backbone, losses = BACKBONES[experiment.net], experiment.losses
    x = xie2019a.fc2_input(experiment)
    # Read before the losses are added, so that none of their layers counts as a hidden layer.
    hidden = hidden_layers(net) + [x]
    if "center" in losses:
        xie2019a.center_loss(net, experiment, data)
    if "sparse_z" in losses:
        _sparseness(net, "sparse_z", [net[backbone.output]], **losses["sparse_z"])
    if "sparse_x" in losses:
        _sparseness(net, "sparse_x", [net[x]], **losses["sparse_x"])
    if "sparse_hidden" in losses:
        _sparseness(net, "sparse_hidden", [net[layer] for layer in hidden], **losses["sparse_hidden"])
    if "sparse_v" in losses:
        _weight_sparseness(net, "sparse_v", V, [experiment.head["fc1"], backbone.values(data.shape)],
                           **losses["sparse_v"])
    if "sparse_w" in losses:
        _weight_sparseness(net, "sparse_w", W, [data.classes, experiment.head["fc1"]], **losses["sparse_w"])


def hidden_layers(net: caffe.NetSpec) -> list[str]:
    """The names of the backbone's activations. FC1, the last hidden layer, is not among them: the caller adds it,
    with or without an activation."""
    return [name for name, top in net.tops.items()
            if top.fn.type_name in ("PReLU", "ReLU") and name != "relu_fc1"]


def _sparseness(net: caffe.NetSpec, name: str, blobs: Sequence, weight: float, options: Optional[dict] = None,
                **settings) -> None:
    """Adds the sparseness loss, [xie2019b] Eq. (4). settings: the other keys of its param_str."""
    net[name] = python_layer(name, "sparseness_loss", "SparsenessLossLayer", *blobs, loss_weight=weight,
                             options=options, **settings)


def _weight_sparseness(net: caffe.NetSpec, name: str, weights: str, shape: list[int], **settings) -> None:
    """Adds the same loss for a weight matrix. It comes in addition to the solver's weight decay."""
    _sparseness(net, name, [], shape=shape, options=dict(param=dict(name=weights, lr_mult=1, decay_mult=1)), **settings)
