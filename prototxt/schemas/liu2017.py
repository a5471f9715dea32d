"""The settings of [liu2017], Section 5.2."""
from typing import Literal, Optional

from common.settings import Count, Halving, NonNegative, Section, Tuplets, Whole, setting
from common.settings import Settings as Base

TUPLET_LOSSES = ("tuplet", "clusters", "fixed_clusters")


class TupletLoss(Section):
    weight: NonNegative = setting("Factor of the loss, alpha of the joint loss.")
    tau: NonNegative = setting("Margin of Eq. (1).")
    normalization: Literal["batch", "none"] = setting(
        "What the sum over the tuplets is divided by: the batch size, or nothing.")


class ClustersLoss(Section):
    weight: NonNegative = setting("Factor of the loss, alpha of the joint loss.")
    metric: Literal["printed", "consistent"] = setting(
        "Sign of L_A^T L_A in H: printed, positive as in Eq. (8); consistent, negative, so that H can be T - D.")
    rank: Whole = setting("Number of rows of L_A and L_B; 0 for square matrices.")
    normalization: Literal["batch", "none"] = setting(
        "What the sum over the tuplets is divided by: the batch size, or nothing.")


class FixedClustersLoss(Section):
    weight: NonNegative = setting("Factor of the loss, alpha of the joint loss.")
    threshold: NonNegative = setting("T of Eq. (3), the distance that separates the clusters.")
    tau: NonNegative = setting("Margin of Eq. (3).")
    normalization: Literal["batch", "none"] = setting(
        "What the sum over the tuplets is divided by: the batch size, or nothing.")


class Losses(Section):
    tuplet: Optional[TupletLoss] = setting("(N+1)-tuplet loss, Eq. (1).", optional=True)
    clusters: Optional[ClustersLoss] = setting("(N+M)-tuplet clusters loss, Eq. (10).", optional=True)
    fixed_clusters: Optional[FixedClustersLoss] = setting(
        "(N+M)-tuplet clusters loss with a fixed threshold, Eq. (3).", optional=True)


class Head(Section):
    branches: Literal[1, 2] = setting(
        "Number of branches of FC layers; a second branch is for the metric loss only, Fig. 4.")
    fc1: Count = setting("Outputs of FC1.")
    fc2: Count = setting("Outputs of FC2 and FC3, D_input of Eq. (13).")
    fc4: Count = setting("Outputs of FC4, D_output of Eq. (13).")


class Settings(Base):
    losses: Losses = setting("The metric loss that is added to the softmax loss; at most one.")
    head: Head = setting("Layers after the backbone.")
    tuplets: Optional[Tuplets] = setting("Images of a tuplet.", optional=True, losses=TUPLET_LOSSES)
    halving: Optional[Halving] = setting("When the learning rate is halved, Section 5.2, first stage.", optional=True)
