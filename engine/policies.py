"""Caffe's learning-rate policies (sgd_solver.cpp), in float32 where Caffe computes in float32."""
from typing import Any, Callable, Dict, Tuple

import numpy as np

from common import suggestions
from common.errors import UserError


def _step(param: Any, iteration: int, _: int) -> Tuple[float, int]:
    step = iteration // param.stepsize
    return param.base_lr * _power(param.gamma, step), step


def _exp(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    return param.base_lr * _power(param.gamma, iteration), step


def _inv(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    base = np.float32(1) + np.float32(param.gamma) * np.float32(iteration)
    return np.float32(param.base_lr) * np.power(base, np.float32(-param.power)), step


def _multistep(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    """At most one step in an iteration, as Caffe: of two equal stepvalues the second one acts an iteration later."""
    if step < len(param.stepvalue) and iteration >= param.stepvalue[step]:
        step += 1
    return param.base_lr * _power(param.gamma, step), step


def _poly(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    left = np.float32(1) - np.float32(iteration) / np.float32(param.max_iter)
    return np.float32(param.base_lr) * np.power(left, np.float32(param.power)), step


def _sigmoid(param: Any, iteration: int, step: int) -> Tuple[float, int]:
    # NumPy's exp in float32 is one bit off the C library's.
    grown = np.float32(np.exp(np.float64(-np.float32(param.gamma) * np.float32(iteration - param.stepsize))))
    return np.float32(param.base_lr) * (np.float32(1) / (np.float32(1) + grown)), step


def _power(base: float, exponent: int) -> float:
    """In float64, as C++ does for an exponent that is an integer."""
    return np.power(np.float64(base), np.float64(exponent))


POLICIES: Dict[str, Callable[[Any, int, int], Tuple[float, int]]] = {
    "fixed": lambda param, iteration, step: (param.base_lr, step),
    "step": _step,
    "exp": _exp,
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
    with np.errstate(all="ignore"):  # infinite or NaN, as in Caffe
        value, step = POLICIES[param.lr_policy](param, iteration, step)
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
