"""The arithmetic of Caffe's solvers: gradients to changes of the weights (src/caffe/solvers).

It works on lists of tensors by `torch._foreach_*`: on a card one kernel for all parameters with the same factors. On
the processor each parameter goes alone through all operations, while it is in the cache; that takes half the time.
"""
import math
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch

from common import suggestions
from common.errors import UserError

from .net import Parameter

Tensors = List[torch.Tensor]


class Update:
    """How one type of solver changes weights. `COUNT`: how many histories a parameter has."""

    COUNT = 1
    MOMENTUM = True  # whether Caffe lets it have one

    def __init__(self, param: Any):
        """param: the SolverParameter. Raises UserError for what Caffe refuses."""
        self.momentum, self.delta, self.param = param.momentum, param.delta, param
        if param.momentum and not self.MOMENTUM:
            raise UserError(f"solver: momentum {param.momentum:g}, but {param.type} has none, expected 0")

    def apply(self, weights: Tensors, gradients: Tensors, histories: Sequence[Tensors], rate: float,
              iteration: int) -> None:
        """Changes the weights and the histories in place; may change the gradients."""
        raise NotImplementedError


class SGD(Update):
    """The rate is inside the history, so a new rate does not change the momentum of the steps before."""

    def apply(self, weights, gradients, histories, rate, iteration):
        torch._foreach_mul_(histories[0], self.momentum)
        torch._foreach_add_(histories[0], gradients, alpha=rate)
        torch._foreach_sub_(weights, histories[0])


class Nesterov(Update):
    """w -= (1 + momentum) h - momentum h before."""

    def apply(self, weights, gradients, histories, rate, iteration):
        torch._foreach_mul_(histories[0], self.momentum)
        torch._foreach_add_(weights, histories[0])
        torch._foreach_add_(histories[0], gradients, alpha=rate)
        torch._foreach_sub_(weights, histories[0], alpha=1 + self.momentum)


class AdaGrad(Update):
    """delta is added to the square root of the sum of squares."""

    MOMENTUM = False

    def apply(self, weights, gradients, histories, rate, iteration):
        torch._foreach_addcmul_(histories[0], gradients, gradients, 1)
        _divide(weights, gradients, histories[0], self.delta, rate)


class RMSProp(Update):
    """delta is added to the square root of the mean of squares, whose memory is rms_decay."""

    MOMENTUM = False

    def __init__(self, param: Any):
        super().__init__(param)
        if not 0 <= param.rms_decay < 1:
            raise UserError(f"solver: rms_decay {param.rms_decay:g}, expected at least 0 and less than 1")

    def apply(self, weights, gradients, histories, rate, iteration):
        _mean_of_squares(histories[0], gradients, self.param.rms_decay)
        _divide(weights, gradients, histories[0], self.delta, rate)


class AdaDelta(Update):
    """`momentum` is the memory of both histories, and delta is inside the square roots."""

    COUNT = 2

    def apply(self, weights, gradients, histories, rate, iteration):
        of_gradients, of_changes = histories
        _mean_of_squares(of_gradients, gradients, self.momentum)
        ratios = torch._foreach_add(of_changes, self.delta)
        torch._foreach_div_(ratios, torch._foreach_add(of_gradients, self.delta))
        torch._foreach_sqrt_(ratios)
        torch._foreach_mul_(ratios, gradients)
        _mean_of_squares(of_changes, ratios, self.momentum)
        torch._foreach_sub_(weights, ratios, alpha=rate)


class Adam(Update):
    """delta is added to the uncorrected square root of v, and the rate is corrected instead."""

    COUNT = 2

    def apply(self, weights, gradients, histories, rate, iteration):
        means, squares = histories
        beta1, beta2 = self.momentum, self.param.momentum2
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        _mean_of_squares(squares, gradients, beta2)
        correction = math.sqrt(1 - beta2 ** (iteration + 1)) / (1 - beta1 ** (iteration + 1))
        _divide(weights, means, squares, self.delta, rate * correction)


def _mean_of_squares(history: Tensors, values: Tensors, memory: float) -> None:
    torch._foreach_mul_(history, memory)
    torch._foreach_addcmul_(history, values, values, 1 - memory)


def _divide(weights: Tensors, changes: Tensors, squares: Tensors, delta: float, rate: float) -> None:
    """w -= rate * change / (sqrt(square) + delta)"""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    torch._foreach_addcdiv_(weights, changes, roots, -rate)


TYPES: Dict[str, Any] = {"SGD": SGD, "Nesterov": Nesterov, "AdaGrad": AdaGrad, "RMSProp": RMSProp,
                         "AdaDelta": AdaDelta, "Adam": Adam}
REGULARIZATIONS = ("L2", "L1")


class Updater:
    """Changes a net's parameters by their gradients.

    history  the tensors that a solver state records, in Caffe's order: the first ones of all parameters, then the
             second ones
    """

    def __init__(self, parameters: Sequence[Parameter], param: Any):
        """parameters: a net's; param: the SolverParameter. Raises UserError for settings that Caffe refuses."""
        if param.type not in TYPES:
            raise UserError(f"solver: {suggestions.unknown('type of solver', param.type, TYPES)}")
        if param.regularization_type not in REGULARIZATIONS:
            raise UserError("solver: regularization_type: "
                            + suggestions.unknown("regularization", param.regularization_type, REGULARIZATIONS))
        self._update: Update = TYPES[param.type](param)
        self._parameters, self._param = list(parameters), param
        self.history = [torch.zeros_like(one.blob, requires_grad=False)
                        for _ in range(self._update.COUNT) for one in parameters]
        groups: Dict[Tuple[float, float, int], List[int]] = {}
        for number, one in enumerate(parameters):
            alone = number if one.blob.device.type == "cpu" else 0
            groups.setdefault((one.rate, one.decay, alone), []).append(number)
        self._groups = [(rate, decay, numbers) for (rate, decay, _), numbers in groups.items()]

    @torch.no_grad()
    def apply(self, rate: float, iteration: int, say: Callable[[str, str], None]) -> None:
        """One update; afterwards the parameters have no gradients. say: is called as `log.info` is."""
        # A parameter without a gradient has one of 0: Caffe lets decay and momentum act on it.
        gradients = [torch.zeros_like(one.blob) if one.blob.grad is None else one.blob.grad
                     for one in self._parameters]
        if self._param.clip_gradients >= 0:
            self._clip(gradients, say)
        if self._param.iter_size > 1:
            torch._foreach_mul_(gradients, 1 / self._param.iter_size)
        for rate_factor, decay_factor, numbers in self._groups:
            weights, ours = [self._parameters[at].blob for at in numbers], [gradients[at] for at in numbers]
            self._decay(weights, ours, self._param.weight_decay * decay_factor)
            histories = [[self.history[start + at] for at in numbers]
                         for start in range(0, len(self.history), len(gradients))]
            self._update.apply(weights, ours, histories, rate * rate_factor, iteration)
        for one in self._parameters:
            one.blob.grad = None

    def _clip(self, gradients: Tensors, say: Callable[[str, str], None]) -> None:
        """Scales all gradients down to the norm `clip_gradients`, before they are divided by iter_size."""
        flat = [one.reshape(-1) for one in gradients]
        norm, most = float(torch.stack([one.dot(one) for one in flat]).sum().sqrt()), self._param.clip_gradients
        if norm > most:
            say("sgd_solver.cpp:99", f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {most:g}) "
                f"by scale factor {most / norm:g}")
            torch._foreach_mul_(gradients, most / norm)

    def _decay(self, weights: Tensors, gradients: Tensors, decay: float) -> None:
        if decay and self._param.regularization_type == "L2":
            torch._foreach_add_(gradients, weights, alpha=decay)
        elif decay:
            torch._foreach_add_(gradients, [one.sign() for one in weights], alpha=decay)
