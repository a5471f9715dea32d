"""Which images a tuplet of [liu2017] holds, Sections 3 and 5.2."""
from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState


@dataclass(frozen=True)
class Sampler:
    """Draws the tuplets of a set of images. An image is its index in the set."""

    # (images,) class index of each image.
    labels: np.ndarray
    # (images,) number of each image's subject.
    subjects: np.ndarray
    # Class -> its images.
    of_class: dict[int, np.ndarray]
    # (subject, class) -> their images.
    of_both: dict[tuple[int, int], np.ndarray]
    # M, with the query.
    positives: int
    # N.
    negatives: int

    def draw(self, query: int, random: RandomState) -> list[int]:
        """The M + N images of a query's tuplet, itself first.

        Positives: of its class and of other subjects. Negatives: of each other class in turn, of the query's own
        subject; where it lacks the class, of the positives' subjects; where they do too, of anyone. No image comes
        twice where there are enough.
        """
        label, subject = self.labels[query], self.subjects[query]
        members = self.of_class[label]
        chosen = [query] + _some(members[self.subjects[members] != subject], self.positives - 1, random)
        near = [subject] + list(dict.fromkeys(self.subjects[chosen[1:]]))
        others = [other for other in self.of_class if other != label]
        turns = np.resize(random.permutation(others), self.negatives)
        for other, count in collections.Counter(turns).items():
            chosen += self._of_class(other, near, count, random)
        return chosen

    def _of_class(self, label: int, near: Sequence[int], count: int, random: RandomState) -> list[int]:
        """count images of a class: of the subject near[0], then of the others in near."""
        own = self.of_both.get((near[0], label), np.empty(0, int))
        taken = _some(own, min(count, len(own)), random)
        if len(taken) == count:
            return taken
        theirs = [self.of_both[other, label] for other in near[1:] if (other, label) in self.of_both]
        pool = np.concatenate(theirs) if theirs else own if taken else self.of_class[label]
        return taken + _some(pool, count - len(taken), random)


def sampler(labels: Sequence[int], subjects: Sequence[str], positives: int, negatives: int) -> Sampler:
    """Of images with these labels and subjects.

    Raises ValueError where images have no subject, there is one class only, or a class has one subject only.
    """
    without = sum(not subject for subject in subjects)
    if without:
        raise ValueError(f"{without} of {len(subjects)} images have no subject, which tuplets need: a query's "
                         "negatives are other "
                         "expressions of its own subject, its positives are of other subjects")
    classes = np.asarray(labels)
    numbers = np.unique(subjects, return_inverse=True)[1]
    of_class, of_both = _groups(classes.tolist()), _groups(list(zip(numbers.tolist(), classes.tolist())))
    if len(of_class) < 2:
        raise ValueError("all images are of class {}, so there are no negatives".format(*of_class))
    for label, members in of_class.items():
        if positives > 1 and len(set(numbers[members])) < 2:
            raise ValueError(f"all images of class {label} are of subject {subjects[members[0]]}, but positives are "
                             "of other subjects")
    return Sampler(classes, numbers, of_class, of_both, positives, negatives)


def _groups(keys: Sequence) -> dict:
    """Key -> its places, in the order of the keys."""
    places = collections.defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return {key: np.array(places[key]) for key in sorted(places)}


def _some(pool: np.ndarray, count: int, random: RandomState) -> list[int]:
    """count of the pool at random, all different where there are enough, else all of them and some again."""
    if count >= len(pool):
        return np.resize(random.permutation(pool), count).tolist()
    # Unlike RandomState.choice, this does not shuffle the whole of a large pool.
    picked: dict[int, None] = {}
    while len(picked) < count:
        picked.setdefault(random.randint(len(pool)))
    return pool[list(picked)].tolist()
