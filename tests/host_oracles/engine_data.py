"""The part of test_engine.py that runs inside the environment. It writes a folder with small data of faces, and the net
and the solver of an experiment on them."""
import os
import pathlib
import re
import sys

from common.experiment import ROOT
from tests import small_data

EXPERIMENT = "xie2019a/fer2013-toy-center-gabor"
ITERATIONS = 10


def main(folder):
    data = small_data.prepared(folder)
    definitions = pathlib.Path(ROOT, "prototxt", EXPERIMENT)
    net = (definitions / "train_val.prototxt").read_text()
    net = re.sub('"batch_size": [0-9]+', '"batch_size": 8', net.replace("data/fer2013", data))
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.005 lr_policy: "fixed" momentum: 0.8 weight_decay: 0.0005 display: 1\n'
        f'max_iter: {ITERATIONS} test_iter: 1 test_interval: 5 random_seed: 1 solver_mode: CPU\n'
        f'snapshot_prefix: "trained"\n')
    start = (folder / "solver.prototxt").read_text().replace(str(ITERATIONS), "0").replace("trained", "start")
    (folder / "start.prototxt").write_text(start)


if __name__ == "__main__":
    os.chdir(ROOT)
    main(pathlib.Path(sys.argv[1]))
