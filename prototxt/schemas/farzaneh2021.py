"""The settings of [farzaneh2021], Section 4.2."""
from typing import Literal, Optional

from common.settings import NonNegative, Section, setting
from common.settings import Settings as Base


class SparseCenterLoss(Section):
    weight: NonNegative = setting("Factor of the loss, lambda.")
    alpha: NonNegative = setting("Learning rate of the centers.")
    normalization: Literal["batch", "none"] = setting(
        "What the sum over the images is divided by: the batch size, or nothing.")


class Losses(Section):
    sparse_center: Optional[SparseCenterLoss] = setting(
        "Sparse center loss, Eq. (4), or without attention the center loss, Eq. (3).", optional=True)


class Head(Section):
    attention: Literal["none", "network"] = setting("Whether there is an attention network, Eq. (5) to (7).")


class Settings(Base):
    losses: Losses = setting("Losses that are added to the softmax loss.")
    head: Head = setting("Layers after the backbone.")
