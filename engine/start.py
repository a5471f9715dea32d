"""Start weights from real Caffe, where pycaffe is installed: its own fillers with the solver's own seed."""
import importlib.machinery
import os
import re
import subprocess
import sys
import tempfile
from typing import Any, Optional

from google.protobuf import text_format

from common import signals
from common.errors import LAST_WORDS, UserError

from . import messages

# Makes the training net as `caffe train` does, and saves its weights. Arguments: the solver, the caffemodel.
CHILD = "import caffe, sys; caffe.get_solver(sys.argv[1]).net.save(sys.argv[2])"
# Lines of a stack trace, and what Caffe says after its last words.
STACK = re.compile(r"\s*(@\s|\*\*\* )")


def has_caffe() -> bool:
    """Whether real pycaffe is installed. It is not imported, and the engine's stand-in does not count."""
    found = importlib.machinery.PathFinder.find_spec("caffe")
    return found is not None and found.origin is not None


def weights(solver: Any, path: str) -> Optional[Any]:
    """The weights that `caffe train` begins with, as a NetParameter; None where there is no pycaffe.

    solver: the SolverParameter, whose `train_state` has the level and stages of the command line: `caffe train` takes
    the level from there only. path: of its training net; not read if the solver holds the net itself.
    Another process of Python makes them. Raises UserError with Caffe's last words if it fails.
    """
    if not has_caffe():
        return None
    only = messages.SolverParameter(train_net=path, random_seed=solver.random_seed)
    only.train_state.CopyFrom(solver.train_state)
    for field in ("net_param", "train_net_param"):
        if solver.HasField(field):
            only.ClearField("train_net")
            only.train_net_param.CopyFrom(getattr(solver, field))
    with tempfile.TemporaryDirectory() as folder:
        definition, made = os.path.join(folder, "solver.prototxt"), os.path.join(folder, "start.caffemodel")
        with open(definition, "w", encoding="utf-8") as stream:
            stream.write(text_format.MessageToString(only))
        # Layers in Python are found in the same folders as here. Caffe's fatal lines have level 3.
        variables = dict(os.environ, GLOG_minloglevel="2", GLOG_logtostderr="1",
                         PYTHONPATH=os.pathsep.join(one or os.getcwd() for one in sys.path))
        # In a session of its own: Ctrl-C in a terminal is for this process only, which asks its solver to stop.
        child = subprocess.run([sys.executable, "-c", CHILD, definition, made], env=variables, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False,
                               start_new_session=True, preexec_fn=signals.die_with_parent)
        if child.returncode or not os.path.exists(made):
            raise UserError(f"{path}: real Caffe, which makes the start weights, ended with status "
                            f"{child.returncode}: {_last_words(child.stdout)}")
        return messages.read_binary(made, "NetParameter")


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip() and not STACK.match(line)]
    fatal = [line for line in lines if LAST_WORDS.match(line)]
    return " | ".join(fatal) or (lines[-1] if lines else "it said nothing")
