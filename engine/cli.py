"""The engine's program: reads the command line, runs the command, and says in one line what went wrong."""
import os
import sys
from typing import List, Sequence

from common.errors import NO_MEMORY, UserError

from . import flags, launcher, tuning

# Python packages by the names of their modules, where the two differ.
PACKAGES = {"google": "protobuf"}


def main(words: Sequence[str]) -> int:
    """Runs a command line. Returns the exit status: 0, 1 after an error, 2 if the command line is wrong."""
    if {"-h", "--help", "-help", "help"} & set(words):
        print(flags.usage(), end="")
        return 0
    try:
        command, options = flags.parse(words)
    except flags.WrongUsage as error:
        text = str(error)
        print(f"engine: {text}{' See' if text.endswith('?') else '; see'} --help", file=sys.stderr)
        return 2
    tuning.before_torch()
    try:
        import torch  # only now: it takes a second

        from . import commands
        torch.set_num_threads(threads())
        getattr(commands, command)(options)
    except UserError as error:
        launcher.last_words(_with_advice(str(error)), isinstance(error, launcher.Lost))
    except MemoryError as error:
        launcher.last_words(_with_advice(f"out of memory {error}".strip()))
    except OSError as error:
        launcher.last_words(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in sys.modules:
            raise
        launcher.last_words(f"the Python package {PACKAGES.get(module, module)} is not installed, which the engine "
                            "needs")
    except RuntimeError as error:  # PyTorch's errors have no class of their own
        if not NO_MEMORY.search(str(error)):
            raise
        launcher.last_words(_with_advice(_first_line(error)))
    else:
        return 0
    return 1


def _with_advice(text: str) -> str:
    return f"there is not enough memory; a smaller batch_size needs less: {text}" if NO_MEMORY.search(text) else text


def _first_line(error: Exception) -> str:
    lines: List[str] = str(error).splitlines()
    return lines[0]


def threads() -> int:
    """As for Caffe, what OPENBLAS_NUM_THREADS says, or OMP_NUM_THREADS, which goes before; else one a core. (PyTorch's
    own default differs from version to version.)"""
    for name in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS":
        value = os.environ.get(name, "")
        if value.isdigit() and int(value):
            return int(value)
    return len(os.sched_getaffinity(0))
