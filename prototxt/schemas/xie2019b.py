"""The settings of [xie2019b], Section 3."""
from typing import Literal, Optional

from common.settings import Count, NonNegative, Number, Section, Share, setting
from common.settings import Settings as Base
from prototxt.schemas.xie2019a import CenterLoss


class FeatureSparseness(Section):
    weight: NonNegative = setting("Factor of the sparseness loss.")
    p: Literal[1, 2] = setting("Norm, L1 or L2.")
    normalization: Literal["batch", "none"] = setting(
        "What the sum over the images is divided by: the batch size, or nothing.")


class HiddenSparseness(FeatureSparseness):
    coefficient: Literal["same", "divided"] = setting(
        "Whether each hidden layer has the full weight, or the weight divided by the number of hidden layers.")


class WeightSparseness(Section):
    weight: NonNegative = setting("Factor of the sparseness loss.")
    p: Literal[1, 2] = setting("Norm, L1 or L2.")


class Losses(Section):
    center: Optional[CenterLoss] = setting("Center loss on x, the input of FC2.", optional=True)
    sparse_x: Optional[FeatureSparseness] = setting("Sparseness of x, the input of FC2.", optional=True)
    sparse_z: Optional[FeatureSparseness] = setting("Sparseness of z, the input of FC1.", optional=True)
    sparse_hidden: Optional[HiddenSparseness] = setting("Sparseness of each hidden layer's output.", optional=True)
    sparse_v: Optional[WeightSparseness] = setting("Sparseness of V, the weights of FC1.", optional=True)
    sparse_w: Optional[WeightSparseness] = setting("Sparseness of W, the weights of FC2.", optional=True)


class Head(Section):
    fc1: Count = setting("Outputs of FC1.")
    activation: Literal["none", "relu"] = setting("Activation of FC1.")
    normalize: Literal["none", "fixed", "learned"] = setting(
        "L2 normalisation of FC1's output, Eq. (3): none, or with a fixed or a learned scale.")
    scale: Number = setting("Scale of the normalised output, alpha of Eq. (3); if it is learned, its initial value.")
    dropout: Share = setting("Share of the inputs of FC1 and of FC2 that dropout sets to 0.")
    prune_v: Share = setting("Share of FC1's connections that are cut.")
    prune_w: Share = setting("Share of FC2's connections that are cut.")


class Settings(Base):
    losses: Losses = setting("Losses that are added to the softmax loss.")
    head: Head = setting("Layers after the backbone.")
