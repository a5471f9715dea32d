"""Wall time of a training with adaptive loss weights against one with fixed weights, of the same length, on the same
data: [xie2019a] II-E has 3 for the alternative loss.

Of the toy net. Both look at the validation split once a round. Start-ups count, so few iterations show a ratio that is
too high.
"""
import dataclasses
import os

from bench import drawn, timing
from common import experiment
from tools.training import run
from tools.training.caffe_process import Engine

EXPERIMENT = "xie2019a/fer2013-toy-alaw"
SUBJECTS = 18


def measure(options) -> list[dict]:
    data = drawn.prepared(options.data, SUBJECTS, "whole", ("gsf", "sift"), options.cores)
    length, rounds = (5, 1) if options.quick else (100, 3)
    adaptive = experiment.load(EXPERIMENT, [f"weighting.restart_iterations={length}",
                                            f"weighting.rounds={rounds}"])
    solver = dict(adaptive.solver, test_interval=length, snapshot=length)
    adaptive = dataclasses.replace(adaptive, solver=solver)
    plain = dataclasses.replace(adaptive.one_training(), solver=dict(solver, max_iter=rounds * length))

    def train(chosen: experiment.Experiment, name: str) -> int:
        run.train(chosen, data, os.path.join(options.scratch, name), None, Engine(1), options.cores)
        return rounds * length
    return timing.rows(timing.in_turn({"fixed weights": lambda: train(plain, "plain"),
                                       "adaptive weights": lambda: train(adaptive, "adaptive")}, 1), "iterations")
