"""Shows the state of a run or of a group of runs, once or until they are trained."""
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Optional, TextIO, Union

from tools.training import groups
from tools.training.groups import Group
from tools.training.progress import remaining, speed
from tools.training.run import Run
from tools.training.run_state import State, Watch


def line(name: str, state: Optional[State]) -> str:
    if state is None:
        return f"{name}: not begun"
    parts = ["at work" if state.working else "trained" if state.finished else "stopped"]
    parts += [state.stage] * bool(state.stage)
    parts.append(f"iteration {state.iteration}/{state.total} ({100 * state.iteration / state.total:.0f} %)")
    if state.working and state.rate and not state.finished:
        parts += [remaining((state.work - state.done) / state.rate), speed(state.rate)]
    if state.loss is not None:
        parts.append(f"loss {state.loss:.4g}")
    if state.accuracy:
        parts.append(f"validation accuracy {100 * state.accuracy[1]:.2f} % at {state.accuracy[0]}, best "
                     f"{100 * state.best[1]:.2f} % at {state.best[0]}")
    if not state.working and not state.finished:
        parts.append(f"`./fer train` goes on from {state.goes_on_from}")
    return "{}: {}".format(name, ", ".join(parts))


def summary(name: str, states: Sequence[Optional[State]]) -> str:
    """Of a group. What has not begun counts as the largest that has."""
    begun = [state for state in states if state]
    text = (f"{name}: {sum(state.finished for state in begun)} of {len(states)} trained, "
            f"{sum(state.working for state in begun)} at work")
    rate = sum(state.rate or 0 for state in begun if state.working and not state.finished)
    if rate:
        largest = max(state.work for state in begun)
        left = sum(state.work - state.done if state else largest for state in states)
        text += ", about " + remaining(left / rate)
    return text


def watch(one: Union[Run, Group], every: float, once: bool = False, stream: TextIO = sys.stdout) -> None:
    """Shows the state until it is interrupted, or all is trained; on a terminal in one place, else a line for each
    change. Raises UserError where the folder holds no run."""
    watches = [Watch(run) for run in groups.runs(one)]
    if isinstance(one, Run):
        one.require_begun()
    shown: list[str] = []
    while True:
        states = [each.state() for each in watches]
        if isinstance(one, Run):
            lines = [line(one.folder, states[0])]
        else:
            lines = [summary(one.folder, states)] + [line("  " + os.path.relpath(each.run.folder, one.folder), state)
                                                     for each, state in zip(watches, states)]
        if stream.isatty():
            # Terminals that do not know their size say 0.
            width, height = (given or usual for given, usual in zip(shutil.get_terminal_size(), (80, 24)))
            if shown:
                stream.write(f"\x1b[{len(shown)}A\x1b[J")
            # Not a column or a row more than there are: the terminal would move what is to be replaced.
            shown = [row for text in lines for row in textwrap.wrap(text, width - 1, subsequent_indent="    ")]
            shown = shown if once else shown[:height - 1]
            stream.write("".join(text + "\n" for text in shown))
        elif lines != shown:
            shown = lines
            stream.write("".join(text + "\n" for text in lines))
        stream.flush()
        if once or all(state and state.finished and not state.working for state in states):
            return
        time.sleep(every)
