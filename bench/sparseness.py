"""Accuracy and sparseness of the methods of [xie2019b] with the toy net: mean and standard deviation over the seeds.

    ./fer prepare synthetic --out data/synthetic
    ./fer python -m bench.sparseness --data data/synthetic --out runs/sparseness
    ./fer python -m bench.sparseness --data data/synthetic --out runs/weight-1e-2 --methods l2 l1 \\
        --set losses.sparse_x.weight=1e-2

The trainings are runs of `./fer train` in OUT/<method>/seed01 ... After an interruption, the same command continues
them. The last three columns are measured on the test split. "near zero" is the share of the components of x whose
magnitude is below a hundredth of the largest one. "|x|_1" is |x|_1 / (sqrt(D) |x|_2): it is 1/sqrt(D) if only one
component is not 0, and 1 if all have the same magnitude. "|x|_2" is the mean L2 norm.
"""
import argparse
import os

import numpy as np

from common import experiment
from common.machine import DEFAULT
from data_prep import prepared_folder
from tools.analysis import sparseness
from tools.evaluation import evaluate
from tools.training import groups

METHODS = ("softmax", "dropout", "center", "l2", "l1", "center-l2", "w-l2", "v-l2", "hidden-l2")
FORMATS = {"val": "{:.2f}", "test": "{:.2f}", "near zero": "{:.3f}", "|x|_1": "{:.3f}", "|x|_2": "{:.2f}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="The prepared folder of fer2013 or synthetic, 48x48.")
    parser.add_argument("--out", required=True, help="The folder of the runs.")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="Methods of the experiments "
                        "xie2019b/<data set>-toy-<method> (default: all).")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="The seeds (default: 1 2 3).")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)),
                        help="How many trainings run side by side (default: one per core).")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="Change a setting of the methods that have it.")
    options = parser.parse_args()
    data_set = prepared_folder.read_note(options.data)["asked"]["dataset"]
    print("".join(["".ljust(36)] + [name.rjust(18) for name in FORMATS]), flush=True)
    for method in options.methods:
        name = f"xie2019b/{data_set}-toy-{method}"
        settings = experiment.load(name, experiment.applicable(name, options.set))
        group = groups.train(settings, options.data, os.path.join(options.out, method), None, options.seeds, 1,
                             DEFAULT, options.processes)
        print(line(settings.title, [measure(run) for run in groups.runs(group)]), flush=True)


def measure(run) -> dict[str, float]:
    """Column -> value of a run."""
    measures = sparseness.of_run(run, "test")
    accuracies = {split: 100 * evaluate.evaluate(run, split)["accuracy"] for split in ("val", "test")}
    return dict(accuracies, **{"near zero": measures["near_zero"], "|x|_1": measures["l1"], "|x|_2": measures["norm"]})


def line(title: str, runs: list[dict[str, float]]) -> str:
    """A line of the table: mean and standard deviation of each column over the runs."""
    cells = [title.ljust(36)]
    for name, form in FORMATS.items():
        values = [columns[name] for columns in runs]
        cells.append(f"{form} ± {form}".format(
            np.mean(values), np.std(values, ddof=len(values) > 1)).rjust(18))
    return "".join(cells)


if __name__ == "__main__":
    main()
