"""`./fer features`: how accurate a support vector machine is on features alone."""
import argparse
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from common.errors import UserError
from tools.cli.arguments import Commands, add_device, add_several, at_least, name_of, path
from tools.training import snapshots

if TYPE_CHECKING:
    from tools.analysis.svm import Result


def add(commands: Commands) -> None:
    from data_prep import features
    command = commands.add("features", run, "Measure the accuracy of a support vector machine on handcrafted features, "
                           "or on the deep features of a trained run, and print it beside the published accuracy.",
                           "features --svm --data data/fer2013", "features --svm --untuned --data data/fer2013",
                           "features --svm --run runs/softmax")
    command.add_argument("--svm", action="store_true", required=True,
                         help="Use LIBSVM, with the untuned and with tuned parameters.")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=path, help="A folder that `./fer prepare` made. Its folder svm/ keeps the "
                        "results.")
    source.add_argument("--run", dest="trained", type=path, metavar="RUN",
                        help="A trained run. Its file svm.json keeps the results.")
    add_several(command, "--features", "With --data: the handcrafted features, of: {} (default: all that the folder "
                "has).".format(", ".join(features.NAMES)),
                type=name_of("handcrafted feature", features.NAMES), metavar="FEATURE")
    command.add_argument("--untuned", action="store_true", help="Only with the untuned parameters, which takes a "
                         "small part of the time.")
    command.add_argument("--limit", type=at_least(1), metavar="N", help="Use only the first N training images.")
    add_device(command)


def run(options: argparse.Namespace) -> int:
    from tools.analysis import svm
    from tools.training.run import Run
    if options.trained and options.features:
        raise UserError("--features selects handcrafted features: use it with --data, not with --run")
    tunes = not options.untuned
    if options.data:
        results = _shown(svm.svm(options.data, options.features or None, options.limit, tunes))
        print(svm.table(results, options.data, limit=options.limit))
        return 0
    snapshots.require_none(options.trained, "features")
    trained = Run(os.path.abspath(options.trained))
    deep = _shown(svm.svm_of_run(trained, options.limit, tunes))
    data = trained.info["data"]
    handcrafted = [result for saved in svm.handcrafted(trained).values() for result in saved.results]
    print(svm.table(handcrafted + deep, data, trained, options.limit))
    if not handcrafted:
        print(f"fer: to show handcrafted features beside them, first run: ./fer features --svm --data {data}",
              file=sys.stderr)
    return 0


def _shown(results: Iterator["Result"]) -> list["Result"]:
    """All results; each is printed when it is known."""
    from tools.analysis import svm
    found = []
    for result in results:
        found.append(result)
        print("fer: {}, {}: validation {}, test {}".format(result.feature, result.kernel, *map(
            svm.percent, (result.val, result.test))), file=sys.stderr, flush=True)
    return found
