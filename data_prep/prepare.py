"""Prepares a data set: a folder with the manifest and, for each split, LMDBs with the same keys.

    DIR/manifest.csv   DIR/prepare.json   DIR/no_face.csv (if no face is found in some images)
    DIR/faces.html                        some faces of each class, to look at
    DIR/projections/gsf.npz ...           PCA and LDA of features, fitted on the training split
    DIR/train/records.csv   DIR/train/images/   DIR/train/gabor/ ...      and the same for val and test

Of a cross-validation, each fold has such a folder, DIR/fold01 ..., below the manifest of all images.
"""
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import cv2
import lmdb
import numpy as np
from threadpoolctl import threadpool_limits

from common import files, locks, progress
from common.errors import UserError
from data_prep import (
    alignment,
    contact_sheet,
    crops,
    datasets,
    deformation,
    descriptions,
    features,
    folds,
    manifest,
    prepared_folder,
    records,
    subjects,
)
from data_prep.datasets import Protocol, labels, trees
from data_prep.manifest import Dataset, Face
from data_prep.prepared_folder import MANIFEST, NO_FACE, NOTE
from data_prep.settings import ONLY_IF_GIVEN, Settings, completed, protocol_of, to_note
from data_prep.survey import scenes, survey

KIND = "prepared data"
# In a partial folder: the settings, the results of the survey so far, and the descriptions of images.
ASKED = "asked.json"
SURVEY = "survey.csv"
DESCRIPTIONS = "descriptions"


def prepare(settings: Settings, out: str, processes: int) -> dict[str, Any]:
    """Makes the folder `out` and returns its note (prepare.json). The folder appears when it is complete.

    Does nothing if `out` holds the same preparation already, and continues an interrupted one. Raises UserError if
    `out` holds something else, on bad input, and if the disk is too small; then nothing is left behind.
    """
    out = os.path.abspath(out)
    files.require_text(out)
    settings = completed(settings)
    require_apart(out, (settings.source, settings.subjects, settings.template))
    with progress.doing("computing the digests of the source"):
        asked = {**to_note(settings), **{key + "_digest": path and files.digest(path) for key, path in (
            ("source", settings.source), ("subjects", settings.subjects), ("template", settings.template))}}
    # The digest of a folder is only of names and sizes, and a changed label may have as many letters.
    table = os.path.join(settings.source or "", labels.NAME)
    if protocol_of(settings).own and os.path.isfile(table):
        asked["labels_digest"] = files.digest(table)
    if os.path.lexists(out):
        return _existing(asked, out)
    os.makedirs(os.path.dirname(out), exist_ok=True)
    # The last bits of a projection depend on the number of BLAS threads, so there is one.
    with locks.exclusive(files.hidden(out, "lock"), f"{out}: another preparation is at work there", remove=True), \
            threadpool_limits(1):
        partial = files.hidden(out, "partial")
        if not _is_begun(asked, partial):
            files.remove(partial)
            files.claim(partial, KIND)
            files.write_json(os.path.join(partial, ASKED), asked)
        try:
            note = _Preparation(settings, asked, out, partial, processes).run()
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


def require_apart(out: str, sources: Sequence[Optional[str]]) -> None:
    """Raises UserError if `out` is one of the sources, holds one, or lies in one."""
    target = os.path.realpath(out)
    for path in filter(None, sources):
        source = os.path.realpath(path)
        if os.path.commonpath([target, source]) in (target, source):
            raise UserError("{}: {} {}, from which it is made; give another --out".format(
                out, "is" if target == source else "lies in" if target.startswith(source) else "holds", path))


def _existing(asked: Mapping[str, Any], out: str) -> dict[str, Any]:
    """The note of a folder that is there already. Raises UserError if it does not hold the same preparation."""
    path = os.path.join(out, NOTE)
    if not os.path.exists(path):
        raise UserError(f"{out}: exists and is not a {KIND}; give another --out")
    note = files.read_json(path)
    held = dict(note["asked"], frames=prepared_folder.frames_of(note))
    for key, value in {**dict.fromkeys(ONLY_IF_GIVEN), **asked}.items():
        if held.get(key) != value:
            raise UserError(f"{out}: holds a preparation with {key} {held.get(key)}, not {value}; give another "
                            "--out or remove it")
    return note


def _is_begun(asked: Mapping[str, Any], partial: str) -> bool:
    path = os.path.join(partial, ASKED)
    return os.path.exists(path) and files.read_json(path) == asked


@dataclass(frozen=True)
class _Preparation:
    """The work of one preparation."""

    # Completed.
    settings: Settings
    # The settings and the digests of the files that they name, as the note has them.
    asked: dict[str, Any]
    # Where the folder will be.
    out: str
    # Where it is made.
    folder: str
    # Number of child processes.
    processes: int

    @property
    def protocol(self) -> Protocol:
        return protocol_of(self.settings)

    @property
    def where(self) -> str:
        """The source's name in messages."""
        return self.settings.source or self.settings.dataset

    def run(self) -> dict[str, Any]:
        """Makes the folder and returns its note."""
        settings, protocol = self.settings, self.protocol
        with progress.doing(f"reading {self.where}"):
            dataset = datasets.module(settings.dataset).read(
                settings.source, settings.protocol, self.folder, self.processes,
                *([settings.frames] if protocol.frames else []))
        if settings.subjects:
            dataset = replace(dataset, faces=subjects.assign(dataset.faces, settings.subjects))
        if settings.subject_pattern:
            dataset = replace(dataset, faces=subjects.match(dataset.faces, settings.subject_pattern))
        faces = self._faces(dataset)
        template = None
        if settings.registration == "template":
            content = alignment.read_template(settings.template or alignment.TEMPLATE_FILE)
            template = {key: content[key] for key in ("dataset", "protocol", "faces", "margins")}
        plan = self._plan(dataset, template)
        # Name of the folder -> its manifest.
        manifests = {"": faces}
        if protocol.folds:
            manifests = {f"fold{fold:02d}": _with_copies(folds.split(
                faces, fold, protocol.folds, protocol.pairs, settings.validation or protocol.validation))
                for fold in settings.folds or range(1, protocol.folds + 1)}
        needed = sum(size for rows in manifests.values() for split in manifest.SPLITS
                     for size in records.databases(plan, split, len(records.lay_out(plan, rows, split))).values())
        files.require_space(self.out, needed)
        plan = replace(plan, descriptions=self._descriptions(
            plan, manifests, files.free_space(self.folder) - needed))
        notes = [self._write(dataset, plan, template, os.path.join(self.folder, name), rows)
                 for name, rows in manifests.items()]
        note = notes[0]
        if protocol.folds:
            fold_of = [face._replace(split=f"fold{face.fold:02d}") for face in faces
                       if not (protocol.pairs and face.role == "neutral")]
            note = dict(note, folds=sorted(manifests), copies=0, records={}, published_counts=protocol.counts,
                        **_counts(dataset, fold_of))
        if settings.source and os.path.isdir(settings.source):
            with progress.doing(f"looking for files in {self.where} that are left out"):
                note = dict(note, left_out=trees.left_out(settings.source, dataset.faces))
        if protocol.photographs and not settings.detect:
            note = dict(note, **scenes(os.path.join(self.folder, SURVEY)))
        contact_sheet.write(self.folder, note, plan.crops)
        files.write_json(os.path.join(self.folder, NOTE), note)
        for name in (DESCRIPTIONS, ASKED, SURVEY, deformation.FILE):
            files.remove(os.path.join(self.folder, name))
        return note

    def _plan(self, dataset: Dataset, template: Optional[dict[str, Any]]) -> records.Plan:
        settings = self.settings
        assert settings.crops and settings.geometry and settings.features is not None  # `completed` has filled them in
        return records.Plan(
            crops=crops.SETS[settings.crops], registration=settings.registration, references=self.protocol.pairs,
            features=settings.features, geometry=settings.geometry, features_of=settings.features_of,
            encoding=settings.encoding, seed=settings.seed, classes=len(dataset.classes),
            target=template and alignment.target_of(template["margins"]))

    def _descriptions(self, plan: records.Plan, manifests: Mapping[str, Sequence[Face]], free: int) -> dict[str, str]:
        """The folder of the descriptions of each split whose images are described more than once, in other folds or for
        the projection. Empty if they do not fit into `free` bytes of the disk."""
        splits = manifest.SPLITS if len(manifests) > 1 else (
            ("train",) if set(plan.features) & set(features.PROJECTED) else ())
        images = max(sum(face.split in splits for face in rows) for rows in manifests.values())
        size = descriptions.size(plan.features, images, len(records.described_windows(plan)))
        if size > min(descriptions.MOST_BYTES, free):
            return {}
        return dict.fromkeys(splits, os.path.join(self.folder, DESCRIPTIONS))

    def _faces(self, dataset: Dataset) -> list[Face]:
        """The manifest of all images. It is written after the survey of all images, and read if it is there."""
        protocol = self.protocol
        path = os.path.join(self.folder, MANIFEST)
        if os.path.exists(path):
            return manifest.read(path)
        manifest.check(dataset.faces, self.where)
        if not dataset.faces:
            raise UserError(f"{self.where}: no images")
        if protocol.folds:  # refuses what it cannot divide before all images are read
            folds.assign(dataset.faces, protocol.folds, self.where)
        faces, without_face = survey(dataset, os.path.join(self.folder, SURVEY), self.settings.registration != "none",
                                     self.processes, faces_of=self.settings.detect)
        if without_face:
            manifest.write(os.path.join(self.folder, NO_FACE), without_face)
            self._require_faces(faces, without_face)
        if protocol.folds:
            faces = folds.assign(faces, protocol.folds, self.where)
        elif not any(face.split for face in faces):
            faces = [face._replace(split="train") for face in faces]
        trained = {face.class_name for face in faces if face.split == "train" or protocol.folds}
        if self.settings.hold_out:
            faces = _held_out(faces, self.settings, trained)
        fitted = sorted(set(self.settings.features or ()) & set(features.PROJECTED))
        if fitted and not trained:
            raise UserError("{}: no train images, to which {} are fitted; to evaluate nets on these data, prepare them "
                            "without (--features)".format(self.where, " and ".join(fitted)))
        if len(trained) == 1:
            raise UserError("{}: all train images are of the class {}; at least two classes are needed".format(
                self.where, *trained))
        manifest.write(path, _with_copies(faces))
        return manifest.read(path)

    def _require_faces(self, faces: Sequence[Face], without: Sequence[Face]) -> None:
        """Raises UserError where no image shows a face, or, of photographs, no image that could train a class does."""
        if not faces:
            raise UserError(f"{self.where}: no face found in any of {len(without)} images")
        if self.settings.detect:
            trained = {face.class_name for face in faces if face.split in ("train", "")}
            for face in without:
                if face.split in ("train", "") and face.class_name not in trained:
                    raise UserError(f"{self.where}: no face found in any train image of {face.class_name}, e.g. "
                                    f"{face.source}")

    def _write(self, dataset: Dataset, plan: records.Plan, template: Optional[dict[str, Any]], folder: str,
               faces: Sequence[Face]) -> dict[str, Any]:
        """Writes a folder with train, val and test, and returns its note, which is written last."""
        protocol = self.protocol
        path = os.path.join(folder, NOTE)
        if os.path.exists(path):
            return files.read_json(path)
        os.makedirs(folder, exist_ok=True)
        table = os.path.join(folder, MANIFEST)
        manifest.write(table, faces)
        digest = files.digest(table)
        projections = records.fit(plan, dataset, faces, folder, self.processes)
        counts = {}
        for split in manifest.SPLITS:
            if any(face.split == split for face in faces):
                note = {"manifest": digest, "split": split, "seed": plan.seed, "crops": self.settings.crops}
                counts[split] = records.write_split(plan, dataset, faces, split, os.path.join(folder, split), note,
                                                    projections, self.processes)
        no_face = os.path.join(self.folder, NO_FACE)
        note = dict(asked=self.asked, manifest=digest, classes=list(dataset.classes), shape=list(plan.crops.shape),
                    features=list(plan.features), unit=protocol.unit, folds=[], records=counts, template=template,
                    copies=sum(bool(face.copy_of) for face in faces),
                    no_face=len(manifest.read(no_face)) if os.path.exists(no_face) else 0,
                    published_counts={} if protocol.folds else protocol.counts, **_counts(dataset, faces),
                    versions={"opencv": cv2.__version__, "numpy": np.__version__})
        files.write_json(path, note)
        return note


def _held_out(faces: list[Face], settings: Settings, trained: set[str]) -> list[Face]:
    """Faces with a share of the training images moved to the validation split. trained: names of the classes."""
    share = settings.hold_out
    assert share
    divided = folds.hold_out(faces, share, settings.seed, bool(settings.detect))
    if divided == faces:
        raise UserError("--hold-out {}: too small to hold out any of {} train images; give a larger share".format(
            share, sum(face.split == "train" for face in faces)))
    without = trained - {face.class_name for face in divided if face.split == "train"}
    if without:
        raise UserError("--hold-out {}: no train image is left of {}; give a smaller share".format(
            share, ", ".join(sorted(without))))
    return divided


def _with_copies(faces: Sequence[Face]) -> list[Face]:
    """Faces with copy_of: the validation and test images that have the pixels of a training image."""
    originals: dict[str, str] = {}
    for face in faces:
        if face.split == "train":
            originals.setdefault(face.digest, face.source)
    return [face._replace(copy_of=originals.get(face.digest, "") if face.split in ("val", "test") else "")
            for face in faces]


def _counts(dataset: Dataset, faces: Sequence[Face]) -> dict[str, Any]:
    """Images of each split or fold, and of each class in it; and all counts to compare with published ones."""
    used = [face for face in faces if face.split]
    labels_of = {split: [face.label for face in used if face.split == split] for split in sorted(
        {face.split for face in used}, key=lambda split: ((manifest.SPLITS + (split,)).index(split), split))}
    counts = {split: len(labels) for split, labels in labels_of.items()}
    return {"counts": counts,
            "class_counts": {split: np.bincount(labels, minlength=len(dataset.classes)).tolist()
                             for split, labels in labels_of.items()},
            "found_counts": dict(counts, images=len(used), units=len({face.unit for face in used}),
                                 subjects=len({face.subject for face in used}))}
