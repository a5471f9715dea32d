"""Which images a tuplet holds: properties over a whole pass, and hand-made sets where something is missing."""
import collections

import numpy as np
import pytest
from numpy.random import RandomState

from layers.functions import tuplets

CLASSES, SUBJECTS, FRAMES = 7, 9, 3


def complete():
    """Each subject shows each expression in three images."""
    return [(label, f"S{subject}") for subject in range(SUBJECTS) for label in range(CLASSES)
            for _ in range(FRAMES)]


def with_gaps(seed=0):
    """As CK+: a subject shows some of the expressions."""
    random = RandomState(seed)
    return [face for face in complete() if RandomState((face[0], int(face[1][1:]))).rand() < 0.5
            or random.rand() < 0.1]


def drawn(faces, positives=6, negatives=6, seed=0):
    labels, subjects = zip(*faces)
    sampler = tuplets.sampler(labels, subjects, positives, negatives)
    return [sampler.draw(query, RandomState((seed, query))) for query in range(len(faces))]


@pytest.mark.parametrize("faces", [complete(), with_gaps()])
@pytest.mark.parametrize("positives, negatives", [(6, 6), (5, 5), (3, 3), (1, 1), (2, 9), (4, 13)])
def test_properties_of_every_tuplet(faces, positives, negatives):
    shown = collections.defaultdict(set)
    for label, subject in faces:
        shown[subject].add(label)
    filled = 0
    for query, chosen in enumerate(drawn(faces, positives, negatives)):
        label, subject = faces[query]
        own, others = chosen[:positives], chosen[positives:]
        assert own[0] == query and len(own) == positives and len(others) == negatives
        assert all(faces[image][0] == label and faces[image][1] != subject for image in own[1:])
        assert all(faces[image][0] != label for image in others)
        allowed = {subject} | {faces[image][1] for image in own[1:]}
        for image in others:
            other, whose = faces[image]
            if whose == subject:
                continue
            filled += 1
            if any(other in shown[one] for one in allowed):
                assert whose in allowed
            if negatives <= CLASSES - 1:
                assert other not in shown[subject]
        # Each other class as often as any other.
        counts = [sum(faces[image][0] == other for image in others) for other in {face[0] for face in faces} - {label}]
        assert max(counts) - min(counts) <= 1
    assert (filled > 0) == (faces != complete() or negatives > 3 * (CLASSES - 1))


def test_no_image_twice_where_there_are_enough():
    for chosen in drawn(complete()):
        assert len(set(chosen)) == 12


def test_missing_expressions_are_the_positives_subjects():
    # b lacks class 1, and of the subjects that show class 0 a alone has it; c has class 1, but not class 0.
    faces = [(0, "a"), (1, "a"), (0, "b"), (1, "c")]
    assert drawn(faces, 2, 1) == [[0, 2, 1], [1, 3, 0], [2, 0, 1], [3, 1, 0]]


def test_what_no_positives_subject_shows_is_anyones():
    faces = [(0, "a"), (0, "b"), (1, "c"), (1, "d")]
    for query, chosen in enumerate(drawn(faces, 2, 1)):
        assert chosen[:2] == [query, query ^ 1] and faces[chosen[2]][0] != faces[query][0]


def test_too_few_positives_come_again_after_all_have_come():
    faces = [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b")]
    for seed in range(5):
        chosen = drawn(faces, 6, 1, seed)[0]
        assert collections.Counter(chosen[1:6]) in ({1: 3, 2: 2}, {1: 2, 2: 3})


def test_every_other_subject_and_own_negative_is_drawn_equally():
    faces = complete()
    sampler = tuplets.sampler(*zip(*faces), 6, 6)
    counts, negatives = collections.Counter(), collections.Counter()
    for number in range(2000):
        chosen = sampler.draw(0, RandomState(number))
        counts.update(faces[image][1] for image in chosen[1:6])
        negatives.update(chosen[6:])
    assert len(counts) == SUBJECTS - 1 and len(negatives) == (CLASSES - 1) * FRAMES
    np.testing.assert_allclose(list(counts.values()), 10000 / 8, rtol=0.1)
    np.testing.assert_allclose(list(negatives.values()), 2000 / 3, rtol=0.1)


@pytest.mark.parametrize("faces, said", [
    ([(0, "a"), (1, ""), (0, "")], "2 of 3 images have no subject, but tuplets need subjects"),
    ([(4, "a"), (4, "b")], "all images are of class 4, so there are no negatives"),
    ([(0, "a"), (0, "b"), (1, "b"), (1, "b")],
     "all images of class 1 are of subject b, but positives must be of other subjects")])
def test_what_cannot_be_is_named(faces, said):
    with pytest.raises(ValueError) as error:
        tuplets.sampler(*zip(*faces), 2, 1)
    assert said in str(error.value)


def test_one_positive_needs_no_other_subject():
    assert drawn([(0, "a"), (1, "a")], 1, 1) == [[0, 1], [1, 0]]
