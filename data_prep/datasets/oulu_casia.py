"""Oulu-CASIA NIR&VIS (Zhao et al., 2011): 80 subjects with six sequences each, from a neutral face to the peak.

Filmed in near infrared (NI) and visible light (VL), in Strong, Weak and Dark illumination.
"""
import os
from dataclasses import replace

from common.expressions import SIX
from data_prep.datasets import Protocol, trees
from data_prep.manifest import Dataset, Face

XIE = Protocol(SIX, {"images": 1440, "units": 480, "subjects": 80}, "template", "xie2019a", folds=10,
               features=("gsf", "sift"), geometry="literal", template="ckplus")
SPARSE = replace(XIE, crops="xie2019b-oulu", features=(), validation="none")
PROTOCOLS = {
    "xie2019a": XIE,
    "xie2019a_vl": XIE,
    "xie2019b": SPARSE,
    "xie2019b_whole": replace(SPARSE, folds=0),
    "wu2023": Protocol(SIX, {"images": 1440, "subjects": 80}, "box", "wu2023", folds=10, pairs=True,
                       unit="image", validation="none")}
# [xie2019a] II-B and Table XI, [xie2019b] 3.1, [wu2023] 4.1.
CONDITIONS = {"xie2019a": "NI/Strong", "xie2019a_vl": "VL/Strong", "xie2019b": "NI/Strong",
              "xie2019b_whole": "NI/Strong", "wu2023": "VL/Strong"}
NESTINGS = ("", "OriginalImg", "B_OriginalImg", "B_OriginalImg/OriginalImg")


def read(source: str, protocol: str, folder: str, processes: int) -> Dataset:
    """source: the folder that holds `NI` and `VL`, with <illumination>/P001/Anger/000.jpeg below them.

    The samples are the last three frames of each sequence. In pairs, its first frame is its neutral reference. Raises
    UserError on a missing condition, an unknown expression, and a sequence of too few frames.
    """
    settings = PROTOCOLS[protocol]
    root = trees.find(source, *(os.path.join(nesting, CONDITIONS[protocol]) for nesting in NESTINGS))
    faces: list[Face] = []
    for subject in trees.folders(source, root):
        for name in trees.folders(source, os.path.join(root, subject)):
            path = os.path.join(root, subject, name)
            class_name = trees.expression(source, path, settings.classes)
            like = Face("", None, settings.classes.index(class_name), class_name, subject,
                        f"{subject}_{class_name}")
            faces += trees.peak_faces(source, path, settings.pairs, like)
    return trees.dataset("oulu_casia", settings.classes, source, faces, root + "/P001/Anger/000.jpeg")
