"""What a training schedule is: which trainings make up a run, in which order, and how far they are."""
import abc
import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Optional

from common.experiment import Experiment
from prototxt import build
from prototxt.builders.parts import Data
from tools.evaluation import forward
from tools.training import caffe_process, chain
from tools.training.caffe_process import LOG, Engine, Segment
from tools.training.chain import Span

DEPLOY = "deploy.prototxt"


@dataclass(frozen=True)
class Training:
    """What a schedule trains, with what."""

    run: Segment
    # The prepared data, and their prepare.json.
    data: Data
    note: dict[str, Any]
    # Caffemodel that the run begins with; None for random weights.
    weights: Optional[str]
    engine: Engine
    # How many trainings may run side by side.
    processes: int = 1

    def read(self, split: str) -> forward.Split:
        return forward.read(self.data.root, self.note, split)


@dataclass(frozen=True)
class Progress:
    """How far a run is that has not ended."""

    # What is trained at the moment, such as "round 2/30"; "" if there is only one training.
    position: str
    # Iterations of the run.
    iteration: int
    # Iterations of all trainings of the run, its trials included: made so far, and in total.
    done: int
    work: int
    # Iteration of the run from which a stopped run continues.
    continues_from: int
    # What the run's adopted segments trained, in order.
    adopted: list[Span]
    # Segments that are being trained. They begin at the end of the last adopted one.
    active: list[Segment]


@dataclass(frozen=True)
class Cost:
    """What a run takes, in units that an estimate multiplies by measured times and sizes."""

    # Steps of the solver, trials included.
    steps: int
    # Tests of the solver on the validation split.
    tests: float
    # Images that nets predict, for the schedule to decide how the training continues.
    judged: int
    # Snapshots that stay.
    snapshots: int
    # Whether the solver's state stays beside each of them.
    keeps_states: bool


class Schedule(abc.ABC):
    """The schedule of one experiment. Where a method is not overridden, the run is one training by one solver."""

    # Names of the files and folders that the schedule makes in a run's folder.
    FILES: ClassVar[Sequence[str]] = ()
    # Where the segments are in a run's folder, as a glob pattern; "" if the run is the only one.
    SEGMENTS: ClassVar[str] = ""
    # What its trainings need a validation split for; "" if they do not need one.
    VALIDATED: ClassVar[str] = ""
    # Trainings that go on in the time in which the run's net is trained once.
    trainings = 1

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    @abc.abstractmethod
    def describe(self) -> str:
        """The schedule in words, without a full stop at the end."""

    @abc.abstractmethod
    def train(self, training: Training) -> None:
        """Trains the run to its end. What an earlier call finished is left as it is; the result is byte for byte the
        same."""

    def iterations(self, data: Data) -> int:
        """Iterations of the whole run, without trials."""
        return self.experiment.solver["max_iter"]

    def cost(self, data: Data) -> Cost:
        steps = self.iterations(data)
        return Cost(steps, self._tests(data), 0, -(-steps // (self.experiment.solver.get("snapshot") or steps)), True)

    def _tests(self, data: Data) -> float:
        interval = self.experiment.solver.get("test_interval")
        return self.iterations(data) / interval if data.counts.get("val") and interval else 0

    @property
    def validated_for(self) -> str:
        """What the experiment needs a validation split for; "" if it trains without one as well."""
        return self.VALIDATED or ("the choice of its weights" if self.experiment.passes_on == "best" else "")

    def definitions(self, data: Data, run: Segment) -> dict[str, str]:
        """File name -> text of the definitions in the run's own folder. If the run has several trainings, that is the
        net that predicts: each training has its own others."""
        texts = build.definitions(self.experiment.one_training(), data, run.folder, caffe_process.snapshot_prefix(run))
        return texts if self.experiment.is_one_training else {DEPLOY: texts[DEPLOY]}

    def readings(self, run: Segment) -> dict[str, tuple[str, str, str]]:
        """Of a finished run, loss -> (deploy net, caffemodel, blob of probabilities) that show how this loss does by
        itself; empty if the schedule trains none by itself."""
        return {}

    def progress(self, run: Segment, total: int, iteration_of: Callable[[Segment], int]) -> Progress:
        """How far a run is.

        total: iterations of the run; iteration_of: the iteration that a segment's log has reached.
        """
        adopted = chain.adopted(run)
        start = adopted[-1].end if adopted else 0
        active = self.active(run, adopted)
        own = [iteration_of(segment) for segment in active if self._is_own(segment)]
        saved = max(active[-1].snapshots(), default=0) if active and self.trainings == 1 else 0
        return Progress(
            self._position(len(adopted), [(os.path.basename(segment.folder), iteration_of(segment))
                                          for segment in active]),
            min(total, start + max(own, default=0)),
            self.trainings * start + sum(map(iteration_of, active)), self.trainings * total, start + saved, adopted,
            active)

    def active(self, run: Segment, adopted: Sequence[Span]) -> list[Segment]:
        """The segments that have begun and that the run has not adopted."""
        if not self.SEGMENTS:
            return [run]
        done = {os.path.realpath(span.segment.folder) for span in adopted}
        pattern = os.path.join(glob.escape(run.folder), self.SEGMENTS.format(next=len(adopted) + 1))
        return [Segment(folder) for folder in sorted(glob.glob(pattern))
                if os.path.exists(os.path.join(folder, LOG)) and os.path.realpath(folder) not in done]

    def _is_own(self, segment: Segment) -> bool:
        """Whether a segment trains the run's net, and is no trial."""
        return True

    def _position(self, adopted: int, active: Sequence[tuple[str, int]]) -> str:
        """adopted: how many segments the run has adopted; active: name and iteration of those that are trained."""
        return ""
