"""What every data set's module must have."""
import pytest

from common import experiment
from data_prep import crops, datasets

ALL = [(name, key) for name in datasets.NAMES for key in datasets.module(name).PROTOCOLS]


@pytest.mark.parametrize("name, key", ALL)
def test_protocol(name, key):
    protocol = datasets.protocol(f"{name}-{key}")
    assert callable(datasets.module(name).read)
    assert protocol.registration in ("none", "template", "box") and protocol.unit in ("sequence", "image")
    assert len(set(protocol.classes)) == len(protocol.classes)
    parts = set(protocol.counts) <= {"train", "val", "test"}
    assert parts and not protocol.folds or set(protocol.counts) <= {"images", "units", "subjects"}
    assert not protocol.pairs or protocol.folds
    assert "-" not in key and protocol.crops in crops.SETS


def test_features_are_those_that_the_experiments_take():
    """As [xie2019a] II-B prints them: blocks of 80x80 pixels on 227x227."""
    taken = {}
    for one in map(experiment.load, experiment.names()):
        taken.setdefault(one.data, set()).update(set(one.losses) & {"gabor", "gsf", "sift"})
    for name, key in ALL:
        data, protocol = f"{name}-{key}", datasets.protocol(f"{name}-{key}")
        if key.startswith("xie2019a") and name != "synthetic":
            # GABOR by itself is in Table II too.
            assert set(protocol.features) == taken[data] and protocol.geometry == "literal", data
        elif key != "plain":
            assert protocol.features == (), data


@pytest.mark.parametrize("name, key, validation", [
    # "The other nine folds are used for the training", 3.1.
    ("ckplus", "xie2019b", "none"), ("oulu_casia", "xie2019b", "none"), ("mmi", "xie2019b", "none"),
    # "A 10-fold subject-independent cross-validation", 4.1, and no word of a validation split.
    ("ckplus", "wu2023", "none"), ("oulu_casia", "wu2023", "none"),
    # "Eight and one groups are used as the training and validation datasets", III-A.
    ("ckplus", "xie2019a", "fold"), ("oulu_casia", "xie2019a", "fold"), ("oulu_casia", "xie2019a_vl", "fold"),
    ("mmi", "xie2019a", "fold"),
    # "6 subsets is used for training and the others are used for validation and testing", 6.1.
    ("ckplus", "liu2017", "fold")])
def test_validation_is_as_the_paper_has_it(name, key, validation):
    assert datasets.protocol(f"{name}-{key}").validation == validation


def test_default_protocol_is_the_first():
    assert datasets.protocol("ckplus") == datasets.protocol("ckplus-xie2019a")
    assert datasets.protocol("oulu_casia-xie2019a_vl").folds == 10
