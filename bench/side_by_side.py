"""Independent trainings side by side with one BLAS thread each, compared with one after the other.

Folds, seeds and trials of adaptive weights are such trainings. One after the other, they use one thread for each core,
or one thread. The first two rows show what more threads gain for a single training.
"""
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import drawn, timing
from common import experiment
from common.machine import DEFAULT
from tools.training import groups

SUBJECTS = 6


@dataclass(frozen=True)
class Case:
    """A net to train, and its data."""

    # Name of the experiment.
    experiment: str
    # The data's crops, as `--crops` names them.
    crops: str
    # The data's handcrafted features.
    features: Sequence[str]
    # Batch size of each training.
    batch: int
    # Number of iterations of each training.
    iterations: int


CASES = {"toy": Case("xie2019a/fer2013-toy-softmax", "whole", ("gsf", "sift"), 64, 60),
         "inception": Case("liu2017/fer2013-softmax", "liu2017", (), 32, 24),
         "ResNet-18": Case("farzaneh2021/raf_db-softmax", "farzaneh2021", (), 8, 8)}


def measure(options) -> Iterator[dict]:
    for name in ["toy"] if options.quick else CASES:
        case = CASES[name]
        data = drawn.prepared(options.data, SUBJECTS, case.crops, case.features, options.cores)
        iterations = 2 if options.quick else case.iterations
        settings = experiment.load(case.experiment, experiment.applicable(case.experiment, [
            f"solver.batch_size={case.batch}", f"solver.max_iter={iterations}",
            f"solver.snapshot={iterations}", f"solver.test_interval={iterations + 1}"]))
        settings = dataclasses.replace(settings, halving={})

        def train(threads: int, processes: int, settings=settings, data=data) -> int:
            with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
                groups.train(settings, data, os.path.join(folder, "run"), None, range(1, options.cores + 1), threads,
                             DEFAULT, processes)
            return options.cores * settings.solver["max_iter"]
        took = timing.in_turn({
            f"one after the other, {options.cores} threads": lambda: train(options.cores, 1),
            "one after the other, 1 thread": lambda: train(1, 1),
            "side by side, 1 thread each": lambda: train(1, options.cores)}, 1 if options.quick else 3)
        yield from (dict({"net": name}, **row) for row in timing.rows(took, "iterations"))
