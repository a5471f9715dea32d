"""One module for each data set; each returns the same `manifest.Dataset`.

A module has PROTOCOLS (name -> Protocol, the default first) and read(source, protocol, folder, processes) -> Dataset,
where `protocol` is a name. A data set that is drawn, not read, writes its images into `folder`. Where the protocols
have `frames`, `read` takes one of them as its last argument.
"""
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Optional

from common import suggestions
from common.errors import UserError

NAMES = ("fer2013", "synthetic", "ckplus", "ckplus48", "oulu_casia", "mmi", "sfew", "raf_db", "affectnet", "multi_pie",
         "folder")
# Ways to choose a sequence's peak frames.
MIDDLE, DEFORMATION = FRAMES = "middle", "deformation"


@dataclass(frozen=True)
class Protocol:
    """How a paper uses a data set."""

    # Names in the order of the labels.
    classes: Sequence[str]
    # Printed by the paper or the authors of the data set, for comparison: images of "train", "val" and "test", or, of a
    # data set without splits: "images" (samples), "units" (predictions of [xie2019a] Eq. (12)), "subjects".
    counts: dict[str, int]
    # "none": the images are registered faces; "template": a similarity transform of the landmarks to the template;
    # "box": the box around the landmarks.
    registration: str = "none"
    # Default crops, a name in crops.SETS.
    crops: str = "whole"
    # Of the person-independent cross-validation. 0: the data set has splits of its own; or all of it is for training;
    # or all of it is for the test of a net that was trained on another data set ([xie2019b] 3.5).
    folds: int = 0
    # Whether each sample is paired with the neutral frame of its sequence.
    pairs: bool = False
    # What one prediction is about, "sequence" or "image".
    unit: str = "sequence"
    # Default handcrafted features and their default geometry, see `features`; for [xie2019a] what its experiments need,
    # as printed.
    features: Sequence[str] = ()
    geometry: str = "compact"
    # "fold": one of the folds is the validation split; "none": all folds except the test fold are for training.
    validation: str = "fold"
    # Default share of the training images that become the validation split.
    hold_out: float = 0.0
    # Whether the data set tells who is on an image.
    subjects: bool = True
    # Whether the images are one's own, so that the user may ask for folds, and say how files are named.
    own: bool = False
    # The data set on which the paper measures the template of the registration; "" where it does not say.
    template: str = ""
    # Ways to choose the peak frames of a sequence, of FRAMES, the default first; empty where there is no choice.
    frames: Sequence[str] = ()
    # The way that the paper prints; empty where its words fit all of them.
    printed_frames: str = ""
    # Whether the images may be photographs, in which faces are detected if the user asks for it.
    photographs: bool = False


def module(name: str) -> ModuleType:
    """The module of a data set, a name in NAMES."""
    return importlib.import_module("data_prep.datasets." + name)


def protocol_name(name: str, key: Optional[str]) -> str:
    """The name of a protocol, where None is the default of the data set. Raises UserError on an unknown protocol."""
    protocols = module(name).PROTOCOLS
    key = key or next(iter(protocols))
    if key not in protocols:
        raise UserError(f"{name}: {suggestions.unknown('protocol', key, protocols)}")
    return key


def protocol(data: str) -> Protocol:
    """The protocol that an experiment's data name: "<data set>" (its default protocol) or "<data set>-<protocol>"."""
    name, _, key = data.partition("-")
    protocols = module(name).PROTOCOLS
    return protocols[key or next(iter(protocols))]
