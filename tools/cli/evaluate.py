"""`./fer evaluate`: the accuracy of trained nets."""
import argparse
import os

from common.errors import UserError
from tools.cli.arguments import Commands, add_device, add_several, path
from tools.training import snapshots

SPLITS = ("train", "val", "test")


def add(commands: Commands) -> None:
    command = commands.add(
        "evaluate", run, "Evaluate a trained run, or a group of folds or seeds. The crops of an image, and the images "
        "of a sequence, vote on its class. The results are written to metrics.json in the folder of the run, and those "
        "of RUN@500 to metrics@500.json.",
        "evaluate runs/softmax", "evaluate runs/mmi --data data/fer2013-xie2019a --without neutral",
        "evaluate runs/dacl@best", "evaluate runs/dacl --every-snapshot")
    snapshots.add_run(command, "A trained run, or a group of folds or seeds.")
    command.add_argument("--split", choices=SPLITS, help="The part of the data (default: test; with --data, all if "
                         "the data have no test split).")
    command.add_argument("--data", type=path, help="Test on another prepared folder. Classes are matched by name. "
                         "The results are written to metrics-on-DATASET.json.")
    add_several(command, "--without", "With --data: classes to leave out.", metavar="CLASS")
    command.add_argument("--every-snapshot", action="store_true",
                         help="Evaluate all snapshots of the run, on the validation and the test split, or on the part "
                         "of --split. The results are written to metrics-every-snapshot.json in the folder of each "
                         "run.")
    add_device(command)


def run(options: argparse.Namespace) -> int:
    options.folder, options.snapshot = snapshots.split(options.folder)
    if options.every_snapshot and options.snapshot is not None:
        raise UserError("--every-snapshot evaluates all snapshots of a run; use it without @")
    if options.every_snapshot and (options.data or options.without):
        raise UserError("--every-snapshot evaluates on the data of the run; use it without --data and --without")
    if options.without and not options.data:
        raise UserError("--without needs --data")
    if options.data:
        return _on_other_data(options)
    if options.every_snapshot:
        return _every_snapshot(options)
    return _on_own_data(options)


def _on_own_data(options: argparse.Namespace) -> int:
    from tools.evaluation.groups import evaluate_all
    from tools.training import groups
    split = options.split or "test"
    metrics = evaluate_all(groups.open_(options.folder), split, options.snapshot)
    chosen = snapshots.described(metrics["iterations"], options.snapshot)
    if chosen:
        split = f"{split} ({chosen})"
    print("{}: {}{} of {} {}s correct, {:.2f}%{}".format(
        split, "".join("{name} {correct}/{total}, ".format(**seed) for seed in metrics.get("seeds", [])),
        metrics["correct"], metrics["total"], metrics["unit"], 100 * metrics["accuracy"],
        " (standard deviation {:.2f})".format(100 * metrics["deviation"]) if "deviation" in metrics else ""))
    for fold in metrics["folds"]:
        print("{name}: {correct} of {total}".format(**fold))
    for feature, alone in metrics.get("alone", {}).items():
        print("{}: {correct} of {total} with the {} loss alone".format(split, feature, **alone))
    own = metrics["without_copies"]
    if own["total"] != metrics["total"]:
        print("{}: {} of {} without copies of training images, {:.2f}%".format(
            split, own["correct"], own["total"], 100 * own["correct"] / own["total"]))
    return 0


def _every_snapshot(options: argparse.Namespace) -> int:
    from tools.evaluation import evaluate
    from tools.training import groups
    from tools.training.run import require_same_data
    opened = groups.open_(options.folder)
    runs = groups.runs(opened)
    parts = require_same_data(runs[0])["records"]
    splits = [options.split] if options.split else [split for split in ("val", "test") if split in parts]
    for split in splits:
        snapshots: list[list[dict]] = []
        for run in runs:
            name = "" if len(runs) == 1 else os.path.relpath(run.folder, opened.folder) + " "
            snapshots.append([])
            for snapshot in evaluate.every_snapshot(run, split):
                snapshots[-1].append(snapshot)
                print("{}: {}iteration {iteration}: {correct}/{total}, {:.2f}%".format(
                    split, name, 100 * snapshot["correct"] / snapshot["total"], **snapshot), flush=True)
        for title, selected in (("last", [of_run[-1] for of_run in snapshots]),
                                ("best on this part", [evaluate.best(of_run) for of_run in snapshots])):
            correct, total = (sum(snapshot[key] for snapshot in selected) for key in ("correct", "total"))
            print("{}: {}: {}/{}, {:.2f}%{}".format(
                split, title, correct, total, 100 * correct / total,
                ", iteration {iteration}".format(**selected[0]) if len(runs) == 1 else ", each run with its own"))
    return 0


def _on_other_data(options: argparse.Namespace) -> int:
    from tools.evaluation import cross_dataset
    from tools.training import groups
    for run in groups.runs(groups.open_(options.folder)):
        metrics = cross_dataset.evaluate_on(run, options.data, options.split, options.without, options.snapshot)
        chosen = snapshots.described(metrics["iterations"], options.snapshot)
        print("{}{} on {}: {} of {} {}s correct, {:.2f}%; {} of them if the net may choose all classes that it was "
              "trained on; {} of other classes are left out".format(
                  metrics["trained_on"], f" ({chosen})" if chosen else "", metrics["dataset"], metrics["correct"],
                  metrics["total"], metrics["unit"],
                  100 * metrics["accuracy"], metrics["all_trained_classes"]["correct"], metrics["left_out"]))
    return 0
