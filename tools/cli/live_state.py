"""Shows the state of a run or of a group of runs, once or until they are trained."""
import contextlib
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Optional, TextIO, Union

from common import progress
from tools.training import groups
from tools.training.groups import Group
from tools.training.progress import remaining, speed
from tools.training.run import Run
from tools.training.run_state import State, Watch


def line(name: str, state: Optional[State]) -> str:
    """One line on a run; None if it has not begun."""
    if state is None:
        return f"{name}: not started"
    parts = ["running" if state.working else "trained" if state.finished else "stopped"]
    parts += [state.position] * bool(state.position)
    parts.append(f"iteration {state.iteration}/{state.total} ({100 * state.iteration / state.total:.0f} %)")
    if state.working and state.rate and not state.finished:
        parts += [remaining((state.work - state.done) / state.rate), speed(state.rate)]
    if state.loss is not None:
        parts.append(f"loss {state.loss:.4g}")
    if state.accuracy and state.best:
        parts.append(f"validation accuracy {100 * state.accuracy[1]:.2f} % at {state.accuracy[0]}, best "
                     f"{100 * state.best[1]:.2f} % at {state.best[0]}")
    if not state.working and not state.finished:
        parts.append(f"`./fer train` continues from {state.continues_from}")
    return f"{name}: {', '.join(parts)}"


def summary(name: str, states: Sequence[Optional[State]]) -> str:
    """One line on a group. A run that has not begun counts as much work as the largest that has."""
    begun = [state for state in states if state]
    text = (f"{name}: {sum(state.finished for state in begun)} of {len(states)} trained, "
            f"{sum(state.working for state in begun)} running")
    rate = sum(state.rate or 0 for state in begun if state.working and not state.finished)
    if rate:
        largest = max(state.work for state in begun)
        left = sum(state.work - state.done if state else largest for state in states)
        text += ", about " + remaining(left / rate)
    return text


def watch(run_or_group: Union[Run, Group], every: float, once: bool = False, stream: TextIO = sys.stdout) -> None:
    """Shows the state every so many seconds until it is interrupted, or all is trained. On a terminal the lines stay in
    one place; elsewhere each change adds lines. Raises UserError if the folder holds no run."""
    watches = [Watch(run) for run in groups.runs(run_or_group)]
    if isinstance(run_or_group, Run):
        run_or_group.require_begun()
    written: list[str] = []
    while True:
        # Later, only what was added to the logs is read.
        with progress.doing("reading the logs") if not written else contextlib.nullcontext():
            states = [each.state() for each in watches]
        if isinstance(run_or_group, Run):
            lines = [line(run_or_group.folder, states[0])]
        else:
            lines = [summary(run_or_group.folder, states)] + [
                line("  " + os.path.relpath(each.run.folder, run_or_group.folder), state)
                for each, state in zip(watches, states)]
        if stream.isatty():
            # Terminals that do not know their size say 0.
            width, height = (size or usual for size, usual in zip(shutil.get_terminal_size(), (80, 24)))
            if written:
                stream.write(f"\x1b[{len(written)}A\x1b[J")
            # Not a column or a row more than there are: the terminal would move what is to be replaced.
            written = [row for text in lines for row in textwrap.wrap(text, width - 1, subsequent_indent="    ")]
            written = written if once else written[:height - 1]
            stream.write("".join(text + "\n" for text in written))
        elif lines != written:
            written = lines
            stream.write("".join(text + "\n" for text in lines))
        stream.flush()
        if once or all(state and state.finished and not state.working for state in states):
            return
        time.sleep(every)
