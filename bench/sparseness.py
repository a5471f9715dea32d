"""Accuracy and sparseness of what [xie2019b] compares, with the toy net: mean and standard deviation over seeds.

    ./fer prepare synthetic --out data/synthetic
    ./fer python -m bench.sparseness --data data/synthetic --out runs/sparseness
    ./fer python -m bench.sparseness --data data/synthetic --out runs/weight-1e-2 --methods l2 l1 \\
        --set losses.sparse_x.weight=1e-2

The trainings are runs of `./fer train` in OUT/<method>/seed01 ...; the same command goes on with them. Near zero: share
of the components of x below a hundredth of the largest one; |x|_1: over sqrt(D) |x|_2, from 1/sqrt(D), one component
alone, to 1; |x|_2: mean. All three are of the test split.
"""
import argparse
import os

import numpy as np

from common import experiment
from data_prep import prepared_folder
from tools.analysis import sparseness
from tools.evaluation import evaluate
from tools.training import groups

METHODS = ("softmax", "dropout", "center", "l2", "l1", "center-l2", "w-l2", "v-l2", "hidden-l2")
FORMATS = {"val": "{:.2f}", "test": "{:.2f}", "near zero": "{:.3f}", "|x|_1": "{:.3f}", "|x|_2": "{:.2f}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="prepared folder of fer2013 or synthetic, 48x48")
    parser.add_argument("--out", required=True)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="of xie2019b/<data set>-toy-<method>")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="change a setting of those methods that have it")
    options = parser.parse_args()
    data_set = prepared_folder.read_note(options.data)["asked"]["dataset"]
    print("".join(["".ljust(36)] + [name.rjust(18) for name in FORMATS]), flush=True)
    for method in options.methods:
        name = f"xie2019b/{data_set}-toy-{method}"
        chosen = experiment.load(name, experiment.applicable(name, options.set))
        trained = groups.train(chosen, options.data, os.path.join(options.out, method), None, options.seeds, 1, None,
                               options.processes)
        print(line(chosen.title, [measure(run) for run in groups.runs(trained)]), flush=True)


def measure(run) -> dict[str, float]:
    """Column -> value."""
    found = sparseness.of_run(run, "test")
    accuracies = {split: 100 * evaluate.evaluate(run, split)["accuracy"] for split in ("val", "test")}
    return dict(accuracies, **{"near zero": found["near_zero"], "|x|_1": found["l1"], "|x|_2": found["norm"]})


def line(title: str, measured: list[dict[str, float]]) -> str:
    cells = [title.ljust(36)]
    for name, form in FORMATS.items():
        values = [one[name] for one in measured]
        cells.append(f"{form} +- {form}".format(
            np.mean(values), np.std(values, ddof=len(values) > 1)).rjust(18))
    return "".join(cells)


if __name__ == "__main__":
    main()
