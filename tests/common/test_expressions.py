"""Spellings of expressions that data sets in circulation use."""
import pytest

from common import expressions


@pytest.mark.parametrize("spelling, name, label", [
    ("Anger", "angry", 0), ("angry", "angry", 0), ("Disgust", "disgust", 1), ("FEAR", "fear", 2),
    ("happiness", "happy", 3), ("Sadness", "sad", 4), ("surprised", "surprise", 5), ("Neutral", "neutral", 6),
    ("contempt", "contempt", None), ("Scream", "scream", None)])
def test_spellings(spelling, name, label):
    assert expressions.canonical(spelling) == name
    assert expressions.label(spelling) == label


def test_orders_of_class_labels():
    assert expressions.SEVEN[:6] == expressions.SIX == ("angry", "disgust", "fear", "happy", "sad", "surprise")
    assert expressions.SEVEN[6] == "neutral"
    assert expressions.SIX_AND_CONTEMPT == expressions.SIX + ("contempt",)
