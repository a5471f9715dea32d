"""One module per data set; each returns the same `manifest.Dataset`.

A module has CLASSES (names in label order), COUNTS (split -> published number of images) and
read(source, folder, processes) -> Dataset; a data set that is drawn, not read, puts its images into `folder`.
"""
import importlib

NAMES = ("fer2013", "synthetic")


def module(name: str):
    return importlib.import_module("data_prep.datasets." + name)
