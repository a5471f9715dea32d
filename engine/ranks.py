"""The processes (ranks) that train one net together, over torch.distributed: NCCL between cards, else gloo.

Who starts them, `launcher` or another program such as torchrun, sets RANK, WORLD_SIZE and LOCAL_RANK, and for several
machines MASTER_ADDR and MASTER_PORT. Rank 0 writes the log and the snapshots.
"""
import atexit
import contextlib
import datetime
import os
import random
import sys
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Set

import numpy as np
import torch
import torch.distributed as dist

from common.errors import UserError

from . import launcher

# A rank waits so long for the others, e.g. while rank 0 writes a snapshot. One that has ended is noticed at once.
TIMEOUT = datetime.timedelta(minutes=5)
# Losses of the ranks may differ by this part, as processors of other types round in another way.
ALIKE = 1e-3


class Place(NamedTuple):
    """Of this process: its rank, how many ranks there are, its number among those of this machine."""

    rank: int
    size: int
    local: int


def place() -> Optional[Place]:
    """The place that the environment gives to this process; None if it is alone. Raises UserError."""
    size = _number("WORLD_SIZE", 1)
    if "RANK" not in os.environ or size == 1:
        return None
    rank = _number("RANK", 0)
    if not 0 <= rank < size:
        raise UserError(f"RANK is {rank}, expected 0 to {size - 1}, as WORLD_SIZE is {size}")
    return Place(rank, size, _number("LOCAL_RANK", 0))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise UserError(f"the variable {name} is {text!r}, expected a whole number")
    return int(text)


class Alone:
    """A process that trains alone, as the one rank. Its methods do nothing."""

    rank, size = 0, 1

    def seed(self, seed: int) -> None:
        """Lets all ranks draw the same numbers in Python layers that use the random numbers of Python or NumPy."""

    def first(self, number: int) -> int:
        """The number of rank 0."""
        return number

    def copy_first(self, tensors: Sequence[torch.Tensor]) -> None:
        """Gives all ranks the values of rank 0, in place."""

    def agreed(self, requests: Set[str], possible: Sequence[str]) -> Set[str]:
        """Those of the possible requests that any rank has."""
        return requests

    def require_alike(self, value: float, what: str) -> None:
        """Raises UserError, which begins with `what`, unless all ranks have the same value."""


ALONE = Alone()


class Group(Alone):
    """Several ranks. What is summed and gathered has the same bytes on all of them.

    Each method must be called by all ranks in the same order. Raises launcher.Lost when another one has ended.
    """

    def __init__(self, where: Place, device: str):
        """where: this process; device: of it, as torch names it. Raises UserError if PyTorch cannot do it."""
        self.rank, self.size = where.rank, where.size
        backend = "gloo" if device == "cpu" else "nccl"
        if not dist.is_available() or not getattr(dist, f"is_{backend}_available", lambda: True)():
            raise UserError(f"PyTorch {torch.__version__} is built without {backend}, which several processes need")
        method = launcher.rendezvous()
        if method == "env://":
            for name in ("MASTER_ADDR", "MASTER_PORT"):
                if name not in os.environ:
                    raise UserError(f"WORLD_SIZE is {self.size}, but the variable {name} is not set, expected the "
                                    "address of rank 0")
            _number("MASTER_PORT", 0)
        if torch.__version__ < "2":  # later ones do so by default: an error in NCCL ends the process
            os.environ.setdefault("NCCL_ASYNC_ERROR_HANDLING", "1")
        self._call(dist.init_process_group, backend, init_method=method, timeout=TIMEOUT, rank=self.rank,
                   world_size=self.size)
        # Flags and numbers go between the processors.
        self._control = dist.group.WORLD
        if backend != "gloo":
            self._control = self._call(dist.new_group, timeout=TIMEOUT, backend="gloo")

    def _call(self, function: Callable, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except RuntimeError as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise launcher.Lost(f"rank {self.rank} of {self.size} has lost the others; one of them, or the network, "
                                f"failed ({said})") from None

    def sum_(self, tensor: torch.Tensor) -> None:
        """Replaces a contiguous tensor by the sum of those of all ranks."""
        self._call(dist.all_reduce, tensor)

    def gather(self, tensor: torch.Tensor) -> List[torch.Tensor]:
        """The contiguous tensors of all ranks, which have the same shape."""
        made = [torch.empty_like(tensor) for _ in range(self.size)]
        self._call(dist.all_gather, made, tensor)
        return made

    def seed(self, seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed % 2 ** 32)
        torch.manual_seed(seed)

    def first(self, number: int) -> int:
        made = torch.tensor([number])
        self._call(dist.broadcast, made, 0, group=self._control)
        return int(made)

    def copy_first(self, tensors: Sequence[torch.Tensor]) -> None:
        for tensor in tensors:
            made = tensor.detach().contiguous()
            self._call(dist.broadcast, made, 0)
            tensor.detach().copy_(made)

    def _largest(self, values: Sequence[float]) -> List[float]:
        made = torch.tensor(list(values), dtype=torch.float64)
        self._call(dist.all_reduce, made, op=dist.ReduceOp.MAX, group=self._control)
        return made.tolist()

    def agreed(self, requests: Set[str], possible: Sequence[str]) -> Set[str]:
        asked = self._largest([float(one in requests) for one in possible])
        return {one for one, flag in zip(possible, asked) if flag}

    def require_alike(self, value: float, what: str) -> None:
        largest, least = self._largest([value, -value])
        if largest + least > ALIKE * abs(largest) + 1e-6:
            raise UserError(f"{what}: from {-least:g} to {largest:g} on the {self.size} ranks, expected the same on "
                            "all; does a layer in Python draw other numbers, or read other data, in each process?")


@contextlib.contextmanager
def joined(where: Optional[Place], device: str) -> Iterator[Any]:
    """The ranks that this process trains with, while it is open. Raises UserError."""
    if where is None:
        yield ALONE
        return
    if device != "cpu":
        torch.cuda.set_device(device)
    try:
        yield Group(where, device)
        dist.destroy_process_group()
    except BaseException:
        atexit.register(_end)
        raise


def _end() -> None:
    """Ends the process after an error. The end of NCCL could wait for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
