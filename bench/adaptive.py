"""Wall time of a training with adaptive loss weights, compared with a training with fixed weights, on both engines.

All train the toy net on the same data for the same number of iterations, and evaluate the validation split once a
round. [xie2019a] Section II-E reports a ratio of 3 for the alternative loss. The times include the start of the
processes, so few iterations give a ratio that is too high.
"""
import dataclasses
import functools
import os
import tempfile
from typing import Callable

from bench import drawn, timing
from common import experiment
from common.machine import ENGINES, Device
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
    fixed = dataclasses.replace(adaptive.one_training(), solver=dict(solver, max_iter=rounds * length))

    def train(settings: experiment.Experiment, engine: str, processes: int) -> int:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            run.train(settings, data, os.path.join(folder, "run"), None, Engine(1, Device(engine)), processes)
        return rounds * length
    rows = []
    for engine in ENGINES:
        works: dict[str, Callable[[], float]] = {
            "fixed weights": functools.partial(train, fixed, engine, 1),
            "adaptive weights": functools.partial(train, adaptive, engine, 1),
            "adaptive weights, trials side by side": functools.partial(train, adaptive, engine, 2)}
        rows += [{"engine": engine, **row} for row in timing.rows(timing.in_turn(works, 1), "iterations")]
    return rows
