"""Folds and held out parts: whole persons, near-equal, and the same every time."""
import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from data_prep import folds
from data_prep.manifest import Face


def faces_of(sizes):
    return [Face(f"{subject}-{number}.png", None, number % 2, "ab"[number % 2], f"S{subject:03d}")
            for subject, size in enumerate(sizes) for number in range(size)]


@given(st.lists(st.integers(1, 9), min_size=8, max_size=40), st.integers(2, 8))
def test_no_subject_is_in_two_folds_and_folds_are_near_equal(sizes, count):
    assigned = folds.assign(faces_of(sizes), count, "set")
    of = collections.defaultdict(set)
    for face in assigned:
        of[face.subject].add(face.fold)
    assert all(len(found) == 1 for found in of.values())
    subjects = collections.Counter(fold for found in of.values() for fold in found)
    assert set(subjects) == set(range(1, count + 1))
    assert max(subjects.values()) - min(subjects.values()) <= 1
    images = collections.Counter(face.fold for face in assigned)
    assert max(images.values()) - min(images.values()) <= 2 * max(sizes)


@given(st.integers(3, 10), st.integers(0, 2 ** 20))
def test_splits_never_share_a_subject_and_each_fold_is_tested_once(count, seed):
    random = np.random.RandomState(seed)
    assigned = folds.assign(faces_of(random.randint(1, 5, 30)), count, "set")
    tested = []
    for fold in range(1, count + 1):
        parts = collections.defaultdict(set)
        for face in folds.split(assigned, fold, count, pairs=False):
            parts[face.split].add(face.subject)
        assert not parts["train"] & parts["val"] and not parts["train"] & parts["test"]
        assert not parts["val"] & parts["test"] and all(parts[name] for name in ("train", "val", "test"))
        tested += sorted(parts["test"])
    assert sorted(tested) == sorted({face.subject for face in assigned})


@given(st.integers(2, 10), st.integers(0, 2 ** 20))
def test_without_validation_all_but_the_test_fold_train(count, seed):
    """[xie2019b] 3.1: "the samples of the other nine folds are used for the training"."""
    assigned = folds.assign(faces_of(np.random.RandomState(seed).randint(1, 5, 20)), count, "set")
    for fold in range(1, count + 1):
        found = folds.split(assigned, fold, count, pairs=False, validation="none")
        assert [face.split for face in found] == ["test" if face.fold == fold else "train" for face in assigned]


def test_folds_by_hand():
    """Sizes 5 4 3 2 1 1 in two folds: S0 -> 1, S1 -> 2, S2 -> 2 (7 against 5 images: to the smaller, 2 has 4), ..."""
    assigned = folds.assign(faces_of([5, 4, 3, 2, 1, 1]), 2, "set")
    fold_of = {face.subject: face.fold for face in assigned}
    assert fold_of == {"S000": 1, "S001": 2, "S002": 2, "S003": 1, "S004": 1, "S005": 2}


def test_order_of_the_images_does_not_matter():
    faces = faces_of([3, 2, 5, 4, 4, 1])
    shuffled = [faces[i] for i in np.random.RandomState(0).permutation(len(faces))]
    assert {f.source: f.fold for f in folds.assign(faces, 3, "set")} == {
        f.source: f.fold for f in folds.assign(shuffled, 3, "set")}


def test_neutral_references_are_in_no_split():
    faces = folds.assign([Face("a", None, 0, "x", "S1", role="neutral"), Face("b", None, 0, "x", "S1", role="peak"),
                          Face("c", None, 0, "x", "S2", role="peak"), Face("d", None, 0, "x", "S3")], 3, "set")
    assert [face.split for face in folds.split(faces, faces[0].fold, 3, pairs=True)][:2] == ["", "test"]
    assert [face.split for face in folds.split(faces, faces[0].fold, 3, pairs=False)][:2] == ["test", "test"]


def test_refused():
    with pytest.raises(UserError, match="set: 3 subjects, fewer than 4 folds"):
        folds.assign(faces_of([1, 1, 1]), 4, "set")
    with pytest.raises(UserError, match="set: x.png has no subject"):
        folds.assign([Face("x.png", None, 0, "a")], 2, "set")


def test_hold_out_takes_its_share_of_each_class_and_only_of_training():
    faces = [Face(f"{i}.png", None, i % 2, "ab"[i % 2], split="test" if i >= 80 else "train")
             for i in range(100)]
    held = folds.hold_out(faces, 0.1, seed=0)
    assert collections.Counter((face.split, face.label) for face in held) == {
        ("train", 0): 36, ("train", 1): 36, ("val", 0): 4, ("val", 1): 4, ("test", 0): 10, ("test", 1): 10}
    assert held == folds.hold_out(faces, 0.1, seed=0) != folds.hold_out(faces, 0.1, seed=1)


def test_hold_out_keeps_subjects_whole():
    faces = [face._replace(split="train") for face in faces_of([4] * 20)]
    parts = collections.defaultdict(set)
    for face in folds.hold_out(faces, 0.25, seed=0):
        parts[face.split].add(face.subject)
    assert len(parts["val"]) == 5 and not parts["val"] & parts["train"]


def test_the_fold_after_the_tested_one_is_for_validation():
    assigned = folds.assign(faces_of([1] * 10), 10, "set")
    for fold, following in ((1, 2), (3, 4), (9, 10), (10, 1)):
        parts = {face.fold: face.split for face in folds.split(assigned, fold, 10, pairs=False)}
        assert parts == {**{number: "train" for number in range(1, 11)}, fold: "test", following: "val"}


def test_hold_out_takes_the_number_that_is_nearest():
    faces = [Face(f"{number}.png", None, 0, "a", split="train") for number in range(10)]
    # 1.7 of 10 images are two, 1.3 one.
    for share, taken in ((0.17, 2), (0.13, 1)):
        assert sum(face.split == "val" for face in folds.hold_out(faces, share, 0)) == taken
