"""What the measurements are of: synthetic faces, kept in a folder and drawn or prepared once."""
import os
from collections.abc import Sequence

import cv2

from common import children, files
from common.expressions import SEVEN
from data_prep import prepare
from data_prep.datasets import synthetic

FRAMES = 5
KIND = "synthetic faces"


def faces(cache: str, subjects: int, processes: int) -> str:
    """Folder with faces/<part>/<class>/S001.png ... of so many subjects, seven each, and subjects.csv: who is who."""
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


def _draw(job) -> Sequence[str]:
    folder, subject, subjects = job
    name, part, lines = f"S{subject + 1:03d}", synthetic.split_of(subject, subjects), []
    for expression, class_name in enumerate(SEVEN):
        path = os.path.join(part, class_name, name + ".png")
        os.makedirs(os.path.join(folder, "faces", os.path.dirname(path)), exist_ok=True)
        image, _ = synthetic.draw_face(subject, expression, FRAMES - 1, FRAMES)
        cv2.imwrite(os.path.join(folder, "faces", path), image, synthetic.PNG)
        lines.append(f"{path},{name}\n")
    return lines


def settings(drawn: str, crops: str, features: Sequence[str]) -> prepare.Settings:
    """Of a preparation of `faces`."""
    return prepare.Settings("folder", os.path.join(drawn, "faces"), crops=crops, features=list(features),
                            subjects=os.path.join(drawn, "subjects.csv"))


def prepared(cache: str, subjects: int, crops: str, features: Sequence[str], processes: int) -> str:
    """A prepared folder of `faces`, with these crops and features."""
    out = os.path.join(cache, "-".join([crops, *features, str(subjects)]))
    prepare.prepare(settings(faces(cache, subjects, processes), crops, features), out, processes)
    return out
