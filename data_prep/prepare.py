"""A raw data set -> a folder with the manifest and, for each split, LMDBs in step.

    DIR/manifest.csv   DIR/prepare.json   DIR/no_face.csv (where there are such)
    DIR/projections/gsf.npz ...           PCA and LDA of features, fitted on the training part
    DIR/train/records.csv   DIR/train/images/   DIR/train/gabor/ ...      and the same for val and test

A set that is cross-validated has such a folder for each fold, DIR/fold01 ..., below its own manifest.
"""
import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

import cv2
import lmdb
import numpy as np
from threadpoolctl import threadpool_limits

from common import files, locks
from common.errors import UserError
from data_prep import alignment, crops, datasets, deformation, descriptions, folds, manifest, records, subjects
from data_prep.datasets import Protocol, trees
from data_prep.features import PROJECTED
from data_prep.manifest import Dataset, Face
from data_prep.survey import survey

NOTE = "prepare.json"
KIND = "prepared data"
# In a partial folder: what it will be, the survey so far, and what is described already.
ASKED = "asked.json"
SURVEY = "survey.csv"
DESCRIPTIONS = "descriptions"
NO_FACE = "no_face.csv"


class Settings(NamedTuple):
    """dataset: name; source: its file or folder, None for one that is drawn; protocol: name, None for the set's
    default; crops: name in crops.SETS; features: names; geometry: of the features, name in features.GEOMETRIES;
    features_of: "crop" or "face"; encoding: of image records, "raw" or "png"; folds: which ones, None for all;
    validation: "fold" where one of the folds is the validation part, else "none"; hold_out: share of the training
    images that becomes the validation part, of a set without folds; seed: of the training order and of what is held
    out; subjects: table of who is on which image (`subjects.assign`), None for what the data set says; template: file
    that faces are aligned by (`alignment.read_template`), None for the shipped one; frames: which ones of a sequence
    are its peak, of datasets.FRAMES, only where the protocol has the choice.

    None of crops, features, geometry, validation, hold_out and frames: the protocol's."""

    dataset: str
    source: Optional[str]
    protocol: Optional[str] = None
    crops: Optional[str] = None
    features: Optional[Sequence[str]] = None
    geometry: Optional[str] = None
    features_of: str = "crop"
    encoding: str = "raw"
    folds: Optional[Sequence[int]] = None
    validation: Optional[str] = None
    hold_out: Optional[float] = None
    seed: int = 0
    subjects: Optional[str] = None
    template: Optional[str] = None
    frames: Optional[str] = None


def prepare(settings: Settings, out: str, processes: int) -> dict:
    """Makes the folder `out` and returns its note (prepare.json); it is there when complete and not before.

    Where `out` already holds the same preparation, nothing is done; what a killed one left is gone on with.
    Raises UserError where it holds something else, on bad input, and where the disk is too small; then nothing
    is left.
    """
    out = os.path.abspath(out)
    settings = completed(settings)
    require_apart(out, (settings.source, settings.subjects, settings.template))
    asked = dict(settings._asdict(), features=list(settings.features), folds=settings.folds and list(settings.folds),
                 source_digest=settings.source and files.digest(settings.source),
                 subjects_digest=settings.subjects and files.digest(settings.subjects),
                 template_digest=settings.template and files.digest(settings.template))
    if os.path.lexists(out):
        return _already_there(asked, out)
    # One BLAS thread: the sums of a projection depend on their number in the last bits.
    with _locked(out), threadpool_limits(1):
        partial = files.hidden(out, "partial")
        if not _is_begun(asked, partial):
            files.remove(partial)
            files.claim(partial, KIND)
            files.write_json(os.path.join(partial, ASKED), asked)
        try:
            note = _prepare(settings, asked, out, partial, processes)
        except KeyboardInterrupt:
            raise
        except lmdb.Error as error:  # it names no file, and calls a full disk an input/output error
            free = files.free_space(partial)
            files.remove(partial)
            raise UserError(f"{out}: LMDB: {error}; {files.amount(free)} are free on this disk") from None
        except BaseException:
            files.remove(partial)
            raise
        os.rename(partial, out)
    return note


def summary(out: str, note: dict) -> str:
    """Counts of each part and class, and differences from the published ones, as text."""
    lines = ["{}: {} images, {} records of {}, features: {}".format(
        out, sum(note["counts"].values()), sum(note["records"].values()), "x".join(map(str, note["shape"])),
        ", ".join(note["features"]) or "none")]
    width = max(map(len, note["classes"])) + 2
    lines.append(" " * 8 + "".join(name.rjust(width) for name in note["classes"]) + "all".rjust(width))
    for part, counts in note["class_counts"].items():
        lines.append(part.ljust(8) + "".join(str(count).rjust(width) for count in counts + [sum(counts)]))
    for what, published in note["published_counts"].items():
        found = note["found_counts"].get(what, 0)
        if found != published:
            lines.append("note: {} {}, published {}".format(
                found, what + " images" if what in manifest.SPLITS else what, published))
    if note.get("template"):
        lines.append("aligned to the template of {dataset}-{protocol}, {faces} faces".format(**note["template"]))
    if note["no_face"]:
        lines.append("note: no face found in {} images, listed in {} and left out".format(note["no_face"], NO_FACE))
    for kind, found in note.get("left_out", {}).items():
        lines.append("note: {} {} and are left out, e.g. {}".format(
            found["count"], trees.LEFT_OUT[kind], found["example"]))
    if note["copies"]:
        lines.append("note: {} validation and test images have the pixels of a training image".format(note["copies"]))
    return "\n".join(lines)


def is_prepared(folder: str) -> bool:
    """Whether a folder holds prepared data, of several folds too."""
    return os.path.exists(os.path.join(folder, NOTE))


def require_prepared(folder: str) -> None:
    """Raises UserError where a folder holds no prepared data."""
    if not is_prepared(folder):
        raise UserError(f"{folder}: no prepared data here; `./fer prepare DATASET SOURCE --out {folder}` makes it")


def data_set(note: dict) -> str:
    """What a prepared folder holds, "<data set>-<protocol>"; note: its prepare.json."""
    return "{dataset}-{protocol}".format(**note["asked"])


def frames_of(note: dict) -> Optional[str]:
    """How the peak frames of a prepared folder were chosen, of datasets.FRAMES, None where its protocol has no choice;
    note: its prepare.json. One that does not say so is from before there was a choice."""
    asked = note["asked"]
    protocol = datasets.module(asked["dataset"]).PROTOCOLS.get(asked["protocol"])
    return asked.get("frames") or next(iter(protocol.frames if protocol else ()), None)


def is_of(note: dict, data: str) -> bool:
    """Whether a prepared folder holds the data that an experiment names, "<data set>" or "<data set>-<protocol>"."""
    return data_set(note) in (data, data + "-" + note["asked"]["protocol"])


def any_note(folder: str) -> dict:
    """prepare.json of a prepared folder, of several folds too. Raises UserError where there is none."""
    return files.read_json(os.path.join(folder, NOTE))


def read_note(folder: str) -> dict:
    """prepare.json of a prepared folder. Raises UserError where there is none, and on a folder of several folds."""
    require_prepared(folder)
    note = any_note(folder)
    if note["folds"]:
        raise UserError("{}: holds several folds; give one of them: {}".format(
            folder, ", ".join(os.path.join(folder, name) for name in note["folds"])))
    return note


def template(note: dict) -> dict:
    """What faces that are aligned were aligned to: "margins" and the "dataset", "protocol" and "faces" that they are
    of. note: prepare.json of a prepared folder; before it told the template, there was the shipped one alone."""
    return note.get("template") or alignment.read_template(alignment.TEMPLATE_FILE)


def require_manifest(folder: str, note: dict) -> None:
    """Raises UserError where the manifest of a prepared folder is not the one that its note was written with."""
    path = os.path.join(folder, "manifest.csv")
    if not os.path.exists(path) or files.digest(path) != note["manifest"]:
        raise UserError("{}: {} since it was prepared; prepare the data anew".format(
            path, "was changed, or cut," if os.path.exists(path) else "was removed"))


def faces(folder: str, note: Optional[dict] = None) -> list[Face]:
    """The manifest of a prepared folder; note: its prepare.json, None to read it. Raises UserError where it is not the
    one that the folder was prepared with."""
    require_manifest(folder, note or read_note(folder))
    return manifest.read(os.path.join(folder, "manifest.csv"))


def completed(settings: Settings) -> Settings:
    """The settings with what the protocol decides filled in. Raises UserError on what does not go together."""
    name = datasets.protocol_name(settings.dataset, settings.protocol)
    protocol = datasets.module(settings.dataset).PROTOCOLS[name]
    settings = settings._replace(protocol=name, **{
        key: getattr(protocol, key) for key in ("crops", "features", "geometry", "hold_out")
        if getattr(settings, key) is None})
    settings = settings._replace(features=sorted(set(settings.features)))
    crop_set = settings.crops
    if settings.encoding == "png" and crops.SETS[crop_set].illumination:
        raise UserError(f"crops {crop_set} are floats, which PNG cannot hold")
    if settings.features and crops.SETS[crop_set].cut_in_training:
        raise UserError(f"crops {crop_set} are cut anew in each training step, so they have no handcrafted "
                        "features; give "
                        "--features without a name")
    if not 0 <= settings.hold_out < 1:
        raise UserError(f"hold-out {settings.hold_out}: expected at least 0 and below 1")
    if settings.hold_out and protocol.folds:
        raise UserError(f"hold-out: protocol {name} has folds; --validation fold makes one of them the validation "
                        "part")
    if protocol.folds:
        settings = settings._replace(validation=settings.validation or protocol.validation)
    elif settings.validation:
        raise UserError(f"validation {settings.validation}: protocol {name} of {settings.dataset} has no folds; "
                        "--hold-out makes a validation part")
    if settings.frames and settings.frames not in protocol.frames:
        raise UserError("frames {}: protocol {} of {} has {}".format(
            settings.frames, name, settings.dataset, " and ".join(protocol.frames) or "no choice of frames"))
    settings = settings._replace(frames=settings.frames or next(iter(protocol.frames), None))
    for fold in settings.folds or ():
        if not 1 <= fold <= protocol.folds:
            raise UserError("fold {}: protocol {} of {} has {}".format(
                fold, name, settings.dataset,
                f"folds 1 to {protocol.folds}" if protocol.folds else "no folds"))
    for path in filter(None, (settings.source, settings.subjects, settings.template)):
        if not os.path.exists(path):
            raise UserError(f"{path}: no such file or folder")
    if settings.template:
        if protocol.registration != "template":
            raise UserError("template {}: protocol {} of {} takes {}, which no template changes".format(
                settings.template, name, settings.dataset,
                "the box of each face" if protocol.registration == "box" else "the faces as they are"))
        alignment.read_template(settings.template)
    return settings


def require_apart(out: str, sources: Sequence[Optional[str]]) -> None:
    """Raises UserError where one of the sources would hold what is made of it, or OUT one of them."""
    target = os.path.realpath(out)
    for path in filter(None, sources):
        given = os.path.realpath(path)
        if os.path.commonpath([target, given]) in (target, given):
            raise UserError("{}: {} {}, of which it is to be made; give an --out elsewhere".format(
                out, "is" if target == given else "lies in" if target.startswith(given) else "holds", path))


def _already_there(asked: dict, out: str) -> dict:
    path = os.path.join(out, NOTE)
    if not os.path.exists(path):
        raise UserError(f"{out}: is there already and is no {KIND}; give another --out")
    note = files.read_json(path)
    held = dict(note["asked"], frames=frames_of(note))
    for key, value in asked.items():
        if held.get(key) != value:
            raise UserError(f"{out}: holds a preparation with {key} {held.get(key)}, not {value}; give another "
                            "--out or remove it")
    return note


def _is_begun(asked: dict, partial: str) -> bool:
    path = os.path.join(partial, ASKED)
    return os.path.exists(path) and files.read_json(path) == asked


def _locked(out: str) -> contextlib.AbstractContextManager[None]:
    os.makedirs(os.path.dirname(out), exist_ok=True)
    return locks.exclusive(files.hidden(out, "lock"), f"{out}: another preparation is at work there", remove=True)


def _prepare(settings: Settings, asked: dict, out: str, folder: str, processes: int) -> dict:
    """Makes `folder`, which becomes `out`, and returns its note."""
    module = datasets.module(settings.dataset)
    protocol = module.PROTOCOLS[settings.protocol]
    dataset = module.read(settings.source, settings.protocol, folder, processes,
                          *([settings.frames] if protocol.frames else []))
    if settings.subjects:
        dataset = dataset._replace(faces=subjects.assign(dataset.faces, settings.subjects))
    faces = _manifest(settings, protocol, dataset, folder, processes)
    plan = records.Plan(crops.SETS[settings.crops], protocol.registration, protocol.pairs, settings.features,
                        settings.geometry, settings.features_of, settings.encoding, settings.seed,
                        len(dataset.classes))
    template = None
    if protocol.registration == "template":
        found = alignment.read_template(settings.template or alignment.TEMPLATE_FILE)
        template = {key: found[key] for key in ("dataset", "protocol", "faces", "margins")}
        plan = plan._replace(target=alignment.target_of(template["margins"]))
    parts = {"": faces}
    if protocol.folds:
        parts = {f"fold{fold:02d}": _with_copies(folds.split(
        faces, fold, protocol.folds, protocol.pairs, settings.validation))
                 for fold in settings.folds or range(1, protocol.folds + 1)}
    needed = sum(size for part in parts.values() for split in manifest.SPLITS
                 for size in records.databases(plan, split, len(records.lay_out(plan, part, split))).values())
    files.require_space(out, needed)
    plan = plan._replace(kept=_kept(plan, parts, folder, files.free_space(folder) - needed))
    notes = [_part(settings, asked, protocol, dataset, plan, template, os.path.join(folder, name), part, processes)
             for name, part in parts.items()]
    note = notes[0]
    if protocol.folds:
        fold_of = [face._replace(split=f"fold{face.fold:02d}") for face in faces
                   if not (protocol.pairs and face.role == "neutral")]
        note = dict(note, folds=sorted(parts), copies=0, records={}, published_counts=protocol.counts,
                    **_counts(dataset, fold_of))
    if settings.source and os.path.isdir(settings.source):
        note = dict(note, left_out=trees.left_out(settings.source, dataset.faces))
    files.write_json(os.path.join(folder, NOTE), note)
    for name in (DESCRIPTIONS, ASKED, SURVEY, deformation.FILE):
        files.remove(os.path.join(folder, name))
    return note


def _kept(plan: records.Plan, parts: dict[str, list[Face]], folder: str, free: int) -> dict[str, str]:
    """records.Plan.kept: of splits whose images are described more than once, in other folds or for the projection, if
    `free` bytes suffice."""
    splits = manifest.SPLITS if len(parts) > 1 else ("train",) if set(plan.features) & set(PROJECTED) else ()
    images = max(sum(face.split in splits for face in part) for part in parts.values())
    size = descriptions.size(plan.features, images, len(records.described_windows(plan)))
    if size > min(descriptions.MOST_BYTES, free):
        return {}
    return dict.fromkeys(splits, os.path.join(folder, DESCRIPTIONS))


def _manifest(settings: Settings, protocol: Protocol, dataset: Dataset, folder: str, processes: int) -> list[Face]:
    """The manifest's rows; the file is written when all of them are known, and read where it is there."""
    path = os.path.join(folder, "manifest.csv")
    where = settings.source or settings.dataset
    if not os.path.exists(path):
        manifest.check(dataset.faces, where)
        if not dataset.faces:
            raise UserError(f"{where}: no images")
        faces, lost = survey(dataset, os.path.join(folder, SURVEY), protocol.registration != "none", processes)
        if lost:
            manifest.write(os.path.join(folder, NO_FACE), lost)
        if protocol.folds:
            faces = folds.assign(faces, protocol.folds, where)
        elif not any(face.split for face in faces):
            faces = [face._replace(split="train") for face in faces]
        trained = {face.class_name for face in faces if face.split == "train" or protocol.folds}
        if settings.hold_out:
            faces = _held_out(settings, faces, trained)
        if not trained:
            raise UserError(f"{where}: no train images")
        if len(trained) == 1:
            raise UserError("{}: all train images are of the class {}, at least two classes are needed".format(
                where, *trained))
        manifest.write(path, _with_copies(faces))
    return manifest.read(path)


def _held_out(settings: Settings, faces: list[Face], trained: set[str]) -> list[Face]:
    found = folds.hold_out(faces, settings.hold_out, settings.seed)
    if found == faces:
        raise UserError("hold-out {}: of {} train images none is held out; give a larger share".format(
            settings.hold_out, sum(face.split == "train" for face in faces)))
    without = trained - {face.class_name for face in found if face.split == "train"}
    if without:
        raise UserError("hold-out {}: no train image is left of {}; give a smaller share".format(
            settings.hold_out, ", ".join(sorted(without))))
    return found


def _with_copies(faces: Sequence[Face]) -> list[Face]:
    originals: dict[str, str] = {}
    for face in faces:
        if face.split == "train":
            originals.setdefault(face.digest, face.source)
    return [face._replace(copy_of=originals.get(face.digest, "") if face.split in ("val", "test") else "")
            for face in faces]


def _part(settings: Settings, asked: dict, protocol: Protocol, dataset: Dataset, plan: records.Plan,
          template: Optional[dict], folder: str, faces: list[Face], processes: int) -> dict:
    """A folder with train, val and test; returns its note, which it writes last. template: see the function."""
    path = os.path.join(folder, NOTE)
    if os.path.exists(path):
        return files.read_json(path)
    os.makedirs(folder, exist_ok=True)
    table = os.path.join(folder, "manifest.csv")
    manifest.write(table, faces)
    digest = files.digest(table)
    projections = records.fit(plan, dataset, faces, folder, processes)
    counts = {}
    for split in manifest.SPLITS:
        if any(face.split == split for face in faces):
            note = {"manifest": digest, "split": split, "seed": settings.seed, "crops": settings.crops}
            counts[split] = records.write_split(plan, dataset, faces, split, os.path.join(folder, split), note,
                                                projections, processes)
    lost = os.path.join(folder if not protocol.folds else os.path.dirname(folder), NO_FACE)
    note = dict(asked=asked, manifest=digest, classes=list(dataset.classes), shape=list(plan.crops.shape),
                features=list(settings.features), unit=protocol.unit, folds=[], records=counts, template=template,
                copies=sum(bool(face.copy_of) for face in faces),
                no_face=len(manifest.read(lost)) if os.path.exists(lost) else 0,
                published_counts={} if protocol.folds else protocol.counts, **_counts(dataset, faces),
                versions={"opencv": cv2.__version__, "numpy": np.__version__})
    files.write_json(path, note)
    return note


def _counts(dataset: Dataset, faces: Sequence[Face]) -> dict:
    """Images of each part, and of each class in it; and all that may be compared with published counts."""
    used = [face for face in faces if face.split]
    parts = {part: [face.label for face in used if face.split == part] for part in sorted(
        {face.split for face in used}, key=lambda part: ((manifest.SPLITS + (part,)).index(part), part))}
    counts = {part: len(labels) for part, labels in parts.items()}
    return {"counts": counts,
            "class_counts": {part: np.bincount(labels, minlength=len(dataset.classes)).tolist()
                             for part, labels in parts.items()},
            "found_counts": dict(counts, images=len(used), units=len({face.unit for face in used}),
                                 subjects=len({face.subject for face in used}))}
