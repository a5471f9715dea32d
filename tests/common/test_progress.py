"""Lines on stderr, now and then, where no terminal is there."""
import sys

import pytest

from common import progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def work(total, seconds_each, done=0):
    clock = Clock()
    with progress.Bar("images", total, done, progress.Lines(clock)) as bar:
        for _ in range(total - done):
            clock.now += seconds_each
            bar.update()


def test_a_line_each_half_minute(capsys):
    work(100, 1)
    # The first image is the start of the rate.
    assert capsys.readouterr().err.splitlines() == [
        "images: 30/100, 1 a second, 0:01:10 left", "images: 60/100, 1 a second, 0:00:40 left",
        "images: 90/100, 1 a second, 0:00:10 left"]


def test_what_an_earlier_call_did_is_counted_but_is_not_speed(capsys):
    work(1000, 4, done=900)
    assert capsys.readouterr().err.splitlines()[0] == "images: 908/1000, 0.25 a second, 0:06:08 left"


def test_short_work_says_nothing_and_days_are_no_flood(capsys):
    work(29, 1)
    assert capsys.readouterr().err == ""
    work(40000, 5)
    assert 100 < len(capsys.readouterr().err.splitlines()) < 2000


def test_a_terminal_has_a_bar_and_no_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    work(100, 1)
    shown = capsys.readouterr().err
    assert "a second" not in shown and "images" in shown


@pytest.mark.parametrize("things", ([], [3, 1, 2]))
def test_each_gives_all(things):
    assert list(progress.each("things", things)) == things
