"""`./fer convert-net`: nets for older Caffes and for caffe-face."""
import argparse

from common.errors import UserError
from tools.cli.arguments import Commands, path


def add(commands: Commands) -> None:
    command = commands.add(
        "convert-net", run, "Turn an old prototxt into one for this Caffe. The layer CenterLoss of caffe-face becomes "
        "the Python layer of this project, and nets of before 2015 are upgraded by Caffe's own tools. The command "
        "prints what it changed. Comments are not kept.",
        "convert-net face_train_test.prototxt train_val.prototxt",
        "convert-net old.prototxt new.prototxt --weights old.caffemodel --out-weights new.caffemodel")
    command.add_argument("old", type=path, metavar="OLD", help="The prototxt of a net.")
    command.add_argument("new", type=path, metavar="NEW", help="The prototxt to write.")
    command.add_argument("--weights", type=path, metavar="FILE", help="A caffemodel of the old net, whose weights and "
                         "centers are taken over.")
    command.add_argument("--out-weights", type=path, metavar="FILE", help="The caffemodel to write.")


def run(options: argparse.Namespace) -> int:
    if bool(options.weights) != bool(options.out_weights):
        raise UserError("--weights and --out-weights belong together; give both or none")
    from tools.conversion import old_nets
    for sentence in old_nets.convert(options.old, options.new, options.weights, options.out_weights):
        print(sentence)
    return 0
