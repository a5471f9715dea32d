"""Close matches of a name that does not exist."""
import pytest

from common import experiment, suggestions


@pytest.mark.parametrize("name, wanted", (
    ("xie2019a/fer2013-toy-sofmax", "xie2019a/fer2013-toy-softmax"),
    ("fer2013-toy-softmax", "xie2019a/fer2013-toy-softmax"),
    ("XIE2019A/FER2013-ALAW", "xie2019a/fer2013-alaw"),
    ("wu2023/raf-db-spndl-without-neutral", "wu2023/raf_db-spndl-without-neutral")))
def test_the_closest_experiment_comes_first(name, wanted):
    assert suggestions.close(name, experiment.names())[0] == wanted


@pytest.mark.parametrize("name, names, said", (
    ("trian", ["train", "test"], "there is no command 'trian'; did you mean train?"),
    ("ratio", ["ratios", "cart", "ration"], "there is no command 'ratio'; did you mean ratios or ration?"),
    ("axes", ["axes1", "axes23", "axes456", "axes7890"],
     "there is no command 'axes'; did you mean axes1, axes23 or axes456?"),
    ("zzz", ["ratio", "cart"], "there is no command 'zzz'; expected one of ratio, cart"),
    ("zzz", [f"word{number}" for number in range(99)], "there is no command 'zzz'; `list` lists them")))
def test_message(name, names, said):
    message = suggestions.unknown("command", name, names, "`list` lists them")
    assert message == said


def test_the_first_ones_of_many():
    assert suggestions.first(["a", "b"], 2) == "a, b" and suggestions.first(["a", "b", "c"], 2) == "a, b, ..."
    assert suggestions.first([], 2) == ""
