"""Restart training with adaptive loss weights, [xie2019a] Algorithm 1.

    RUN/rounds/01/training              the round's own training, a segment
    RUN/rounds/01/gsf, .../sift         ALAW: the trials, segments too; measured.json: how they did
    RUN/trials/                         each trial's net and weights, of the last round
    RUN/weighting.json                  what each round trained with, and why

Each restart is a training of its own, whose solver begins without momentum. It begins with the weights that the last
round left, and with its state: the position in the data, the clocks and the centers are blobs of the net.
"""
import functools
import os
from collections.abc import Sequence
from typing import Optional

import numpy as np

from common import children, files
from common.experiment import Experiment
from prototxt import build, nets
from prototxt.builders.parts import Data
from tools.evaluation import forward, predictions
from tools.evaluation.forward import Part
from tools.training import caffe_process, chain
from tools.training.caffe_process import Engine, Segment

HISTORY = "weighting.json"
MEASURED = "measured.json"
FEATURES = ("gsf", "sift")


def amplify(weights: dict[str, float], objectives: dict[str, float], gamma: float, eps: float) -> dict[str, float]:
    """Eq. (10): the weight whose objective is larger by more than eps is multiplied by gamma; then both are
    scaled to sum to 2. Keys: "gsf" (lambda_1) and "sift" (lambda_2)."""
    for feature, other in (FEATURES, FEATURES[::-1]):
        if objectives[feature] > objectives[other] + eps:
            weights = {feature: gamma * weights[feature], other: weights[other]}
            break
    total = sum(weights.values())
    return {feature: 2 * weights[feature] / total for feature in FEATURES}


def sparseness(x: np.ndarray) -> float:
    """The norm of Eq. (11), |x|_1 / sqrt(D) of the L2-normalised rows of x (M, D), averaged over the rows.

    From 1/sqrt(D), one component, to 1, all alike; a zero row counts 0.
    """
    x = x.astype(np.float64)
    norms = np.linalg.norm(x, axis=1)
    return float(np.mean(np.divide(np.abs(x).sum(axis=1), norms, out=np.zeros_like(norms), where=norms > 0)
                         / np.sqrt(x.shape[1])))


def history(run: Segment) -> list[dict]:
    """The finished rounds: "round", "weights" it trained with, and of GSF and SIFT "accuracy", "sparseness" and
    "objective" on the validation part."""
    path = run.path(HISTORY)
    return files.read_json(path)["rounds"][:len(run.snapshots())] if os.path.exists(path) else []


def train(run: Segment, experiment: Experiment, data: Data, validation: Part, weights: Optional[str],
          engine: Engine, processes: int) -> None:
    """All rounds, or those that a killed call did not finish.

    weights: caffemodel of M(0), None for random ones; processes: 2 to have both trials of a round side by side.
    """
    settings = experiment.weighting
    length, kappa = settings["restart_iterations"], settings["kappa"]
    adapt = functools.partial(amplify, gamma=settings["gamma"], eps=settings["eps"])
    finished = history(run)
    current = finished[-1]["weights"] if finished else dict.fromkeys(FEATURES, 1.0)
    for number in range(len(finished) + 1, settings["rounds"] + 1):
        start = (number - 1) * length
        restart = _Restart(run, experiment, data, validation, run.weights_of(start) if start else weights, number)
        if experiment.head["structure"] == "branched":
            if finished:
                current = adapt(current, finished[-1]["objective"])
            segment = restart.train("training", current, engine)
            measured = restart.measure(segment, FEATURES, engine)
        else:
            measured = restart.trials(engine.with_threads(max(1, engine.threads // 2)), processes)
            current = adapt(current, objectives(measured, kappa))
            segment = restart.train("training", current, engine)
        finished.append(dict(round=number, weights=current, objective=objectives(measured, kappa),
                             **{what: {feature: measured[feature][what] for feature in FEATURES}
                                for what in ("accuracy", "sparseness")}))
        files.write_json(run.path(HISTORY), {"rounds": finished})
        restart.keep_trials()
        chain.adopt(run, segment, start, start + length)


def objectives(measured: dict[str, dict[str, float]], kappa: float) -> dict[str, float]:
    """Eq. (11)."""
    return {feature: one["accuracy"] - kappa * one["sparseness"] for feature, one in measured.items()}


def readings(run: Segment, experiment: Experiment) -> dict[str, Sequence[str]]:
    """Feature -> (deploy net, caffemodel, blob of its probabilities) of a finished run: how each feature loss does
    by itself. ALAW: the last round's trial; BLAW: the branch."""
    if experiment.head["structure"] == "branched":
        last = run.weights_of(max(run.snapshots()))
        return {feature: (run.path("deploy.prototxt"), last, prob)
                for feature, (_, prob) in nets.readings(experiment).items()}
    return {feature: (run.path("trials", feature + ".prototxt"), run.path("trials", feature + ".caffemodel"), prob)
            for feature, (_, prob) in nets.readings(experiment).items()}


class _Restart:
    """One round. weights: M(t), None for random ones."""

    def __init__(self, run: Segment, experiment: Experiment, data: Data, validation: Part, weights: Optional[str],
                 number: int):
        self.run, self.experiment, self.data, self.validation = run, experiment, data, validation
        self.weights, self.number = weights, number

    def segment(self, name: str) -> Segment:
        return Segment(self.run.path("rounds", f"{self.number:02d}", name))

    def train(self, name: str, factors: dict[str, float], engine: Engine, tested: bool = True) -> Segment:
        """RestartTrain with (lambda_1, lambda_2) = factors."""
        segment = self.segment(name)
        length = self.experiment.weighting["restart_iterations"]
        solver = dict(self.experiment.solver, max_iter=length,
                      test_interval=min(length, self.experiment.solver["test_interval"]))
        caffe_process.write_definitions(segment, build.definitions(
            self.experiment.weighted(**factors)._replace(solver=solver), self.data, segment.folder,
            caffe_process.snapshot_prefix(segment), tested))
        caffe_process.train(segment, self.weights, engine, "{} round {}/{} {}".format(
            os.path.basename(self.run.folder), self.number, self.experiment.weighting["rounds"], name))
        return segment

    def measure(self, segment: Segment, features: Sequence[str], engine: Engine) -> dict[str, dict[str, float]]:
        """Feature -> "accuracy" and "sparseness" on the validation part, measured once."""
        path = segment.path(MEASURED)
        if not os.path.exists(path):
            files.write_json(path, self._measured(segment, features, engine))
        return files.read_json(path)

    def _measured(self, segment: Segment, features: Sequence[str], engine: Engine) -> dict[str, dict[str, float]]:
        blobs = {feature: nets.readings(self.experiment)[feature] for feature in features}
        found = forward.of_part(self.experiment, self.validation, segment.path("deploy.prototxt"),
                                segment.weights_of(self.experiment.weighting["restart_iterations"]),
                                sorted({name for names in blobs.values() for name in names}), engine)
        measured = {}
        for feature, (block, prob) in blobs.items():
            voted = predictions.vote(self.validation.units, self.validation.labels, self.validation.rows, found[prob])
            measured[feature] = {"accuracy": sum(one.right for one in voted) / len(voted),
                                 "sparseness": sparseness(found[block])}
        return measured

    def trials(self, engine: Engine, processes: int) -> dict[str, dict[str, float]]:
        """ALAW: M(t) trained with GSF alone and with SIFT alone; neither is kept."""
        def trial(feature: str) -> dict[str, dict[str, float]]:
            alone = {one: float(one == feature) for one in FEATURES}
            segment = self.train(feature, alone, engine, tested=False)
            # The mask of Fig. 4: the other block and its weights are nothing to this trial.
            files.write_text(segment.path("deploy.prototxt"), build.text(
                nets.deploy(self.experiment, self.data, only=feature)))
            return self.measure(segment, [feature], engine)
        if processes > 1:
            found = list(children.in_order(processes, lambda: None, (), trial, FEATURES))
        else:
            found = [trial(feature) for feature in FEATURES]
        return {**found[0], **found[1]}

    def keep_trials(self) -> None:
        """Of this round alone, in place of the last one's."""
        for feature in FEATURES:
            segment = self.segment(feature)
            trained = segment.weights_of(self.experiment.weighting["restart_iterations"])
            if os.path.exists(trained):
                os.makedirs(self.run.path("trials"), exist_ok=True)
                os.replace(segment.path("deploy.prototxt"), self.run.path("trials", feature + ".prototxt"))
                os.replace(trained, self.run.path("trials", feature + ".caffemodel"))
                files.remove(segment.path("snapshots"))
