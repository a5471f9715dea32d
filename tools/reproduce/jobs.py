"""From a published table to the same table, measured: runs what is missing, and sets one beside the other.

    OUT/<table>.md, OUT/<table>.csv          the tables
    OUT/plan.json, OUT/runs, OUT/logs        see tools.reproduce.plan
    OUT/snakemake.log                        of the last call
"""
import contextlib
import datetime
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Optional

from tqdm import tqdm

from common import children, files, locks, suggestions
from common import experiment as experiments
from common.errors import UserError
from common.experiment import ROOT
from data_prep import datasets, prepared_folder
from prototxt.builders import backbones
from tools.evaluation import departures
from tools.reproduce import plan, results, tables
from tools.reproduce.estimate import Estimate, Estimator, machine_memory
from tools.reproduce.plan import Cell, Job, Plan, Request
from tools.reproduce.tables import Entry
from tools.training import groups

LOG = "snakemake.log"
LOCK = ".reproduce.lock"
SNAKEFILE = os.path.join(ROOT, "Snakefile")
POLL_SECONDS = 0.5
# Before Snakemake's command line: its jobs end with it, also where this process is killed.
GUARD = ["sh", "-c", "trap 'kill -9 0' TERM; \"$@\" & wait $!", "sh"]


def run(made: Plan, request: Request, cores: int) -> list[Job]:
    """Does the jobs that are missing, up to `cores` threads at a time and as many as the free memory is enough for,
    and returns those that failed; the others go on without them. Raises UserError where another call is at work in
    the folder, and where a job takes more memory than there is."""
    with _locked(request.out):
        needed = memory(made, request.threads)
        free = _require_memory(made, needed)
        path = plan.write(made, request.out, needed)
        for job in plan.unfinished(made):
            files.remove(job.log)  # an earlier call's
        command = ["snakemake", "--snakefile", SNAKEFILE, "--directory", request.out, "--config", "plan=" + path,
                   "--cores", str(cores), "--resources", f"mem_mb={int(free / 1e6)}", "--keep-going",
                   "--rerun-incomplete", "--nolock"]
        with open(os.path.join(request.out, LOG), "w", encoding="utf-8") as log:
            process = subprocess.Popen(GUARD + command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                                       preexec_fn=functools.partial(children.die_with_parent, signal.SIGTERM))
            try:
                _follow(process, made.jobs)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    failed = [job for job in plan.unfinished(made) if os.path.exists(job.log) and all(map(os.path.exists, job.needs))]
    if process.returncode and not failed:
        raise UserError(f"snakemake ended with status {process.returncode}, see {os.path.join(request.out, LOG)}")
    return failed


def _locked(out: str) -> contextlib.AbstractContextManager[None]:
    files.claim(out, plan.KIND)
    return locks.exclusive(os.path.join(out, LOCK), f"{out}: another `./fer reproduce` is at work in this folder")


def _follow(process: subprocess.Popen, jobs: Sequence[Job]) -> None:
    """A bar on a terminal, else a line for each job that is done."""
    waiting = [job for job in jobs if not job.done]
    with tqdm(total=len(jobs), initial=len(jobs) - len(waiting), unit="job", disable=None, dynamic_ncols=True) as bar:
        while True:
            ended = process.poll() is not None
            for job in [job for job in waiting if job.done]:
                waiting.remove(job)
                bar.update()
                bar.set_postfix_str(job.title)
                if bar.disable:
                    print(f"{len(jobs) - len(waiting)} of {len(jobs)} done: {job.title}", file=sys.stderr)
            if ended:
                return
            time.sleep(POLL_SECONDS)


def failure(job: Job) -> str:
    """One line on a job that failed, with its last words."""
    with open(job.log, encoding="utf-8", errors="replace") as stream:
        words = [line.strip() for line in stream if line.strip()]
    return "failed: {}, see {}{}".format(job.title, job.log, ": " + words[-1] if words else "")


def preview(made: Plan, request: Request, cores: int) -> Iterator[str]:
    """Lines on the jobs that are missing, and what they take."""
    estimator, ends = Estimator(request.threads), {}
    known, free = machine_memory()
    taken: list[Estimate] = []
    failing: set[str] = set()
    for job in made.jobs:
        if job.done:
            yield f"done     {job.title}"
            continue
        if failing & set(job.needs):
            yield f"missing  {job.title}: waits for what will fail"
            continue
        try:
            one = job.work(estimator) if job.work else Estimate(0, 0)
        except UserError as error:
            failing.update(job.makes)
            yield f"missing  {job.title}: will fail: {error}"
            continue
        taken.append(one)
        begin = max((ends.get(path, 0) for path in job.needs), default=0)
        ends.update(dict.fromkeys(job.makes, begin + one.seconds))
        yield f"missing  {job.title}: {_takes(one, known)}"
    for experiment in made.awaited:
        folds = max(1, datasets.protocol(experiment.data).folds)
        one = estimator.expected_training(experiment)
        taken += [one] * folds
        yield "no data  train {}: {}{}".format(
            experiment.name, _takes(one, known), f", of each of {folds} folds" if folds > 1 else "")
    missing = len(list(plan.unfinished(made)))
    # One training has its threads alone, waits for what it begins with, and needs its memory for as long as it takes.
    sums = [sum(one.seconds for one in taken) / max(1, cores // request.threads),
            sum(one.seconds * one.memory for one in taken) / free]
    seconds = max([*sums, *ends.values(), *(one.seconds for one in taken)])
    yield "{} of {} jobs are missing{}: about {} of training on {} core{}, {} of snapshots, {} of memory a job".format(
        missing, len(made.jobs), f", and the data of {len(made.awaited)} experiments" if made.awaited else "",
        _duration(seconds), cores, "s" if cores > 1 else "", files.amount(sum(one.bytes for one in taken)),
        files.amount(max((one.memory for one in taken), default=0)))


def _takes(one: Estimate, memory: int) -> str:
    """memory: of this machine."""
    parts = ["about " + _duration(one.seconds)] * bool(one.seconds) + [files.amount(one.bytes)] * bool(one.bytes)
    return ", ".join(parts + ["{} of memory{}".format(files.amount(one.memory), "" if one.memory <= memory else (
        f", more than the {files.amount(memory)} that this machine has"))])


def memory(made: Plan, threads: int) -> dict[str, int]:
    """Log of each job that is missing -> bytes of memory that it takes; not of those that will fail."""
    estimator, found, failing = Estimator(threads, seconds=0), {}, set()
    for job in plan.unfinished(made):
        try:
            if job.work and not failing & set(job.needs):
                found[job.log] = job.work(estimator).memory
        except UserError:
            failing.update(job.makes)
    return found


def _require_memory(made: Plan, needed: dict[str, int]) -> int:
    """Bytes that are free. Raises UserError where a job takes more than the machine has."""
    there, free = machine_memory()
    for job in made.jobs:
        if needed.get(job.log, 0) > there:
            raise UserError(f"{job.title}: needs about {files.amount(needed[job.log])} of memory, this machine has "
                            f"{files.amount(there)}; --set solver.batch_size=N with a "
                            "smaller batch, or --only without its data set, leaves it out")
    return free


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return str(datetime.timedelta(minutes=round(seconds / 60)))[:-3] + " h"


# ---------------------------------------------------------------- tables

def entries(cells: Sequence[Cell], request: Request) -> list[Entry]:
    return [_entry(cell, request) for cell in cells]


def _entry(cell: Cell, request: Request) -> Entry:
    figure, folder = cell
    if figure.system == "other":
        return Entry(figure)
    if not folder:
        return Entry(figure, why="no data")
    tested = request.data[figure.data] if figure.trained_on else ""
    problem = figure.experiment and results.problem(folder)
    found = None if problem else results.of_figure(figure, folder, tested)
    if not found:
        return Entry(figure, why=problem or "not measured")
    if not figure.experiment:
        return Entry(figure, found, departures=departures.of_data(
            prepared_folder.any_note(folder), figure.data, [figure.column]) + departures.of_count(figure, found.total))
    trained = groups.runs(groups.open_(folder))
    note = prepared_folder.any_note(tested) if tested else None
    return Entry(figure, found, "", departures.of_figure(figure, trained, found.total, note),
                 trained[0].info["weights"] or "")


def notes(made: Plan) -> list[str]:
    """What a reader of the tables must know."""
    templates = sorted({datasets.protocol(name).template for name in made.missing} - {""})
    return (["{} is not there; to make it: {}".format(*item) for item in made.missing.items()]
            + [f"the paper's template, {name}.json, is measured by: ./fer template {name} SOURCE --out {name}.json; "
               "without "
               "--template faces are aligned to the shipped one, and nothing is compared"
               for name in templates]
            + [f"{other} stands in for {name}, so nothing is compared"
               for name, other in made.stand_ins.items()]
            + [f"without the weights of {stage}: its data are not there, or have folds"
               for stage in made.unstaged]
            + ["without weights (--weights), where the paper's net was pretrained ({}): {}".format(
                pretrained, ", ".join(name for name, one in made.without_weights.items() if one == pretrained))
               for pretrained in dict.fromkeys(made.without_weights.values())])


def write_tables(made: Plan, request: Request, keep: bool = True) -> str:
    """The tables as text. keep: writes them into the folder too."""
    said = notes(made)
    texts = []
    for name, cells in made.tables.items():
        table = entries(cells, request)
        if keep:
            files.write_text(os.path.join(request.out, name + ".md"), tables.as_markdown(name, table, said))
            files.write_text(os.path.join(request.out, name + ".csv"), tables.as_csv(table))
        texts.append(tables.as_text(name, table))
    return "\n\n".join(texts)


def request(tables: Sequence[str], data: Sequence[str], out: str, changes: Sequence[str], only: Sequence[str],
            weights: Sequence[str], threads: int) -> Request:
    """data: folders of prepared folders, and SET=FOLDER; weights: FILE, NET=FILE, EXPERIMENT=FILE.

    Raises UserError on a folder or file that is not there, on a prepared folder without its name, on a name that no
    data set, net or experiment has, and on two caffemodels for the same.
    """
    known = _named(data)
    several = known.pop(None, [])
    for folder in several:
        if prepared_folder.is_prepared(folder):
            raise UserError(f"--data {folder}: is a prepared folder itself; give SET={folder}, with the name that "
                            "experiments have "
                            "for the data set")
    sets = {name: os.path.join(os.path.abspath(folder), name) for folder in reversed(several)
            for name in sorted(os.listdir(_existing(folder)))}
    for name in known:
        if name not in plan.data_sets():
            raise UserError(f"--data {name}=...: " + suggestions.unknown(
                "data set", name, sorted(plan.data_sets()), "`./fer experiments` shows the names"))
    sets.update({name: os.path.abspath(_existing(paths[-1])) for name, paths in known.items()})
    return Request(tables, sets, os.path.abspath(out), changes, only, _weights(weights), threads)


def _weights(given: Sequence[str]) -> dict[str, str]:
    """Experiment or net, "" for all others -> caffemodel."""
    known, found = [*experiments.names(), *backbones.BACKBONES], {}
    for one in given:
        name, equals, path = one.partition("=")
        if not equals or (name not in known and os.path.exists(one)):
            name, path = "", one
        elif name not in known:
            raise UserError(f"--weights {one}: " + suggestions.unknown(
                "experiment and no net", name, known, "`./fer experiments` lists them all"))
        if name in found:
            raise UserError("--weights: two files for {}; expected EXPERIMENT=FILE, NET=FILE, and one FILE for all "
                            "others".format(name or "all nets"))
        found[name] = os.path.abspath(_existing(path))
    return found


def _named(given: Sequence[str]) -> dict[Optional[str], list[str]]:
    """Name -> what stands behind it; None: all that has no name before it."""
    found: dict[Optional[str], list[str]] = {}
    for one in given:
        name, equals, path = one.partition("=")
        has_name = equals and os.sep not in name
        found.setdefault(name if has_name else None, []).append(path if has_name else one)
    return found


def _existing(path: str) -> str:
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file or folder")
    return path
