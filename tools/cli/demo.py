"""The main job on synthetic faces: what the handcrafted feature loss does to the toy net ([xie2019a] III-B)."""
import argparse
import os

from common import experiment, machine
from tools.cli.arguments import Commands, add_device, cores, device, path

EXPERIMENTS = ("xie2019a/synthetic-toy-softmax", "xie2019a/synthetic-toy-center-gabor")
KIND = "demo"
# The folder in runs/, by the engine.
OUT = {machine.CAFFE: "demo", machine.TORCH: "demo-torch"}


def add(commands: Commands) -> None:
    command = commands.add("demo", run, "Run the main job on synthetic faces: prepare them, train two nets, evaluate "
                           "both, and write a report.", "demo", "demo --engine torch", continues=True)
    command.add_argument("--out", type=path, help="The folder to make (default: in the project, runs/demo, or "
                         "runs/demo-torch with --engine torch).")
    add_device(command)


def run(options: argparse.Namespace) -> int:
    """Prints a small table and the report's path. Interrupted, the next call goes on. Raises UserError where the
    folder holds something else."""
    import tabulate

    from common import children, files
    from data_prep import prepare
    from tools.evaluation import evaluate
    from tools.report import html_page
    from tools.training import run
    from tools.training.caffe_process import Engine
    computes = device(options)
    folder = options.out or os.path.join(experiment.ROOT, "runs", OUT[computes.engine])
    files.claim(folder, KIND)
    data = os.path.join(folder, "data")
    prepare.prepare(prepare.Settings("synthetic", None), data, cores())
    # One thread each, side by side: faster than two threads, one after the other. A card trains one net at a time.
    engine = Engine(1, computes)
    runs = list(children.in_order(cores() if computes.gpu is None else 1, lambda: None, (), lambda name: run.train(
        experiment.load(name), data, os.path.join(folder, os.path.basename(name)), None, engine), EXPERIMENTS))
    print(tabulate.tabulate([[trained.experiment.title, *(
        _count(evaluate.evaluate(trained, split)) for split in ("val", "test"))] for trained in runs],
        ("loss", "validation", "test"), "plain", disable_numparse=True))
    page = os.path.join(folder, "report.html")
    files.write_text(page, html_page.render(runs, out=page))
    print("report: " + page)
    return 0


def _count(metrics: dict) -> str:
    return f"{100 * metrics['accuracy']:.2f}% ({metrics['correct']}/{metrics['total']})"
