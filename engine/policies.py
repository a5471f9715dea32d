"""Caffe's learning-rate policies (sgd_solver.cpp): the rate of an iteration, computed in float32 where Caffe does."""
from typing import Any, Callable, Dict, Tuple

import numpy as np

from common import suggestions
from common.errors import UserError


def _step(param: Any, iteration: int, _: int) -> Tuple[float, int]:
    step = iteration // param.stepsize
    return param.base_lr * _power(param.gamma, step), step


def _inv(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    base = np.float32(1) + np.float32(param.gamma) * np.float32(iteration)
    return param.base_lr * _power(base, -param.power), step


def _multistep(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    """At most one step in an iteration, as Caffe: of two equal stepvalues the second one acts an iteration later."""
    if step < len(param.stepvalue) and iteration >= param.stepvalue[step]:
        step += 1
    return param.base_lr * _power(param.gamma, step), step


def _poly(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    left = np.float32(1) - np.float32(iteration) / np.float32(param.max_iter)
    return param.base_lr * _power(left, param.power), step


def _sigmoid(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    with np.errstate(over="ignore"):
        grown = np.exp(-np.float32(param.gamma) * np.float32(iteration - param.stepsize))
    return param.base_lr * (1 / (1 + grown)), step


def _power(base: float, exponent: float) -> float:
    """A power, which is infinite or NaN where Python's would be an error or complex."""
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(base), np.float64(exponent)))


POLICIES: Dict[str, Callable[[Any, int, int], Tuple[float, int]]] = {
    "fixed": lambda param, iteration, step: (param.base_lr, step),
    "step": _step,
    "exp": lambda param, iteration, step: (param.base_lr * _power(param.gamma, iteration), step),
    "inv": _inv,
    "multistep": _multistep,
    "poly": _poly,
    "sigmoid": _sigmoid}


def rate(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    """The learning rate of an iteration, a float32 value, and the step that a solver state records.

    param      a SolverParameter that `check` accepted
    iteration  counted from 0
    step       what the call for the iteration before returned; 0 at first
    """
    value, step = POLICIES[param.lr_policy](param, iteration, step)
    with np.errstate(over="ignore"):
        return float(np.float32(value)), step


def check(param: Any) -> None:
    """Raises UserError for a policy or a setting of it that Caffe refuses."""
    policy = param.lr_policy
    if policy not in POLICIES:
        raise UserError(f"solver: lr_policy: {suggestions.unknown('learning rate policy', policy, POLICIES)}")
    if policy in ("step", "sigmoid") and param.stepsize <= 0:
        raise UserError(f"solver: stepsize {param.stepsize}, expected 1 or more for lr_policy {policy}")
    if policy not in ("fixed", "poly") and param.gamma < 0:
        raise UserError(f"solver: gamma {param.gamma:g}, expected 0 or more for lr_policy {policy}")
