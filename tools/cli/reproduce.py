"""`./fer reproduce`: a published table or figure, measured."""
import argparse
import sys

from common.errors import UserError
from published import values
from tools.cli.arguments import MOST_THREADS, Commands, add_several, at_least, change, cores, path
from tools.reproduce import targets


def add(commands: Commands) -> None:
    command = commands.add(
        "reproduce", run, "Measure the values that a table of a paper prints, or that a figure shows. Runs that are "
        "missing are trained. A table is printed with the measured values beside the published ones, and written to "
        "OUT/TABLE.md and .csv. A figure is drawn to OUT/FIGURE.png and .svg, and its numbers are written to .csv.",
        "reproduce xie2019a-table7 --data data --weights models/face_model.caffemodel --out runs/table7",
        "reproduce xie2019a-table7 --data data --out runs/table7 --dry-run",
        "reproduce xie2019b-table4 xie2019b-fig8 --data fer2013-xie2019a=data/synthetic --set net=toy --out runs/small")
    command.add_argument("targets", metavar="TABLE|FIGURE", nargs="+", help="Tables: {}. Figures: {}.".format(
        ", ".join(values.tables()), ", ".join(targets.names())))
    add_several(command, "--data", "A folder of prepared folders, which have the names that the experiments use for "
                "their data (such as fer2013-xie2019a), or one prepared folder for a name.", type=path, required=True,
                metavar="DIR|SET=FOLDER")
    command.add_argument("--out", type=path, required=True, help="The folder of runs, logs, tables and figures.")
    add_several(command, "--weights", "Caffemodels to initialise from: a file for all nets, for one net, or for one "
                "experiment. The most specific one is used. A net that begins with the weights of another run of the "
                "table takes only the file of its experiment.", metavar="FILE|NET=FILE|EXPERIMENT=FILE")
    add_several(command, "--only", "Data sets to use (default: all).", metavar="SET")
    command.add_argument("--cores", type=at_least(1), default=cores(),
                         help="The number of cores to use (default: all).")
    command.add_argument("--threads", type=at_least(1, MOST_THREADS), default=1,
                         help="The number of BLAS threads of each training. Another number gives other bytes "
                         "(default: 1).")
    add_several(command, "--set", "Change settings of those experiments that have them, e.g. net=toy "
                "solver.max_iter=3000.", type=change, metavar="KEY=VALUE")
    mode = command.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true",
                      help="Only show the jobs, with estimates of their time, disk space and memory.")
    mode.add_argument("--plan", action="store_true", help="Only write plan.json, for Snakemake on a cluster.")
    mode.add_argument("--show", action="store_true", help="Only print the tables, as far as they are measured.")


def run(options: argparse.Namespace) -> int:
    from common import files
    from tools.reproduce import figures, jobs, plan
    request = jobs.request(options.targets, options.data, options.out, options.set, options.only, options.weights,
                           options.threads)
    files.require_claimable(request.out, plan.KIND)
    made = plan.plan(request)
    for note in jobs.notes(made):
        print("note: " + note, file=sys.stderr)
    if options.dry_run:
        for line in jobs.preview(made, request, options.cores):
            print(line)
        return 0
    if options.plan:
        print(plan.write(made, request.out, jobs.memory(made, request.threads)))
        return 0
    if not options.show and not any(cell.folder for kind in (made.tables, made.drawn) for cells in kind.values()
                                    for cell in cells):
        raise UserError("none of the data sets of {} is there".format(", ".join(options.targets)))
    failed = [] if options.show else jobs.run(made, request, options.cores)
    if made.tables:
        print(jobs.write_tables(made, request, keep=not options.show))
    for drawn in figures.write(made, request.out, keep=not options.show):
        print("\n".join([drawn.name] + ["  " + line for line in drawn.paths + drawn.notes]))
    for job in failed:
        print("fer: " + jobs.failure(job), file=sys.stderr)
    return 1 if failed else 0
