"""The settings of a preparation."""
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Optional

from common.errors import UserError
from data_prep import alignment, crops, datasets, subjects
from data_prep.datasets import Protocol

# Settings that a note has only where they are given, so that all other notes are those of earlier versions.
ONLY_IF_GIVEN = ("fold_count", "subject_pattern", "detect")

# Which faces of a photograph to take.
LARGEST, ALL = FACES = "largest", "all"


@dataclass(frozen=True)
class Settings:
    """What the user asks for. None of `crops`, `features`, `geometry`, `validation`, `hold_out` and `frames` is the
    protocol's default."""

    # Name of the data set, in datasets.NAMES.
    dataset: str
    # File or folder of the data set; None for a data set that is drawn.
    source: Optional[str]
    # Name; None is the default of the data set.
    protocol: Optional[str] = None
    # Name in crops.SETS.
    crops: Optional[str] = None
    # Names of handcrafted features.
    features: Optional[Sequence[str]] = None
    # Of the features, a name in features.GEOMETRIES.
    geometry: Optional[str] = None
    # Whether records have the features of each "crop", or of the whole "face".
    features_of: str = "crop"
    # Of image records, "raw" or "png".
    encoding: str = "raw"
    # Numbers of the folds to prepare, from 1; None for all.
    folds: Optional[Sequence[int]] = None
    # "fold": one of the folds is the validation split; "none": there is no validation split.
    validation: Optional[str] = None
    # Share of the training images that become the validation split, of a data set without folds.
    hold_out: Optional[float] = None
    # Seed of the training order, and of the choice of held-out images.
    seed: int = 0
    # Table of the subjects (`subjects.assign`); None for the subjects that the data set tells.
    subjects: Optional[str] = None
    # File of the template that faces are aligned to (`alignment.read_template`); None for the shipped template.
    template: Optional[str] = None
    # Which frames of a sequence are its peak, in datasets.FRAMES, where the protocol has the choice.
    frames: Optional[str] = None
    # Which faces to detect in photographs, of FACES; None takes the images as the protocol does.
    detect: Optional[str] = None
    # How many person-independent folds to make of one's own data; None for those of the protocol.
    fold_count: Optional[int] = None
    # Regular expression that finds the subject in the name of an image of one's own (`subjects.match`).
    subject_pattern: Optional[str] = None

    @property
    def registration(self) -> str:
        """How faces are registered, see datasets.Protocol. Of completed settings."""
        return "template" if self.detect else datasets.module(self.dataset).PROTOCOLS[
            self.protocol].registration


def to_note(settings: Settings) -> dict[str, Any]:
    """The settings as a note has them."""
    return {name: value for name, value in asdict(settings).items()
            if value is not None or name not in ONLY_IF_GIVEN}


def of_note(note: dict[str, Any]) -> Settings:
    """The settings of a prepared folder, from its note."""
    names = {field.name for field in fields(Settings)}
    return Settings(**{name: value for name, value in note["asked"].items() if name in names})


def protocol_of(settings: Settings) -> Protocol:
    """The protocol of settings that name one, with the folds that they ask for."""
    assert settings.protocol
    protocol = datasets.module(settings.dataset).PROTOCOLS[settings.protocol]
    return replace(protocol, folds=settings.fold_count) if settings.fold_count else protocol


def completed(settings: Settings) -> Settings:
    """The settings with the protocol's defaults filled in. Raises UserError on settings that do not fit together."""
    name = datasets.protocol_name(settings.dataset, settings.protocol)
    protocol = protocol_of(replace(settings, protocol=name))
    crop_set = settings.crops or protocol.crops
    features = protocol.features if settings.features is None else settings.features
    hold_out = protocol.hold_out if settings.hold_out is None else settings.hold_out
    settings = replace(settings, protocol=name, crops=crop_set, features=sorted(set(features)), hold_out=hold_out,
                       geometry=settings.geometry or protocol.geometry)
    for option, given in (("folds", settings.fold_count), ("subject-pattern", settings.subject_pattern)):
        if given is not None and not protocol.own:
            raise UserError(f"--{option} {given}: only for images of your own (./fer prepare folder), not for "
                            f"{settings.dataset}")
    if settings.encoding == "png" and crops.SETS[crop_set].illumination:
        raise UserError(f"--encoding png: crops {crop_set} are floats, which PNG cannot hold")
    if features and crops.SETS[crop_set].cut_in_training:
        raise UserError(f"crops {crop_set} are cut in each training step, so they have no handcrafted features; give "
                        "--features without a name")
    if not 0 <= hold_out < 1:
        raise UserError(f"--hold-out {hold_out}: expected at least 0 and below 1")
    if hold_out and protocol.folds:
        raise UserError("--hold-out: {} folds; --validation fold makes one of them the validation split".format(
            "--folds makes" if settings.fold_count else f"protocol {name} has"))
    if settings.subject_pattern is not None:
        subjects.compiled(settings.subject_pattern)
        if settings.subjects:
            raise UserError(f"--subject-pattern {settings.subject_pattern}: the subjects come from "
                            f"{settings.subjects}; give one of both")
    if protocol.folds:
        settings = replace(settings, validation=settings.validation or protocol.validation)
        least = 3 if settings.validation == "fold" else 2
        if protocol.folds < least:
            raise UserError(f"--folds {protocol.folds}: expected at least {least} with --validation "
                            f"{settings.validation}, so that there are images for training")
    elif settings.validation:
        raise UserError(f"--validation {settings.validation}: protocol {name} of {settings.dataset} has no folds; "
                        "--hold-out makes a validation split" + ", and --folds makes folds" * protocol.own)
    if settings.frames and settings.frames not in protocol.frames:
        raise UserError("--frames {}: protocol {} of {} has {}".format(
            settings.frames, name, settings.dataset, " and ".join(protocol.frames) or "no choice of frames"))
    settings = replace(settings, frames=settings.frames or next(iter(protocol.frames), None))
    for fold in settings.folds or ():
        if not 1 <= fold <= protocol.folds:
            raise UserError("--fold {}: protocol {} of {} has {}".format(
                fold, name, settings.dataset, f"folds 1 to {protocol.folds}" if protocol.folds else
                "no folds" + "; --folds makes them" * protocol.own))
    for path in filter(None, (settings.source, settings.subjects, settings.template)):
        if not os.path.exists(path):
            raise UserError(f"{path}: no such file or folder")
    if settings.detect and not protocol.photographs:
        raise UserError("detect: protocol {} of {} {}".format(
            name, settings.dataset, "has registered faces" if protocol.registration == "none" else
            "detects faces where it needs to"))
    if settings.template:
        if settings.registration != "template":
            raise UserError("template {}: protocol {} of {} takes {}, so a template has no effect".format(
                settings.template, name, settings.dataset,
                "the box of each face" if protocol.registration == "box" else "the faces as they are"))
        alignment.read_template(settings.template)
    return settings
