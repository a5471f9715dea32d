"""A clean end of programs that use an old PyTorch.

PyTorch 1.7 with Python 3.9: in a process that ran a backward pass, the destructor of the autograd engine ends a thread
of it after the interpreter is gone. The thread then asks for the interpreter's lock, and the process aborts
("terminate called without an active exception") or hangs. PyTorch 1.8 mended this.
"""
import atexit
import ctypes

import torch


def make_clean() -> None:
    """Lets the process end before that destructor, with its own exit status. Python's own end is not touched, and its
    output is written. Does nothing with a PyTorch that ends cleanly."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version >= (1, 8):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # of glibc
        # What is registered last is called first: so only now, when the destructor is registered already.
        atexit.register(library.on_exit, library._exit, None)
