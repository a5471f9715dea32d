"""The engine's solver against Caffe's: weights, log lines, tests, requests."""
import itertools

import numpy as np
import pytest

from common.errors import UserError
from engine import solver, solver_param

from . import training

TYPES = {"SGD": "momentum: 0.9 base_lr: 0.1", "Nesterov": "momentum: 0.9 base_lr: 0.1", "AdaGrad": "base_lr: 0.1",
         "RMSProp": "rms_decay: 0.9 base_lr: 0.01 delta: 1e-3", "AdaDelta": "momentum: 0.95 delta: 1e-6 base_lr: 1",
         "Adam": "momentum: 0.9 momentum2: 0.99 base_lr: 0.02"}
POLICIES = ['"fixed"', '"step" stepsize: 6 gamma: 0.5']


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("more", [
    "", "weight_decay: 0.05", 'weight_decay: 0.05 regularization_type: "L1"', "iter_size: 3",
    "clip_gradients: 0.4", "iter_size: 2 clip_gradients: 0.4 weight_decay: 0.05"])
@pytest.mark.parametrize("policy", POLICIES)
def test_weights_after_20_iterations_are_those_of_caffe(tmp_path, kind, more, policy):
    path = training.write(tmp_path, f'type: "{kind}" lr_policy: {policy} {TYPES[kind]} {more}')
    caffes = training.in_caffe(path)
    ours = training.in_engine(path, caffes)
    before = training.weights(caffes)
    caffes.step(20)
    ours.step(20)
    assert training.difference(before, training.weights(caffes)) > 0.01
    assert training.difference(training.weights(ours), training.weights(caffes)) <= 1e-5
