"""What every data set's module must have."""
import pytest

from data_prep import crops, datasets

ALL = [(name, key) for name in datasets.NAMES for key in datasets.module(name).PROTOCOLS]


@pytest.mark.parametrize("name, key", ALL)
def test_protocol(name, key):
    protocol = datasets.protocol("{}-{}".format(name, key))
    assert callable(datasets.module(name).read)
    assert protocol.registration in ("none", "template", "box") and protocol.unit in ("sequence", "image")
    assert len(set(protocol.classes)) == len(protocol.classes)
    parts = set(protocol.counts) <= {"train", "val", "test"}
    assert parts and not protocol.folds or set(protocol.counts) <= {"images", "units", "subjects"}
    assert not protocol.pairs or protocol.folds
    assert "-" not in key and protocol.crops in crops.SETS


def test_default_protocol_is_the_first():
    assert datasets.protocol("ckplus") == datasets.protocol("ckplus-xie2019a")
    assert datasets.protocol("oulu_casia-xie2019a_vl").folds == 10
