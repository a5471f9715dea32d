"""Runs the jobs of a plan by Snakemake, and estimates what they take.

    OUT/plan.json, OUT/runs, OUT/logs        see tools.reproduce.plan
    OUT/snakemake.log                        of the last call
"""
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from tqdm import tqdm

from common import files, locks, machine, signals
from common.errors import UserError
from common.experiment import ROOT
from data_prep import datasets
from tools.reproduce import plan as planning
from tools.reproduce.estimate import Estimate, Estimator
from tools.reproduce.plan import Job, Plan, Request
from tools.training.caffe_process import Engine

LOG = "snakemake.log"
LOCK = ".reproduce.lock"
SNAKEFILE = os.path.join(ROOT, "Snakefile")
POLL_SECONDS = 0.5
# Words before Snakemake's command line: its jobs end with it, even if this process is killed.
GUARD = ["sh", "-c", "trap 'kill -9 0' TERM; \"$@\" & wait $!", "sh"]


# ---------------------------------------------------------------- running

def run(plan: Plan, request: Request, cores: int) -> list[Job]:
    """Does the unfinished jobs and returns those that failed. A failed job does not stop the others.

    As many jobs run side by side as have `cores` threads in all, and as the free memory is large enough for. Raises
    UserError if another call works in the folder, and if a job needs more memory than the machine has.
    """
    with _locked(request.out):
        needed = memory(plan, request.engine)
        free = _require_memory(plan, needed)
        path = planning.write(plan, request.out, needed)
        for job in plan.unfinished:
            files.remove(job.log)  # that of an earlier call
        command = ["snakemake", "--snakefile", SNAKEFILE, "--directory", request.out, "--config", "plan=" + path,
                   "--cores", str(cores), "--resources", f"mem_mb={int(free / 1e6)}", "--keep-going",
                   "--rerun-incomplete", "--nolock"]
        with open(os.path.join(request.out, LOG), "w", encoding="utf-8") as log:
            process = subprocess.Popen(GUARD + command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                                       preexec_fn=functools.partial(signals.die_with_parent, signal.SIGTERM))
            try:
                _follow(process, plan.jobs, request.out)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    failed = [job for job in plan.unfinished if os.path.exists(job.log) and all(map(os.path.exists, job.needs))]
    if process.returncode and not failed:
        raise UserError(f"snakemake ended with status {process.returncode}, see {os.path.join(request.out, LOG)}")
    return failed


def _locked(out: str) -> contextlib.AbstractContextManager[None]:
    files.claim(out, planning.KIND)
    return locks.exclusive(os.path.join(out, LOCK), f"{out}: another `./fer reproduce` works in this folder")


def _follow(process: subprocess.Popen, jobs: Sequence[Job], out: str) -> None:
    """Shows the progress until the process ends: a bar on a terminal, otherwise a line for each finished job. out: the
    folder of the plan."""
    waiting = [job for job in jobs if not job.done]
    with tqdm(total=len(jobs), initial=len(jobs) - len(waiting), unit="job", disable=None, dynamic_ncols=True) as bar:
        if bar.disable and waiting:
            print(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are done; `./fer watch {out}` shows the trainings",
                  file=sys.stderr, flush=True)
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


def last_line(job: Job) -> str:
    """The last line of a job's output; "" if there is none."""
    with open(job.log, encoding="utf-8", errors="replace") as stream:
        return next((line.strip() for line in reversed(stream.readlines()) if line.strip()), "")


# ---------------------------------------------------------------- estimates

@dataclass(frozen=True)
class Step:
    """A job of the preview, or a training whose data are missing."""

    title: str
    # "done", "missing", or "no data".
    state: str
    # None for what is done or will fail.
    estimate: Optional[Estimate] = None
    # Why the job will fail; "" if it will not.
    problem: str = ""
    # How many trainings of this size there are: one for each fold.
    count: int = 1


@dataclass(frozen=True)
class Total:
    """What all unfinished jobs take together."""

    # Seconds until the last job ends.
    seconds: float
    # Bytes of snapshots.
    bytes: int
    # Bytes of memory of the largest job.
    memory: int


def preview(plan: Plan, request: Request) -> Iterator[Step]:
    """The jobs of a plan, with estimates of the unfinished ones, and the trainings whose data are missing."""
    estimator = Estimator(request.engine)
    failing: set[str] = set()
    for job in plan.jobs:
        if job.done:
            yield Step(job.title, "done")
        elif failing & set(job.needs):
            yield Step(job.title, "missing", problem="waits for a job that will fail")
        else:
            try:
                yield Step(job.title, "missing", _estimate(job, estimator))
            except UserError as error:
                failing.update(job.makes)
                yield Step(job.title, "missing", problem=f"will fail: {error}")
    for experiment in plan.awaited:
        yield Step("train " + experiment.name, "no data", estimator.expected_training(experiment),
                   count=max(1, datasets.protocol(experiment.data).folds))


def total(plan: Plan, request: Request, steps: Sequence[Step], cores: int) -> Total:
    """What the steps of `preview` take together on so many cores."""
    ends: dict[str, float] = {}
    for job, step in zip(plan.jobs, steps):
        if step.estimate:
            start = max((ends.get(path, 0) for path in job.needs), default=0)
            ends.update(dict.fromkeys(job.makes, start + step.estimate.seconds))
    estimates = [step.estimate for step in steps for _ in range(step.count) if step.estimate]
    # A training has its threads to itself, waits for the one whose weights it begins with, and needs its memory for as
    # long as it takes.
    work = sum(estimate.seconds for estimate in estimates) / max(1, cores // request.threads)
    memory_work = sum(estimate.seconds * estimate.memory for estimate in estimates) / machine.memory()[1]
    longest = max([*ends.values(), *(estimate.seconds for estimate in estimates)], default=0)
    return Total(max(work, memory_work, longest), sum(estimate.bytes for estimate in estimates),
                 max((estimate.memory for estimate in estimates), default=0))


def memory(plan: Plan, engine: Engine) -> dict[str, int]:
    """Log of each unfinished job -> bytes of memory that it needs, without the jobs that will fail."""
    estimator = Estimator(engine, seconds=0)
    needed: dict[str, int] = {}
    failing: set[str] = set()
    for job in plan.unfinished:
        try:
            if job.work and not failing & set(job.needs):
                needed[job.log] = _estimate(job, estimator).memory
        except UserError:
            failing.update(job.makes)
    return needed


def _estimate(job: Job, estimator: Estimator) -> Estimate:
    return job.work(estimator) if job.work else Estimate(0, 0)


def _require_memory(plan: Plan, needed: dict[str, int]) -> int:
    """The bytes that are free. Raises UserError if a job needs more than the machine has."""
    there, free = machine.memory()
    for job in plan.jobs:
        if needed.get(job.log, 0) > there:
            raise UserError(f"{job.title}: needs about {files.amount(needed[job.log])} of memory, but this machine has "
                            f"{files.amount(there)}; use a smaller batch (--set solver.batch_size=N), or leave its "
                            "data set out (--only)")
    return free
