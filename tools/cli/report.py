"""`./fer report`: one page on runs."""
import argparse
import os

from tools.cli.arguments import Commands, path
from tools.training import snapshots


def add(commands: Commands) -> None:
    command = commands.add("report", run, "Write one self-contained HTML page on runs, or on groups of folds or seeds.",
                           "report runs/softmax runs/gabor --out report.html",
                           "report runs/dacl runs/dacl@best --out both.html")
    command.add_argument("folders", type=path, metavar="RUN", nargs="+",
                         help=f"Trained runs, or groups of folds or seeds. {snapshots.HELP}")
    command.add_argument("--out", type=path, metavar="FILE",
                         help="The file to write (default: report.html in the first RUN, of RUN@500 report@500.html).")


def run(options: argparse.Namespace) -> int:
    from common import files, progress
    from tools.report import html_page
    from tools.training import groups
    folders, chosen = zip(*map(snapshots.split, options.folders))
    out, named = options.out or os.path.join(folders[0], f"report{snapshots.text(chosen[0])}.html"), bool(options.out)
    files.require_text(out)  # the page shows the command that writes it
    files.require_replaceable(out, alone=named)
    with progress.doing("reading the runs and drawing the page"):
        page = html_page.render([groups.open_(folder) for folder in folders], chosen, options.out)
    files.write_text(out, page, alone=named)
    print(out)
    return 0
