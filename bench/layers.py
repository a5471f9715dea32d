"""Where an iteration goes: `caffe time` on the training net of an experiment, its layers summed by what they are.

    ./fer python -m bench.layers xie2019a/fer2013-toy-alfw --data data/fer2013 [--iterations 20]
"""
import argparse
import collections
import os
import re
import subprocess
import tempfile
from typing import Dict

from data_prep import prepare
from prototxt import build, experiment, parts
from prototxt.experiment import ROOT

TIME = re.compile(r"\]\s+(\S+)\s+(forward|backward): ([\d.e+-]+) ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--data", required=True)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    chosen = experiment.load(options.experiment, options.set).weighted()
    data = parts.prepared(options.data, prepare.read_note(options.data))
    found = measure(chosen, data, options.iterations)
    total = sum(found.values())
    print("{}, batch {}: {:.1f} ms an iteration".format(chosen.name, chosen.solver["batch_size"], total))
    for kind, milliseconds in sorted(found.items(), key=lambda item: -item[1]):
        print("{:<40}{:>10.2f} ms{:>8.2f}%".format(kind, milliseconds, 100 * milliseconds / total))


def measure(chosen: experiment.Experiment, data: parts.Data, iterations: int) -> Dict[str, float]:
    """Layer type, or class of a Python layer -> milliseconds an iteration, forward and backward."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as folder:
        texts = build.definitions(chosen, data._replace(root=os.path.abspath(data.root)), folder, folder)
        path = os.path.join(os.path.abspath(folder), "train_val.prototxt")
        with open(path, "w") as stream:
            stream.write(texts["train_val.prototxt"])
        process = subprocess.run(["caffe", "time", "-model", path, "-phase", "TRAIN", "-iterations", str(iterations)],
                                 stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT,
                                 env=dict(os.environ, PYTHONPATH=ROOT, GLOG_logtostderr="1", GLOG_minloglevel="0"))
    if process.returncode:
        raise SystemExit(process.stderr[-2000:])
    kinds = _kinds(texts["train_val.prototxt"])
    times: Dict[str, float] = collections.Counter()
    for name, _, milliseconds in TIME.findall(process.stderr):
        times[kinds.get(name, "Split")] += float(milliseconds)
    return dict(times)


def _kinds(text: str) -> Dict[str, str]:
    net = build.parse(text, parts.NetParameter())
    return {layer.name: layer.python_param.layer or layer.type for layer in net.layer}


if __name__ == "__main__":
    main()
