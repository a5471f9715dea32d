"""`./fer study`: several experiments on the same data, compared."""
import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common import suggestions
from common.errors import UserError
from tools.cli.arguments import MOST_THREADS, Commands, add_device, add_several, at_least, cores, device, path

if TYPE_CHECKING:
    from tools.studies.definition import Study


def add(commands: Commands) -> None:
    command = commands.add(
        "study", run, "Train several experiments on the same data, each with several seeds, and compare them with one "
        "of them: means, standard deviations, McNemar's test. A YAML file says which ones; docs/studies.md describes "
        "it. The results are written to OUT/study.md, .csv and .png. What is there already is not trained again.",
        "study experiments/studies/fer2013-toy.yml --data data/fer2013-public --out runs/toy --engine torch",
        "study my-study.yml --data data/mine --out runs/study --weights models/dlib_face.caffemodel",
        "study my-study.yml --data data/mine --out runs/study --show", continues=True)
    command.add_argument("study", type=path, metavar="FILE.yml", help="The file of the study.")
    command.add_argument("--data", type=path, required=True, help="The folder that `./fer prepare` made.")
    command.add_argument("--out", type=path, required=True, help="The folder of the runs and of the results.")
    command.add_argument("--weights", metavar="CAFFEMODEL|RUN", type=path,
                         help="Initialises the nets, as in `./fer train`, except in rows with `weights: none`.")
    add_several(command, "--rows", "The rows to train now (default: all).", metavar="ROW")
    add_several(command, "--seeds", "The seeds to train now (default: all of the file).", metavar="SEED",
                type=at_least(0))
    command.add_argument("--processes", type=at_least(1), default=cores(),
                         help="How many trainings run side by side (default: one per core; with --gpu one per card).")
    command.add_argument("--threads", type=at_least(1, MOST_THREADS),
                         help="The number of BLAS threads of each training (default: 1 if several run side by side, "
                         "else one per core).")
    command.add_argument("--show", action="store_true", help="Only print what is measured so far.")
    add_device(command)


def run(options: argparse.Namespace) -> int:
    from common import files
    from tools.studies import definition, output, results
    study = definition.read(options.study)
    names = [row.name for row in study.rows]
    for name in options.rows:
        if name not in names:
            raise UserError("--rows: " + suggestions.unknown("row", name, names))
    _require_seeds(study, options.seeds)
    if not os.path.exists(options.data):
        made = f"; `./fer prepare {study.prepare} --out {options.data}` makes it" if study.prepare else ""
        raise UserError(f"{options.data}: no such folder{made}")
    out = os.path.abspath(options.out)
    files.require_claimable(out, results.KIND)
    results.require_fitting(study, options.data, out)
    if not options.show:
        chosen = [row for row in study.rows if not options.rows or row.name in options.rows]
        for row in chosen:
            results.require_seeds(row, out)
        results.require_weights(study, out, options.weights)
        files.claim(out, results.KIND)
        for row in chosen:
            now = [seed for seed in row.seeds if not options.seeds or seed in options.seeds]
            if now:
                results.train(study, row, options.data, out, options.weights, options.threads, device(options),
                              options.processes, now)
                print(output.as_text(study, results.measured(study, out)) + "\n", flush=True)
    rows = results.measured(study, out)
    if options.show:
        print(output.as_text(study, rows))
        return 0
    words = ["--data", options.data, "--out", options.out, *(["--weights", options.weights] if options.weights else []),
             *(["--threads", str(options.threads)] if options.threads else []), *device(options).options()]
    print("\n".join(output.write(study, rows, out, words)))
    return 0


def _require_seeds(study: "Study", seeds: Sequence[int]) -> None:
    known = sorted({seed for row in study.rows for seed in row.seeds})
    for seed in seeds:
        if seed not in known:
            raise UserError(f"--seeds {seed}: {study.path} has the seeds {' '.join(map(str, known))}")
