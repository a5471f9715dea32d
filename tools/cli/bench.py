"""`./fer bench`: speed and memory on this machine."""
import argparse
import os

from bench import registry
from common import experiment, suggestions
from common.errors import UserError
from tools.cli.arguments import Commands, at_least, cores, path


def add(commands: Commands) -> None:
    command = commands.add("bench", run, "Measure speed and memory on synthetic faces. Each benchmark compares two "
                           "ways in the same call, prints a table, and writes OUT/NAME.json.",
                           "bench layers evaluation --quick")
    command.add_argument("names", metavar="NAME", nargs="*", help="The benchmarks (default: all). " + "; ".join(
        f"{name}: {tells}" for name, tells in registry.BENCHMARKS.items()).replace("%", "%%") + ".")
    command.add_argument("--data", type=path, default=os.path.join(experiment.ROOT, "data", "bench"),
                         help="The folder that keeps the synthetic faces for the next call (default: data/bench in the "
                         "project).")
    command.add_argument("--out", type=path, default=os.path.join(experiment.ROOT, "runs", "bench"),
                         help="The folder of the results (default: runs/bench in the project).")
    command.add_argument("--quick", action="store_true", help="Measure less, and less often, to see that all works.")
    command.add_argument("--cores", type=at_least(1), default=cores(),
                         help="The largest number of processes or threads (default: one per core).")


def run(options: argparse.Namespace) -> int:
    for name in options.names:
        if name not in registry.BENCHMARKS:
            raise UserError(suggestions.unknown("benchmark", name, registry.BENCHMARKS))
    for name in options.names or registry.BENCHMARKS:
        measured = registry.measure(name, registry.Options(
            os.path.abspath(options.data), os.path.abspath(options.out), options.quick, options.cores))
        print(registry.headline(measured))
        print(registry.table(measured["rows"]) + "\n", flush=True)
    return 0
