"""Starts the ranks of a training on this machine, hands signals on, and ends them all when one of them fails."""
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, Iterator, List, Sequence

from common import signals
from common.errors import UserError

from . import log

# Names the folder that a rank shares with its launcher: `store`, where the ranks find each other, and last words.
VARIABLE = "ENGINE_RANKS"
# Seconds between two looks at the ranks, and that the others have to end by themselves after one has failed.
LOOK, GRACE = 0.1, 3.0


class Lost(UserError):
    """The connection to the other ranks has ended: one of them failed, which is not this rank's own error."""


def rendezvous() -> str:
    """Where the ranks find each other, as torch.distributed names it."""
    folder = os.environ.get(VARIABLE)
    return f"file://{folder}/store" if folder else "env://"


def last_words(text: str, lost: bool = False) -> None:
    """Writes the last line of a program that fails. A rank leaves it to its launcher to do so. lost: it has failed
    because another one did."""
    folder, rank = os.environ.get(VARIABLE), os.environ.get("RANK", "0")
    if folder:
        with contextlib.suppress(OSError):  # the launcher has ended, or its disk is full
            with open(_file(folder, "lost" if lost else "words", rank), "w", encoding="utf-8") as stream:
                stream.write(text)
            return
    log.fatal(text if rank == "0" else f"rank {rank}: {text}")


def run(command: Sequence[str], ranks: int) -> None:
    """Runs a command line of the engine as so many ranks, to the end. Raises UserError with the last words of the rank
    that failed, when all have ended."""
    with tempfile.TemporaryDirectory(prefix="engine-ranks-") as folder:
        started: List[Any] = []
        try:
            with _handing_on(started):
                for rank in range(ranks):
                    started.append(_start(command, folder, rank, ranks))
                statuses = _wait(started)
        finally:
            for one in started:
                one.kill()
            for one in started:
                one.wait()
        failure = _failure(folder, statuses) if any(statuses.values()) else ""
    if statuses.get(0) in (-signal.SIGINT, -signal.SIGHUP):  # before rank 0 had a handler: as without ranks, no word
        signal.signal(-statuses[0], signal.SIG_DFL)
        os.kill(os.getpid(), -statuses[0])
    if failure:
        raise UserError(failure)


def _start(command: Sequence[str], folder: str, rank: int, ranks: int) -> Any:
    """Starts a rank. What ranks other than 0 write to standard error is kept for the case that they fail."""
    variables = dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
    variables[VARIABLE] = folder
    variables.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if "OPENBLAS_NUM_THREADS" not in variables:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))
    # In a session of its own: Ctrl-C in a terminal reaches the launcher only, and through it each rank once.
    options: Dict[str, Any] = dict(env=variables, start_new_session=True, preexec_fn=signals.die_with_parent)
    words = [sys.executable, "-m", "engine", *command]
    if rank == 0:
        return subprocess.Popen(words, **options)
    with open(_file(folder, "output", rank), "wb") as stream:
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=stream, **options)


@contextlib.contextmanager
def _handing_on(started: Sequence[Any]) -> Iterator[None]:
    """While it is open, rank 0 gets the signals that this process gets; it tells the others. One that is ignored stays
    ignored."""
    def hand_on(number: int, _: Any) -> None:
        for one in started[:1]:
            one.send_signal(number)
    with signals.installed(dict.fromkeys((signal.SIGINT, signal.SIGHUP), hand_on)):
        yield


def _wait(started: Sequence[Any]) -> Dict[int, int]:
    """Waits until all ranks have ended or, after one has failed, for a while. Returns the statuses of those that ended
    by themselves."""
    until = float("inf")
    while any(one.poll() is None for one in started) and time.monotonic() < until:
        time.sleep(LOOK)
        if until == float("inf") and any(one.poll() for one in started):
            until = time.monotonic() + GRACE
    return {rank: one.returncode for rank, one in enumerate(started) if one.returncode is not None}


def _failure(folder: str, statuses: Dict[int, int]) -> str:
    """Why the ranks have ended: an error of one of them, else a signal, else a mistake in a program."""
    failed = [rank for rank in statuses if statuses[rank]]
    lost = {rank: _read(folder, "lost", rank) for rank in failed}
    for rank in failed:
        words = _read(folder, "words", rank)
        if words:
            return words if rank == 0 else f"rank {rank}: {words}"
    for rank in sorted(failed, key=lambda rank: (statuses[rank] > 0, bool(lost[rank]))):
        status, said = statuses[rank], _read(folder, "output", rank)
        if status < 0:
            return (f"rank {rank} of the training was ended by {signal.Signals(-status).name}, and so the others, too; "
                    "it can go on from its last snapshot")
        if not lost[rank]:
            if not said:
                return f"rank {rank} ended with status {status}"
            sys.stderr.write(f"{said}\n")
            return f"rank {rank} ended with status {status}: {said.splitlines()[-1]}"
    return next(filter(None, lost.values()))


def _file(folder: str, kind: str, rank: Any) -> str:
    return os.path.join(folder, f"{kind}.{rank}")


def _read(folder: str, kind: str, rank: int) -> str:
    with contextlib.suppress(OSError), open(_file(folder, kind, rank), encoding="utf-8", errors="replace") as stream:
        return stream.read().strip()
    return ""
