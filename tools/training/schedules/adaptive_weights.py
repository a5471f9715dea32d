"""Restart training with adaptive loss weights, [xie2019a] Algorithm 1.

    RUN/rounds/01/training              the training of the round itself, a segment
    RUN/rounds/01/<loss>                its trials, where there are any: segments too
    RUN/rounds/01/*/measured.json       how the losses did in a training or trial
    RUN/trials/                         each trial's net and weights, of the last round
    RUN/weighting.json                  what each round trained with, and why

Each round is a training of its own, whose solver begins without momentum. It begins with the weights that the last
round left, and with its state: the position in the data, the clocks and the centers are blobs of the net.

Two losses are adapted. Where the net has its own probabilities for each of them (BLAW), the round's training tells how
they do. Else (ALAW) each has a trial, in which it is trained without the other.
"""
import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from common import children, files
from common.experiment import Experiment
from prototxt import build, nets
from prototxt.builders.parts import Data
from tools.evaluation import forward, predictions
from tools.training import caffe_process, chain
from tools.training.caffe_process import Engine, Segment
from tools.training.schedules.base import DEPLOY, Cost, Schedule, Training

HISTORY = "weighting.json"
MEASURED = "measured.json"
# Name of the segment of a round that is no trial.
OWN = "training"

# Loss -> its accuracy and the sparseness of its features.
Measured = dict[str, dict[str, float]]


def amplify(weights: Mapping[str, float], objectives: Mapping[str, float], gamma: float, eps: float
            ) -> dict[str, float]:
    """Eq. (10): the weight whose objective is larger by more than eps is multiplied by gamma; then both are scaled to
    sum to 2. Keys: the two losses, whose weights are lambda_1 and lambda_2."""
    first, second = weights
    changed = dict(weights)
    for loss, other in ((first, second), (second, first)):
        if objectives[loss] > objectives[other] + eps:
            changed[loss] = gamma * weights[loss]
            break
    total = sum(changed.values())
    return {loss: 2 * weight / total for loss, weight in changed.items()}


def sparseness(x: np.ndarray) -> float:
    """The norm of Eq. (11), |x|_1 / sqrt(D) of the L2-normalised rows of x (M, D), averaged over the rows.

    From 1/sqrt(D), where a row has one component, to 1, where all are alike; a zero row counts 0.
    """
    x = x.astype(np.float64)
    norms = np.linalg.norm(x, axis=1)
    return float(np.mean(np.divide(np.abs(x).sum(axis=1), norms, out=np.zeros_like(norms), where=norms > 0)
                         / np.sqrt(x.shape[1])))


def objectives(measured: Measured, kappa: float) -> dict[str, float]:
    """Eq. (11)."""
    return {loss: values["accuracy"] - kappa * values["sparseness"] for loss, values in measured.items()}


def history(run: Segment) -> list[dict[str, Any]]:
    """The finished rounds: "round", "weights" that it trained with, and "accuracy", "sparseness" and "objective" of
    each loss on the validation split."""
    path = run.path(HISTORY)
    return files.read_json(path)["rounds"][:len(run.snapshots())] if os.path.exists(path) else []


class AdaptiveWeights(Schedule):
    FILES = ("rounds", "trials", HISTORY)
    SEGMENTS = "rounds/{next:02d}/*"
    VALIDATED = "its adaptive loss weights"

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self.settings = experiment.weighting
        # Loss -> the blob whose sparseness counts, and that of its probabilities.
        self.blobs = nets.readings(experiment)
        self.losses = tuple(self.blobs)
        self.has_trials = len({probabilities for _, probabilities in self.blobs.values()}) == 1
        self.trainings = 1 + len(self.losses) if self.has_trials else 1

    def describe(self) -> str:
        return ("{rounds} rounds of {restart_iterations} iterations, after each of which the loss weights are adapted"
                .format(**self.settings) + (", by trials of each loss alone" if self.has_trials else ""))

    def iterations(self, data: Data) -> int:
        return self.settings["rounds"] * self.settings["restart_iterations"]

    def cost(self, data: Data) -> Cost:
        measurements = self.settings["rounds"] * (self.trainings - 1 or 1)
        return Cost(self.iterations(data) * self.trainings, self._tests(data),
                    measurements * data.counts.get("val", 0), self.settings["rounds"], False)

    def train(self, training: Training) -> None:
        run, settings, length = training.run, self.settings, self.settings["restart_iterations"]
        finished = history(run)
        weights = finished[-1]["weights"] if finished else dict.fromkeys(self.losses, 1.0)
        validation = training.read("val")
        for number in range(len(finished) + 1, settings["rounds"] + 1):
            start = (number - 1) * length
            this = Round(self, training, validation, run.weights_of(start) if start else training.weights, number)
            if self.has_trials:
                measured = this.trials()
                weights = amplify(weights, objectives(measured, settings["kappa"]), settings["gamma"], settings["eps"])
                segment = this.train(OWN, weights, training.engine)
            else:
                if finished:
                    weights = amplify(weights, finished[-1]["objective"], settings["gamma"], settings["eps"])
                segment = this.train(OWN, weights, training.engine)
                measured = this.measure(segment, self.losses, training.engine)
            finished.append(dict(round=number, weights=weights, objective=objectives(measured, settings["kappa"]),
                                 **{what: {loss: measured[loss][what] for loss in self.losses}
                                    for what in ("accuracy", "sparseness")}))
            files.write_json(run.path(HISTORY), {"rounds": finished})
            this.keep_trials()
            chain.adopt(run, segment, start, start + length)

    def readings(self, run: Segment) -> dict[str, tuple[str, str, str]]:
        if self.has_trials:
            return {loss: (run.path("trials", loss + ".prototxt"), run.path("trials", loss + ".caffemodel"),
                           probabilities) for loss, (_, probabilities) in self.blobs.items()}
        last = run.weights_of(max(run.snapshots()))
        return {loss: (run.path(DEPLOY), last, probabilities) for loss, (_, probabilities) in self.blobs.items()}

    def _is_own(self, segment: Segment) -> bool:
        return os.path.basename(segment.folder) == OWN

    def _position(self, adopted: int, active: Sequence[tuple[str, int]]) -> str:
        at_work = ", ".join(f"{name} {iteration}" for name, iteration in active)
        return f"round {adopted + 1}/{self.settings['rounds']}{(f' ({at_work})' if at_work else '')}"


class Round:
    """One round of a run."""

    def __init__(self, schedule: AdaptiveWeights, training: Training, validation: forward.Split,
                 weights: Optional[str], number: int) -> None:
        """weights: M(t) of Algorithm 1, the caffemodel that the round begins with, None for random weights; number:
        of the round, from 1."""
        self.schedule, self.training, self.validation = schedule, training, validation
        self.experiment, self.length = schedule.experiment, schedule.settings["restart_iterations"]
        self.weights, self.number = weights, number

    def segment(self, name: str) -> Segment:
        return Segment(self.training.run.path("rounds", f"{self.number:02d}", name))

    def train(self, name: str, factors: Mapping[str, float], engine: Engine, tested: bool = True) -> Segment:
        """RestartTrain with (lambda_1, lambda_2) = factors."""
        segment = self.segment(name)
        solver = dict(self.experiment.solver, max_iter=self.length,
                      test_interval=min(self.length, self.experiment.solver["test_interval"]))
        caffe_process.write_definitions(segment, build.definitions(
            dataclasses.replace(self.experiment.one_training(**factors), solver=solver), self.training.data,
            segment.folder, caffe_process.snapshot_prefix(segment), tested))
        caffe_process.train(segment, self.weights, engine, "{} round {}/{} {}".format(
            os.path.basename(self.training.run.folder), self.number, self.schedule.settings["rounds"], name))
        return segment

    def measure(self, segment: Segment, losses: Sequence[str], engine: Engine) -> Measured:
        """Loss -> "accuracy" and "sparseness" on the validation split, measured once."""
        path = segment.path(MEASURED)
        if not os.path.exists(path):
            files.write_json(path, self._measured(segment, losses, engine))
        return files.read_json(path)

    def _measured(self, segment: Segment, losses: Sequence[str], engine: Engine) -> Measured:
        samples, blobs = self.validation, {loss: self.schedule.blobs[loss] for loss in losses}
        outputs = forward.of_split(self.experiment, samples, segment.path(DEPLOY), segment.weights_of(self.length),
                                  sorted({blob for pair in blobs.values() for blob in pair}), engine)
        measured = {}
        for loss, (features, probabilities) in blobs.items():
            votes = predictions.vote(samples.units, samples.labels, samples.rows, outputs[probabilities])
            measured[loss] = {"accuracy": sum(vote.right for vote in votes) / len(votes),
                              "sparseness": sparseness(outputs[features])}
        return measured

    def trials(self) -> Measured:
        """M(t) trained with each loss alone, side by side if two processes may run, each on a card of its own if there
        are several. Their weights are not used."""
        devices = itertools.cycle(self.training.engine.device.each())
        threads = max(1, self.training.engine.threads // 2)
        engines = {loss: Engine(threads, device) for loss, device in zip(self.schedule.losses, devices)}

        def trial(loss: str) -> Measured:
            engine = engines[loss]
            alone = {name: float(name == loss) for name in self.schedule.losses}
            segment = self.train(loss, alone, engine, tested=False)
            # The mask of Fig. 4: the other block and its weights do not count in this trial.
            files.write_text(segment.path(DEPLOY), build.text(
                nets.deploy(self.experiment, self.training.data, only=loss)))
            return self.measure(segment, [loss], engine)
        processes = self.training.processes
        measured = (children.in_order(processes, lambda: None, (), trial, self.schedule.losses) if processes > 1
                    else map(trial, self.schedule.losses))
        return {loss: values for of_trial in measured for loss, values in of_trial.items()}

    def keep_trials(self) -> None:
        """Of this round alone, in place of the last one's."""
        run = self.training.run
        for loss in self.schedule.losses:
            segment = self.segment(loss)
            trained = segment.weights_of(self.length)
            if os.path.exists(trained):
                os.makedirs(run.path("trials"), exist_ok=True)
                os.replace(segment.path(DEPLOY), run.path("trials", loss + ".prototxt"))
                os.replace(trained, run.path("trials", loss + ".caffemodel"))
                files.remove(segment.path("snapshots"))
