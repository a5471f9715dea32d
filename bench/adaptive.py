"""Wall time of a training with adaptive loss weights against one with fixed weights, of the same length, on the same
data: [xie2019a] II-E has 3 for the alternative loss.

    ./fer python -m bench.adaptive xie2019a/fer2013-toy-alaw --data data/fer2013
    ./fer python -m bench.adaptive xie2019a/fer2013-alaw --data data/fer2013-xie2019a --set solver.batch_size=16 \\
        --set weighting.restart_iterations=20 --set weighting.rounds=1

Both look at the validation part once a round. Start-ups count, so few iterations show a ratio that is too high.
"""
import argparse
import os
import tempfile
import time

from data_prep import prepare
from prototxt import experiment
from tools import run
from tools.segments import Engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--data", required=True)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    adaptive = experiment.load(options.experiment, options.set)
    length = adaptive.weighting["restart_iterations"]
    solver = dict(adaptive.solver, test_interval=length, snapshot=length)
    adaptive = adaptive._replace(solver=solver)
    plain = adaptive.weighted()._replace(solver=dict(solver, max_iter=adaptive.iterations))
    cores = len(os.sched_getaffinity(0))
    print("{} iterations in {} rounds, {} validation records a round".format(
        adaptive.iterations, adaptive.weighting["rounds"], prepare.read_note(options.data)["records"]["val"]))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as folder:
        fixed = seconds(plain, options.data, os.path.join(folder, "plain"), cores)
        print("fixed weights    {:8.1f} s".format(fixed))
        changing = seconds(adaptive, options.data, os.path.join(folder, "adaptive"), cores)
        print("adaptive weights {:8.1f} s, {:.2f} times as long".format(changing, changing / fixed))


def seconds(chosen: experiment.Experiment, data: str, folder: str, cores: int) -> float:
    began = time.time()
    run.train(chosen, data, folder, None, Engine(cores), cores)
    return time.time() - began


if __name__ == "__main__":
    main()
