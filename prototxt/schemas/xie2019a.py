"""The settings of [xie2019a], Table I and Section II."""
from typing import Any, Literal, Optional

import pydantic

from common.settings import NonNegative, Number, Section, Weighting, setting
from common.settings import Settings as Base


class CenterLoss(Section):
    weight: NonNegative = setting("Factor of the center loss, lambda_C.")
    normalization: Literal["batch", "none"] = setting(
        "What the sum over the images is divided by: the batch size, or nothing.")


class FeatureLoss(Section):
    weight: NonNegative = setting("Factor of the feature loss, lambda_F.")
    rho: NonNegative = setting("Factor by which the loss is multiplied after each epoch.")
    p: Literal[1, 2] = setting("Norm of the difference, L1 or L2.")
    gradient: Literal["paper", "exact"] = setting("Gradient: Eq. (7) as printed, or the exact gradient of the loss.")
    normalization: Literal["batch", "none"] = setting(
        "What the sum over the images is divided by: the batch size, or nothing.")


class Losses(Section):
    center: Optional[CenterLoss] = setting("Center loss on x, the input of FC2.", optional=True)
    gabor: Optional[FeatureLoss] = setting("Feature loss of GABOR on z, the input of FC1.", optional=True)
    gsf: Optional[FeatureLoss] = setting("Feature loss of GSF on x.", optional=True)
    sift: Optional[FeatureLoss] = setting("Feature loss of SIFT on x.", optional=True)


class Head(Section):
    structure: Literal["single", "branched"] = setting(
        "Whether GSF and SIFT share one branch of FC layers (alternative loss) or have a branch each, Fig. 4.")
    normalize: Literal["none", "fixed", "learned"] = setting(
        "L2 normalisation of FC1's output: none, or with a fixed or a learned scale.")
    scale: Number = setting("Scale of the normalised output; if it is learned, its initial value.")
    class_weights: Literal["none", "inverse", "balanced"] = setting(
        "Class weights of the softmax loss, Eq. (13). With balanced, their mean over the images is 1.")


class Settings(Base):
    losses: Losses = setting("Losses that are added to the softmax loss.")
    head: Head = setting("Layers after the backbone.")
    weighting: Optional[Weighting] = setting("Adaptive loss weights, Algorithm 1.", optional=True, own=True)

    @pydantic.root_validator(skip_on_failure=True, allow_reuse=True)
    def branches_have_their_losses(cls, values: dict[str, Any]) -> dict[str, Any]:
        losses, adaptive = values["losses"], values["weighting"] is not None
        if (adaptive or values["head"].structure == "branched") and not (losses.gsf and losses.sift):
            raise ValueError("two branches, and adaptive weights, need the losses gsf and sift")
        if adaptive and values["solver"].lr_policy != "fixed":
            raise ValueError("adaptive weights need lr_policy fixed, because each round starts a new training")
        return values
