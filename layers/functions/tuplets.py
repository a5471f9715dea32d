"""Draws the images of the tuplets of [liu2017], Sections 3 and 5.2."""
import collections
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from numpy.random import RandomState


class Sampler(NamedTuple):
    """Draws the tuplets of a set of images. An image is its index in the set."""

    # (images,) class index of each image.
    labels: np.ndarray
    # (images,) number of each image's subject.
    subjects: np.ndarray
    # Class -> its images.
    class_images: Dict[int, np.ndarray]
    # (subject, class) -> the images of the subject with this class.
    subject_images: Dict[Tuple[int, int], np.ndarray]
    # M, the number of positives of a tuplet, including the query.
    positives: int
    # N, the number of negatives of a tuplet.
    negatives: int

    def draw(self, query: int, random: RandomState) -> List[int]:
        """The M + N images of a query's tuplet, the query first.

        The other positives are images of the query's class and of other subjects. The negatives are taken from each
        other class in turn. They are images of the query's subject. If this subject has too few images of the class,
        images of the positives' subjects follow. If these subjects have none, the query's subject repeats its own. If
        no such image exists, any subject is allowed. No image is drawn twice if there are enough images.
        """
        label, subject = self.labels[query], self.subjects[query]
        members = self.class_images[label]
        tuplet = [query] + _some(members[self.subjects[members] != subject], self.positives - 1, random)
        subjects = [subject] + list(dict.fromkeys(self.subjects[tuplet[1:]]))
        classes = [other for other in self.class_images if other != label]
        turns = np.resize(random.permutation(classes), self.negatives)
        for other, count in collections.Counter(turns).items():
            tuplet += self._negatives(other, subjects, count, random)
        return tuplet

    def _negatives(self, label: int, subjects: Sequence[int], count: int, random: RandomState) -> List[int]:
        """`count` images of a class: first of subjects[0], the query's, then of the positives' subjects."""
        own = self.subject_images.get((subjects[0], label), np.empty(0, int))
        images = _some(own, min(count, len(own)), random)
        if len(images) == count:
            return images
        others = [self.subject_images[subject, label] for subject in subjects[1:]
                  if (subject, label) in self.subject_images]
        pool = np.concatenate(others) if others else own if images else self.class_images[label]
        return images + _some(pool, count - len(images), random)


def sampler(labels: Sequence[int], subjects: Sequence[str], positives: int, negatives: int) -> Sampler:
    """The sampler of images with these labels (class indices) and subjects (names).

    Raises ValueError if an image has no subject, if there is only one class, or if there are several positives and a
    class has only one subject.
    """
    without = sum(not subject for subject in subjects)
    if without:
        raise ValueError(f"{without} of {len(subjects)} images have no subject, but tuplets need subjects: the "
                         "negatives of a query are other expressions of the same subject, its positives are of other "
                         "subjects; `./fer prepare ... --subjects TABLE.csv` reads them from a CSV (path,subject)")
    classes = np.asarray(labels)
    numbers = np.unique(subjects, return_inverse=True)[1]
    class_images, subject_images = _groups(classes.tolist()), _groups(list(zip(numbers.tolist(), classes.tolist())))
    if len(class_images) < 2:
        raise ValueError("all images are of class {}, so there are no negatives".format(*class_images))
    for label, members in class_images.items():
        if positives > 1 and len(set(numbers[members])) < 2:
            raise ValueError(f"all images of class {label} are of subject {subjects[members[0]]}, but positives must "
                             "be of other subjects")
    return Sampler(classes, numbers, class_images, subject_images, positives, negatives)


def _groups(keys: Sequence) -> dict:
    """Key -> its indices in `keys`. The keys are sorted."""
    indices = collections.defaultdict(list)
    for index, key in enumerate(keys):
        indices[key].append(index)
    return {key: np.array(indices[key]) for key in sorted(indices)}


def _some(pool: np.ndarray, count: int, random: RandomState) -> List[int]:
    """`count` random images of the pool. They are different if there are enough; else the whole pool is repeated."""
    if count >= len(pool):
        return np.resize(random.permutation(pool), count).tolist()
    # RandomState.choice would shuffle the whole pool, which may be large.
    picked: Dict[int, None] = {}
    while len(picked) < count:
        picked.setdefault(random.randint(len(pool)))
    return pool[list(picked)].tolist()
