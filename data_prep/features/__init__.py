"""Handcrafted features of [xie2019a] II-B."""
import numpy as np

from data_prep.features import gabor

NAMES = ("gabor",)
SETTINGS = {"compact": None}
DEFAULT = "compact"
PROJECTED = ()
Projection = None


def length(name, classes):
    return gabor.LENGTH


class Extractor:
    def __init__(self, names, setting, side):
        pass

    def describe(self, region, windows):
        return {"gabor": np.stack([gabor.extract(window.cut(region)) for window in windows])}
