"""`./fer export`: a trained net as an ONNX model."""
import argparse
import os

from common import suggestions
from common.errors import UserError
from tools.cli.arguments import Commands, path
from tools.training import snapshots


def add(commands: Commands) -> None:
    command = commands.add(
        "export", run, "Export a trained net as an ONNX model. Its metadata say how images are prepared and what the "
        "classes are. Before the file is written, onnxruntime computes real batches and must give the probabilities "
        "that Caffe gives.",
        "export runs/softmax --out softmax.onnx",
        "export runs/softmax@best --out best.onnx")
    snapshots.add_run(command, "A trained run. Of a group, export each run.")
    command.add_argument("--out", type=path, metavar="FILE", required=True, help="The ONNX file to write.")


def run(options: argparse.Namespace) -> int:
    from common import progress
    from tools.conversion import export
    from tools.training import groups
    folder, snapshot = snapshots.split(options.folder)
    opened = groups.open_(folder)
    if isinstance(opened, groups.Group):
        raise UserError("{}: is a group; give one of its runs: {}".format(folder, suggestions.first([
            os.path.join(folder, name) + snapshots.text(snapshot) for name in opened.members], groups.LISTED)))
    with progress.doing("writing the model and comparing it with Caffe"):
        sentences = export.export(opened, options.out, snapshot)
    for sentence in sentences:
        print(sentence)
    print(options.out)
    return 0
