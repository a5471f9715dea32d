"""One module per data set; each returns the same `manifest.Dataset`.

A module has PROTOCOLS (name -> Protocol, the default first) and read(source, protocol, folder, processes) ->
Dataset, with the protocol's name; a data set that is drawn, not read, puts its images into `folder`. Where
its protocols have `frames`, read takes one of them as its last argument.
"""
import importlib
from collections.abc import Sequence
from typing import NamedTuple, Optional

from common.errors import UserError

NAMES = ("fer2013", "synthetic", "ckplus", "ckplus48", "oulu_casia", "mmi", "sfew", "raf_db", "affectnet", "multi_pie",
         "folder")
# Ways to choose a sequence's peak frames.
MIDDLE, DEFORMATION = FRAMES = "middle", "deformation"


class Protocol(NamedTuple):
    """How a paper uses a data set.

    classes: names in label order.
    counts: what the paper or the data set's authors print, for comparison: images of "train", "val", "test", or
        of a set without parts of its own: "images" (samples), "units" (decisions of Eq. (12)), "subjects".
    registration: "none" (the images are registered faces), "template" (similarity transform of the landmarks to
        the template) or "box" (box around the landmarks).
    template: of this registration, the data set that the paper measures it on; "" where it does not say.
    crops: name in crops.SETS.
    folds: of the person-independent cross-validation; 0 where the set has splits of its own, and where all of it
        is for training or, of a net that another set trained, for test ([xie2019b] 3.5).
    pairs: each sample goes with the neutral frame of its sequence.
    unit: of an evaluation's decisions, "sequence" or "image".
    features, geometry: what is prepared of handcrafted features where nothing else is asked for, see `features`: of
        [xie2019a] what its experiments take, as printed.
    validation: "fold" where one of the folds is the validation part, or "none": all but the test fold train.
    hold_out: share of the training part that becomes the validation part where nothing else is asked for.
    subjects: whether the set says who is on an image.
    frames: ways to choose the peak frames of a sequence, of FRAMES, the default first; none where there is no choice.
    printed_frames: the one that the paper prints, empty where its words fit each of them.
    """

    classes: Sequence[str]
    counts: dict[str, int]
    registration: str = "none"
    crops: str = "whole"
    folds: int = 0
    pairs: bool = False
    unit: str = "sequence"
    features: Sequence[str] = ()
    geometry: str = "compact"
    validation: str = "fold"
    hold_out: float = 0.0
    subjects: bool = True
    template: str = ""
    frames: Sequence[str] = ()
    printed_frames: str = ""


def module(name: str):
    return importlib.import_module("data_prep.datasets." + name)


def protocol_name(name: str, key: Optional[str]) -> str:
    """The protocol's name, of None the data set's default. Raises UserError where the data set has it not."""
    protocols = module(name).PROTOCOLS
    key = key or next(iter(protocols))
    if key not in protocols:
        raise UserError("{} has no protocol {!r}; it has: {}".format(name, key, ", ".join(protocols)))
    return key


def protocol(data: str) -> Protocol:
    """The protocol of a data folder's name: "<data set>" (its default protocol) or "<data set>-<protocol>"."""
    name, _, key = data.partition("-")
    protocols = module(name).PROTOCOLS
    return protocols[key or next(iter(protocols))]
