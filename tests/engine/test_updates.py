"""The update rules on one number, worked by hand, and what they share."""
import math

import pytest
import torch
from google.protobuf import text_format

from engine import messages, updates
from engine.net import Parameter


def parameter(value, gradient, rate=1.0, decay=1.0):
    blob = torch.tensor([value])
    blob.requires_grad_(rate != 0)
    blob.grad = None if gradient is None else torch.tensor([float(gradient)])
    return Parameter(blob, "layer", 0, rate, decay)


def updater(text, *parameters):
    return updates.Updater(parameters, text_format.Parse(text, messages.SolverParameter()))


def run(text, gradients, rates, value=1.0):
    """The weight after each update."""
    one = parameter(value, None)
    made = updater(text, one)
    weights = []
    for iteration, (gradient, rate) in enumerate(zip(gradients, rates)):
        one.blob.grad = torch.tensor([float(gradient)])
        made.apply(rate, iteration, None)
        assert one.blob.grad is None
        weights.append(one.blob.item())
    return weights, [float(history) for history in made.history]


def test_sgd_keeps_the_rate_in_its_history():
    # h: 0.5, then 0.5 * 0.5 + 0.1; torch's rule would give 0.1 * (0.5 + 1) = 0.15.
    weights, history = run("momentum: 0.5", [1, 1], [.5, .1])
    assert weights == pytest.approx([.5, .15]) and history == pytest.approx([.35])


def test_nesterov():
    # h: 0.5, 0.35. Change: 1.5 * 0.5 - 0.5 * 0 = 0.75, then 1.5 * 0.35 - 0.5 * 0.5 = 0.275.
    weights, history = run('type: "Nesterov" momentum: 0.5', [1, 1], [.5, .1])
    assert weights == pytest.approx([.25, -.025]) and history == pytest.approx([.35])


def test_adagrad_adds_delta_to_the_root():
    weights, history = run('type: "AdaGrad" delta: 1', [3, 4], [.4, .6])
    assert weights == pytest.approx([1 - .4 * 3 / 4, .7 - .6 * 4 / 6]) and history == pytest.approx([25])


def test_rmsprop():
    weights, history = run('type: "RMSProp" rms_decay: 0.75 delta: 1', [2, 2], [.4, .4])
    root = math.sqrt(.75 * 1 + .25 * 4)
    assert weights == pytest.approx([1 - .4 * 2 / 2, .6 - .4 * 2 / (root + 1)]) and history == pytest.approx([1.75])


def test_adadelta_has_delta_inside_the_roots():
    weights, history = run('type: "AdaDelta" momentum: 0.5 delta: 0.1', [2], [.5])
    change = 2 * math.sqrt(.1 / (2 + .1))
    assert weights == pytest.approx([1 - .5 * change]) and history == pytest.approx([2, .5 * change ** 2])


def test_adam_corrects_the_rate_and_not_the_root():
    weights, history = run('type: "Adam" momentum: 0.9 momentum2: 0.99 delta: 0.5', [2, 2], [.1, .1])
    first = .1 * math.sqrt(.01) / .1 * .2 / (math.sqrt(.04) + .5)
    second = .1 * math.sqrt(1 - .99 ** 2) / (1 - .81) * .38 / (math.sqrt(.0796) + .5)
    assert weights == pytest.approx([1 - first, 1 - first - second]) and history == pytest.approx([.38, .0796])


def test_the_order_is_clip_divide_decay():
    one, other = parameter(2.0, 30.0), parameter(-1.0, 40.0, rate=2.0, decay=0.0)
    lines = []
    updater("clip_gradients: 5 iter_size: 2 weight_decay: 0.5", one, other).apply(
        .1, 0, lambda *line: lines.append(line))
    # 30, 40 -> 3, 4 -> 1.5, 2 -> 1.5 + 0.5 * 2, 2
    assert [one.blob.item(), other.blob.item()] == pytest.approx([2 - .1 * 2.5, -1 - .1 * 2 * 2])
    assert lines == [("sgd_solver.cpp:99", "Gradient clipping: scaling down gradients (L2 norm 50 > 5) by scale factor "
                                           "0.1")]


@pytest.mark.parametrize("limit, expected", [(-1, -9.0), (10, -9.0), (0, 1.0)])
def test_gradients_up_to_the_limit_are_not_scaled(limit, expected):
    one, lines = parameter(1.0, 10.0), []
    updater(f"clip_gradients: {limit}", one).apply(1, 0, lambda *line: lines.append(line))
    assert one.blob.item() == expected and bool(lines) == (limit == 0)


@pytest.mark.parametrize("value, expected", [(2.0, 1.95), (-2.0, -1.95), (0.0, 0.0)])
def test_l1_pulls_by_the_sign(value, expected):
    one = parameter(value, 0.0)
    updater('regularization_type: "L1" weight_decay: 0.5', one).apply(.1, 0, None)
    assert one.blob.item() == pytest.approx(expected)


def test_a_parameter_without_a_gradient_decays_and_one_with_rate_0_stays():
    free, frozen = parameter(2.0, None), parameter(2.0, None, rate=0.0)
    made = updater('type: "Adam" weight_decay: 0.5 momentum: 0.9', free, frozen)
    made.apply(.1, 0, None)
    assert free.blob.item() < 2 and frozen.blob.item() == 2
    # As in Caffe, its history has the decay.
    assert float(made.history[1]) == pytest.approx(.1)


@pytest.mark.parametrize("kind", updates.TYPES)
def test_many_parameters_at_once_are_each_alone(kind):
    """On a card all of them go through an operation together."""
    rule = updates.TYPES[kind](text_format.Parse(f'type: "{kind}"', messages.SolverParameter()))
    drawn = torch.Generator().manual_seed(0)
    starts = [[torch.rand(3, generator=drawn) for _ in range(3)] for _ in range(2 + rule.COUNT)]
    together = [[one.clone() for one in many] for many in starts]
    rule.apply(together[0], together[1], together[2:], .1, 4)
    for number in range(3):
        alone = [[many[number].clone()] for many in starts]
        rule.apply(alone[0], alone[1], alone[2:], .1, 4)
        assert all(torch.equal(many[number], one[0]) for many, one in zip([together[0], *together[2:]],
                                                                          [alone[0], *alone[2:]]))


def test_histories_are_in_the_order_of_the_parameters():
    parameters = [parameter(1.0, 1.0), parameter(1.0, 2.0, rate=0.5), parameter(1.0, 3.0)]
    made = updater('type: "Adam" momentum: 0.9 momentum2: 0.9', *parameters)
    made.apply(.1, 0, None)
    assert [float(one) for one in made.history] == pytest.approx([.1, .2, .3, .1, .4, .9])
