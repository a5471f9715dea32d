"""What a training shows: a bar on a terminal, and in a log lines that are few."""
import io
import sys
import time

import pytest

from common import progress
from tools.training.progress import TrainingProgress, remaining, speed


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(iterations, seconds_each, validate_every=None, clock=None, **options):
    """Shows each iteration's loss, and a validation accuracy that rises by a thousandth an iteration."""
    clock = clock or Clock()
    with TrainingProgress("a run", iterations, clock=clock, **options) as shown:
        for iteration in range(iterations + 1):
            if validate_every and iteration % validate_every == 0:
                shown.accuracy(iteration / 1000)
            shown.loss(iteration, 2.0 - iteration / iterations)
            clock.now += seconds_each


def test_lines_by_hand(capsys):
    train(300, 1, validate_every=30)
    lines = capsys.readouterr().err.splitlines()
    # Caffe validates before it begins, too.
    assert [line.split(",")[0] for line in lines] == [
        f"a run: iteration {iteration}/300" for iteration in [10] + list(range(30, 301, 30))]
    assert lines[1] == "a run: iteration 30/300, loss 1.9, validation accuracy 3.00 %, 1 it/s, 0:04:30 left"


def test_without_validation_a_line_a_minute(capsys):
    train(300, 1)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"a run: iteration {iteration}/300" for iteration in range(60, 301, 60)]


def test_a_short_training_says_nothing(capsys):
    train(8, 1, validate_every=1)
    assert capsys.readouterr().err == ""


def test_days_are_no_flood(capsys):
    train(40000, 10, validate_every=2)
    assert 500 < len(capsys.readouterr().err.splitlines()) < 2500


def test_the_rate_leaves_the_start_out(capsys):
    """Half an hour until the first loss, and an earlier call's iterations, are not iterations at that rate."""
    clock = Clock()
    with TrainingProgress("a run", 1000, done=500, accuracy=.5, clock=clock) as shown:
        clock.now += 1800
        shown.loss(500, 1.5)
        clock.now += 70
        shown.loss(640, 1.25)
    assert capsys.readouterr().err.splitlines() == [
        "a run: iteration 500/1000, loss 1.5, validation accuracy 50.00 %",
        "a run: iteration 640/1000, loss 1.25, validation accuracy 50.00 %, 2 it/s, 0:03:00 left"]


def test_a_failure_before_the_first_loss_is_what_is_raised(capsys):
    clock = Clock()
    with pytest.raises(ValueError, match="the loss is nan"):
        with TrainingProgress("a run", 1000, clock=clock) as shown:
            clock.now += 600
            shown.accuracy(.125)
            raise ValueError("the loss is nan")
    assert capsys.readouterr().err == "a run: iteration 0/1000, validation accuracy 12.50 %\n"


def test_a_training_without_a_line_yet_is_named(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENT", 0.05)
    clock = Clock()
    with TrainingProgress("a run", 1000, done=500, clock=clock) as shown:
        time.sleep(0.5)
        assert capsys.readouterr().err == "a run: 500/1000 ...\n"
        clock.now += 100
        shown.loss(501, 1.5)
    with TrainingProgress("a run", 1000, clock=clock) as shown:
        clock.now += 100
        shown.loss(1, 1.5)
        time.sleep(0.5)
    assert capsys.readouterr().err == "a run: iteration 501/1000, loss 1.5\na run: iteration 1/1000, loss 1.5\n"


def test_the_bar_has_loss_and_accuracy(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(100, 1, validate_every=50)
    shown = terminal.getvalue()
    assert "a run: 100%" in shown and "100/100" in shown and "it/s, loss 1, validation accuracy 10.00 %" in shown
    assert "iteration" not in shown


@pytest.mark.parametrize("value, text", [(0.0123, "0.0123 it/s"), (3.21, "3.21 it/s"), (128.4, "128 it/s")])
def test_speed(value, text):
    assert speed(value) == text


def test_remaining():
    assert (remaining(5900.4), remaining(100000)) == ("1:38:20 left", "1 day, 3:46:40 left")
