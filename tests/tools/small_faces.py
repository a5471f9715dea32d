"""A few synthetic faces of two classes, and a small net that is trained on them."""
import os

import cv2

from common import experiment
from common.expressions import SEVEN
from data_prep import prepare
from data_prep.datasets import synthetic
from tools.training import run
from tools.training.caffe_process import Engine

CLASSES = ("happy", "surprise")
COUNTS = {"train": 12, "val": 4, "test": 4}
SOFTMAX = ["solver.batch_size=4", "solver.max_iter=6", "solver.snapshot=6", "solver.test_interval=6",
           "solver.display=1"]


def source(root):
    """Draws the faces as root/<part>/<class>/<class><number>.png, and returns `root`. Each is a person of its own, from
    501 on."""
    subject = 500
    for part, count in COUNTS.items():
        for name in CLASSES:
            os.makedirs(os.path.join(root, part, name))
            for number in range(count):
                subject += 1
                drawn = synthetic.draw_face(subject, SEVEN.index(name), 4)[0]
                cv2.imwrite(os.path.join(root, part, name, f"{name}{number}.png"), drawn)
    return root


def trained(folder, faces):
    """A finished run in folder/run; faces: what `source` returned."""
    prepare.prepare(prepare.Settings("folder", faces, features=[]), os.path.join(folder, "data"), 1)
    return run.train(experiment.load("xie2019a/fer2013-toy-softmax", SOFTMAX), os.path.join(folder, "data"),
                     os.path.join(folder, "run"), None, Engine(1))
