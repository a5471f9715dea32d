"""`./fer template`: measures what faces are aligned to."""
import argparse

from tools.cli.arguments import Commands, add_processes, path
from tools.cli.prepare import add_source, require_source

# How many images without a face are named on the screen.
NAMED = 10


def add(commands: Commands) -> None:
    command = commands.add(
        "template", run, "Measure the template of the alignment on a data set. The template is the mean triangle of "
        "the eyes and the lower face, and its mean distances from the borders. Where the protocol takes registered "
        "faces as they are, the borders are those of the image. Otherwise they are those of the square around the box "
        "in which MTCNN finds the face; the square is turned with the face until the eyes are level. If the data set "
        "has a training split, only its images are measured, otherwise all.",
        "template ckplus CK+ --protocol xie2019a --out ckplus.json",
        "prepare oulu_casia OULU --protocol xie2019a --template ckplus.json --out data/oulu-xie2019a")
    add_source(command)
    command.add_argument("--out", type=path, required=True, metavar="FILE", help="The file to write, JSON.")
    command.add_argument("--protocol", help="The protocol, which decides which images are measured (default: the "
                         "first one of the data set).")
    add_processes(command)


def run(options: argparse.Namespace) -> int:
    from common import files
    from data_prep import prepare, template
    require_source(options, "template", " --out FILE")
    files.require_replaceable(options.out, alone=True)
    prepare.require_apart(options.out, [options.source])
    measured = template.measure(options.dataset, options.source, options.protocol, options.processes)
    files.write_json(options.out, measured, alone=True)
    print("{}: {faces} faces of {dataset}-{protocol}, in sides of {region}".format(options.out, **measured))
    for section in ("margins", "sides"):
        print(f"{section}: {', '.join(f'{name} {value:.4f}' for name, value in measured[section].items())}")
    without_face = measured["no_face"]
    if without_face:
        print("note: no face was found in {} images, which are left out: {}{}".format(
            len(without_face), ", ".join(without_face[:NAMED]),
            f", and others (`no_face` in {options.out})" if len(without_face) > NAMED else ""))
    return 0
