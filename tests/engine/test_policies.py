"""The learning rates against those of Caffe's own solver, and corners by hand."""
import math

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from engine import messages, policies

from . import training

# Its gradient is 1, so from 0 one step of SGD ends at minus the rate.
NET = """
layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 1 } } }
layer { name: "loss" type: "Reduction" bottom: "w" top: "loss" loss_weight: 1 }
"""


def parsed(text):
    return text_format.Parse(text, messages.SolverParameter())


def caffes(folder, text, iterations):
    solver = training.in_caffe(training.write(folder, text, NET))
    weight, rates = solver.net.params["w"][0], []
    for _ in range(iterations):
        weight.data[...] = 0
        solver.step(1)
        rates.append(-float(weight.data[0]))
    return rates


def ours(text, iterations):
    rates, step = [], 0
    for iteration in range(iterations):
        rate, step = policies.rate(parsed(text), iteration, step)
        rates.append(rate)
    return rates


@pytest.mark.parametrize("text", [
    'lr_policy: "fixed" base_lr: 0.3',
    'lr_policy: "step" base_lr: 0.3 gamma: 0.7 stepsize: 3',
    'lr_policy: "step" base_lr: 0.3 gamma: 1.5 stepsize: 1',
    'lr_policy: "exp" base_lr: 0.3 gamma: 0.93',
    'lr_policy: "inv" base_lr: 0.3 gamma: 0.1 power: 0.75',
    'lr_policy: "multistep" base_lr: 0.3 gamma: 0.1 stepvalue: 2 stepvalue: 5 stepvalue: 6',
    'lr_policy: "multistep" base_lr: 0.3 gamma: 0.1 stepvalue: 0 stepvalue: 4 stepvalue: 4',
    'lr_policy: "multistep" base_lr: 0.3 gamma: 0.1',
    'lr_policy: "poly" base_lr: 0.3 power: 0.9 max_iter: 20',
    'lr_policy: "poly" base_lr: 0.3 power: 2 max_iter: 12',
    'lr_policy: "sigmoid" base_lr: 0.3 gamma: 0.4 stepsize: 6',
    'lr_policy: "step" base_lr: 0.3 stepsize: 3'])
def test_rates_are_those_of_caffe_bit_by_bit(tmp_path, text):
    assert ours(text, 12) == caffes(tmp_path, text, 12)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(policy=st.sampled_from(("step", "exp", "inv", "multistep", "poly", "sigmoid")),
       base=st.floats(2 ** -13, 10, width=32), gamma=st.floats(0, 2, width=32), power=st.floats(-1, 3, width=32),
       size=st.integers(1, 9))
def test_drawn_rates_are_those_of_caffe(tmp_path_factory, policy, base, gamma, power, size):
    text = (f'lr_policy: "{policy}" base_lr: {base!r} gamma: {gamma!r} power: {power!r} stepsize: {size} max_iter: 9 '
            f"stepvalue: {size} stepvalue: {2 * size}")
    np.testing.assert_allclose(ours(text, 9), caffes(tmp_path_factory.mktemp("drawn"), text, 9), rtol=2e-7)


def test_corners_by_hand():
    assert ours('lr_policy: "step" base_lr: 1 gamma: 0.5 stepsize: 2', 5) == [1, 1, .5, .5, .25]
    # Of two equal stepvalues the second acts an iteration later.
    assert ours('lr_policy: "multistep" base_lr: 1 gamma: 0.5 stepvalue: 1 stepvalue: 1', 4) == [1, .5, .25, .25]
    assert ours('lr_policy: "poly" base_lr: 1 power: 2 max_iter: 2', 3) == [1, .25, 0]
    assert ours('lr_policy: "sigmoid" base_lr: 1 gamma: 3 stepsize: 1', 2)[1] == .5
    # Caffe's float32 overflows, and so it goes on.
    assert math.isinf(policies.rate(parsed('lr_policy: "exp" base_lr: 1 gamma: 10'), 1000, 0)[0])
    assert math.isnan(policies.rate(parsed('lr_policy: "poly" base_lr: 1 power: 0.5 max_iter: 2'), 3, 0)[0])


def test_the_step_is_what_a_solver_state_records():
    assert policies.rate(parsed('lr_policy: "step" base_lr: 1 gamma: 0.5 stepsize: 2'), 5, 0)[1] == 2
    assert policies.rate(parsed('lr_policy: "exp" base_lr: 1 gamma: 0.5'), 5, 3)[1] == 3
    # From a state of another file: one step an iteration, as Caffe.
    assert policies.rate(parsed('lr_policy: "multistep" base_lr: 1 gamma: 0.5 stepvalue: 1 stepvalue: 2'), 5, 0) == (
        .5, 1)


@pytest.mark.parametrize("text, message", [
    ('lr_policy: "stepp"', "solver: lr_policy: there is no learning rate policy 'stepp'; did you mean step?"),
    ("", "there is no learning rate policy ''"),
    ('lr_policy: "step" gamma: 1', "stepsize 0, expected 1 or more for lr_policy step"),
    ('lr_policy: "sigmoid" gamma: 1', "stepsize 0, expected 1 or more"),
    ('lr_policy: "inv" gamma: -1', "gamma -1, expected 0 or more for lr_policy inv"),
    ('lr_policy: "multistep" gamma: -1', "gamma -1")])
def test_refused(text, message):
    with pytest.raises(UserError) as error:
        policies.check(parsed(text))
    assert message in str(error.value)


def test_a_policy_without_gamma_ignores_it():
    policies.check(parsed('lr_policy: "poly" gamma: -1'))
    policies.check(parsed('lr_policy: "fixed" gamma: -1'))
