"""Reads ahead: makes the next values in another thread while the net computes."""
import atexit
import collections
import queue
import threading
import weakref
from concurrent.futures import Future
from typing import Any, Callable, Deque, Tuple

import numpy as np
import torch

# How many values may wait.
DEPTH = 2
# How long the end of the program waits for the value that a thread is making, in seconds.
PATIENCE = 5

Jobs = Any  # a SimpleQueue of Future, function and its arguments; None ends the thread
_running: Any = weakref.WeakKeyDictionary()  # threads and their jobs


class Worker:
    """A thread that calls functions one after another. It ends when the object is no longer in use, and the program
    does not wait for calls that have not begun. (A ThreadPoolExecutor makes them all before the program ends.)"""

    def __init__(self) -> None:
        self._jobs: Jobs = None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            thread = threading.Thread(target=_work, args=(self._jobs,), name="ahead", daemon=True)
            _running[thread] = self._jobs
            thread.start()
            finalizer: Any = weakref.finalize(self, self._jobs.put, None)
            finalizer.atexit = False
        future: "Future[Any]" = Future()
        self._jobs.put((future, function, arguments))
        return future


def _work(jobs: Jobs) -> None:
    while True:
        job = jobs.get()
        if job is None:
            return
        future, function, arguments = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
        del job, future, function, arguments  # while it waits, it keeps nothing alive


@atexit.register
def _end() -> None:
    """Python must not end under a thread that computes."""
    threads = dict(_running)
    for jobs in threads.values():
        try:
            while True:
                jobs.get_nowait()
        except queue.Empty:
            jobs.put(None)
    for thread in threads:
        thread.join(PATIENCE)


class Ahead:
    """Calls `make(number)` for the numbers that come next."""

    def __init__(self) -> None:
        self._worker = Worker()
        self._coming: Deque[Tuple[int, "Future[Any]"]] = collections.deque()

    def get(self, make: Callable[[int], Any], number: int) -> Any:
        """make(number), most often made before. Raises what `make` raised for this number. All calls of `make` are in
        one thread, one after another."""
        while self._coming and self._coming[0][0] != number:  # the next pass is another one than was expected
            self._coming.popleft()[1].cancel()
        while len(self._coming) <= DEPTH:
            following = self._coming[-1][0] + 1 if self._coming else number
            self._coming.append((following, self._worker.submit(make, following)))
        return self._coming.popleft()[1].result()


class Chain:
    """Calls `make(state)`, which returns a value and the next state, with one state after the other."""

    def __init__(self) -> None:
        self._worker = Worker()
        self._coming: Deque["Future[Any]"] = collections.deque()
        self._next: Any = None  # the state that the first of those that come was made from

    def get(self, make: Callable[[Any], Tuple[Any, Any]], state: Any, depth: int = DEPTH) -> Tuple[Any, Any]:
        """make(state), most often made before. If the state is not the one that the last call returned, what was made
        ahead is thrown away. All calls of `make` are in one thread, one after another. After an error, which is raised
        when its value is asked for, `make` is not called until the next `get`. depth: how many values may wait."""
        if self._next != state:
            self._drop()
        while len(self._coming) <= depth:
            before = self._coming[-1] if self._coming else None
            self._coming.append(self._worker.submit(_follow, make, state, before))
        try:
            made = self._coming[0].result()
        except Exception:
            self._drop()
            raise
        self._coming.popleft()
        self._next = made[1]
        return made

    def _drop(self) -> None:
        for future in self._coming:
            future.cancel()
        self._coming.clear()


def _follow(make: Callable[[Any], Any], state: Any, before: Any) -> Any:
    return make(state if before is None else before.result()[1])


def to_send(array: np.ndarray, device: torch.device, kept: bool = True) -> torch.Tensor:
    """The array as a tensor; for a card a copy in memory from which it is copied while the processor goes on. kept:
    whether the array keeps its values, so that the tensor may be a view of it."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        with torch.cuda.device(device):  # a thread begins with the first card
            return tensor.pin_memory()
    return tensor if kept else tensor.clone()
