"""The data of the benchmarks: synthetic faces, which are drawn and prepared once and stay in a folder."""
import os
from collections.abc import Sequence

import cv2

from common import children, files
from common.expressions import SEVEN
from data_prep import prepare
from data_prep.datasets import synthetic

# Number of frames of a drawn sequence. Only the last one, the apex, is used.
FRAMES = 5
KIND = "synthetic faces"


def faces(cache: str, subjects: int, processes: int) -> str:
    """The folder of the faces. It has faces/<split>/<class>/S001.png ..., seven images of each subject, and
    subjects.csv, with the path and subject of each image. It is made if it is missing."""
    folder = os.path.join(cache, f"faces-{subjects}")
    if not os.path.exists(folder):
        partial = files.hidden(folder, "partial")
        files.remove(partial)
        files.claim(partial, KIND)
        jobs = [(partial, subject, subjects) for subject in range(subjects)]
        lines = [line for lines in children.in_order(processes, lambda: None, (), _draw, jobs) for line in lines]
        files.write_text(os.path.join(partial, "subjects.csv"), "path,subject\n" + "".join(lines))
        os.rename(partial, folder)
    return folder


def _draw(job: tuple[str, int, int]) -> Sequence[str]:
    """Draws the images of a subject, and returns their lines of subjects.csv. job: folder, subject, subjects."""
    folder, subject, subjects = job
    name, split, lines = f"S{subject + 1:03d}", synthetic.split_of(subject, subjects), []
    for expression, class_name in enumerate(SEVEN):
        path = os.path.join(split, class_name, name + ".png")
        os.makedirs(os.path.join(folder, "faces", os.path.dirname(path)), exist_ok=True)
        image, _ = synthetic.draw_face(subject, expression, FRAMES - 1, FRAMES)
        cv2.imwrite(os.path.join(folder, "faces", path), image, synthetic.PNG)
        lines.append(f"{path},{name}\n")
    return lines


def settings(faces_folder: str, crops: str, features: Sequence[str]) -> prepare.Settings:
    """Settings to prepare a folder that `faces` made, with these crops and handcrafted features."""
    return prepare.Settings("folder", os.path.join(faces_folder, "faces"), crops=crops, features=list(features),
                            subjects=os.path.join(faces_folder, "subjects.csv"))


def prepared(cache: str, subjects: int, crops: str, features: Sequence[str], processes: int) -> str:
    """The prepared folder of `faces`, with these crops and handcrafted features. It is made if it is missing."""
    out = os.path.join(cache, "-".join([crops, *features, str(subjects)]))
    prepare.prepare(settings(faces(cache, subjects, processes), crops, features), out, processes)
    return out
