"""`./fer reproduce`: a published table or figure, measured."""
import argparse
import datetime
import os
import sys
from typing import TYPE_CHECKING

from common.errors import UserError
from published import values
from tools.cli.arguments import MOST_THREADS, Commands, add_device, add_several, at_least, change, cores, device, path
from tools.reproduce import targets
from tools.training import snapshots

if TYPE_CHECKING:
    from tools.reproduce.estimate import Estimate
    from tools.reproduce.plan import Plan, Request


def add(commands: Commands) -> None:
    command = commands.add(
        "reproduce", run, "Measure the values that a table of a paper prints, or that a figure shows. Runs that are "
        "missing are trained. A table is printed with the measured values beside the published ones, and written to "
        "OUT/TABLE.md and .csv. A figure is drawn to OUT/FIGURE.png and .svg, and its numbers are written to .csv.",
        "reproduce xie2019a-table7 --data data --weights models/face_model.caffemodel --out runs/table7",
        "reproduce xie2019a-table7 --data data --out runs/table7 --dry-run",
        "reproduce xie2019b-table4 xie2019b-fig8 --data fer2013-xie2019a=data/synthetic --set net=toy --out runs/small",
        continues=True)
    command.add_argument("targets", metavar="TABLE|FIGURE", nargs="+", help="Tables: {}. Figures: {}.".format(
        ", ".join(values.tables()), ", ".join(targets.names())))
    add_several(command, "--data", "A folder of prepared folders, which have the names that the experiments use for "
                "their data (such as fer2013-xie2019a), or one prepared folder for a name.", type=path, required=True,
                metavar="DIR|SET=FOLDER")
    command.add_argument("--out", type=path, required=True, help="The folder of runs, logs, tables and figures.")
    add_several(command, "--weights", "Caffemodels to initialise from: a file for all nets, for one net, or for one "
                "experiment. The most specific one is used. A net that begins with the weights of another run of the "
                "table takes only the file of its experiment. FILE may be a run; of a group, each run takes the member "
                "of its own name. " + snapshots.HELP, metavar="FILE|NET=FILE|EXPERIMENT=FILE")
    add_several(command, "--only", "Data sets to use (default: all).", metavar="SET")
    command.add_argument("--cores", type=at_least(1),
                         help="The number of cores to use (default: all; with --gpu one, so that one job at a time "
                         "uses the card).")
    command.add_argument("--threads", type=at_least(1, MOST_THREADS), default=1,
                         help="The number of BLAS threads of each training. Another number gives other bytes "
                         "(default: 1).")
    add_several(command, "--set", "Change settings of those experiments that have them, e.g. net=toy "
                "solver.max_iter=3000.", type=change, metavar="KEY=VALUE")
    add_device(command)
    mode = command.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true",
                      help="Only show the jobs, with estimates of their time, disk space and memory.")
    mode.add_argument("--plan", action="store_true", help="Only write plan.json, for Snakemake on a cluster.")
    mode.add_argument("--show", action="store_true", help="Only print the tables, as far as they are measured.")


def run(options: argparse.Namespace) -> int:
    from common import files, machine
    from tools.reproduce import jobs, plan, requests
    request = requests.request(options.targets, options.data, options.out, options.set, options.only, options.weights,
                               options.threads, device(options))
    options.cores = options.cores or (cores() if options.gpu is None else request.threads)
    files.require_claimable(request.out, plan.KIND)
    planned = plan.plan(request)
    for note in plan.notes(planned):
        print("note: " + note, file=sys.stderr)
    if options.dry_run:
        if options.gpu is not None and request.device.engine == machine.CAFFE:
            print("note: times are those of the processor; a card is faster", file=sys.stderr)
        _print_preview(planned, request, options.cores)
        return 0
    if options.plan:
        print(plan.write(planned, request.out, jobs.memory(planned, request.engine)))
        return 0
    if options.show:
        _print_results(planned, request, keep=False)
        return 0
    if not planned.has_data:
        raise UserError(f"no data set of {', '.join(options.targets)} is there")
    failed = jobs.run(planned, request, options.cores)
    _print_results(planned, request, keep=True)
    for job in failed:
        last = jobs.last_line(job)
        print(f"fer: failed: {job.title}, see {job.log}{': ' + last if last else ''}", file=sys.stderr)
    return 1 if failed else 0


def _print_results(planned: "Plan", request: "Request", keep: bool) -> None:
    """Prints the tables, and the files and notes of the figures. keep: whether they are written into the folder too."""
    from common import files, progress
    from tools.reproduce import figures, plan, results, tables
    for name, cells in planned.tables.items():
        entries = [results.entry(cell, request) for cell in cells]
        if keep:
            prefix = os.path.join(request.out, name)
            files.write_text(prefix + ".md", tables.as_markdown(name, entries, plan.notes(planned)))
            files.write_text(prefix + ".csv", tables.as_csv(entries))
        print(tables.as_text(name, entries))
        if name != list(planned.tables)[-1]:
            print()
    with progress.doing("drawing the figures"):
        for drawn in figures.write(planned, request.out, keep=keep):
            print("\n".join([drawn.name] + ["  " + line for line in drawn.paths + drawn.notes]))


def _print_preview(planned: "Plan", request: "Request", cores: int) -> None:
    from common import files, machine
    from tools.reproduce import jobs
    there = machine.memory()[0]
    steps = []
    for step in jobs.preview(planned, request):
        steps.append(step)
        folds = f", for each of {step.count} folds" if step.count > 1 else ""
        rest = step.problem or (_amounts(step.estimate, there) + folds if step.estimate else "")
        print(f"{step.state:<7}  {step.title}{': ' + rest if rest else ''}", flush=True)
    total = jobs.total(planned, request, steps, cores)
    print("{} of {} jobs are missing{}: about {} of training on {} core{}, {} of snapshots, {} of memory a job".format(
        len(list(planned.unfinished)), len(planned.jobs),
        f", and the data of {len(planned.awaited)} experiments" if planned.awaited else "", _duration(total.seconds),
        cores, "s" if cores > 1 else "", files.amount(total.bytes), files.amount(total.memory)))


def _amounts(estimate: "Estimate", there: int) -> str:
    """there: bytes of memory of this machine."""
    from common import files
    parts = []
    if estimate.seconds:
        parts.append("about " + _duration(estimate.seconds))
    if estimate.bytes:
        parts.append(files.amount(estimate.bytes) + " of snapshots")
    parts.append(files.amount(estimate.memory) + " of memory")
    if estimate.memory > there:
        parts.append(f"more than the {files.amount(there)} of this machine")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return str(datetime.timedelta(minutes=round(seconds / 60)))[:-3] + " h"
