"""Lines on stderr, now and then, where no terminal is there."""
import contextlib
import sys
import time

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


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(progress, "SILENT", 0.05)


def test_long_work_is_named_once_and_short_work_is_not(soon, capsys):
    with progress.doing("reading the logs"):
        time.sleep(0.5)
        assert capsys.readouterr().err == "reading the logs ...\n"
    with progress.doing("nothing"), contextlib.suppress(KeyError):
        raise KeyError
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_a_bar_without_a_terminal_is_named_before_its_first_line(soon, capsys):
    with progress.bar("images", 100, 20) as bar:
        time.sleep(0.5)
        assert capsys.readouterr().err == "images: 20/100 ...\n"
        bar.update()
    with progress.bar("images", 100):
        pass
    with progress.bar("images", 100, 100):
        time.sleep(0.5)
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_a_bar_that_has_shown_a_line_is_not_named(soon, capsys):
    clock = Clock()
    with progress.Bar("images", 100, 0, progress.Lines(clock)) as bar:
        clock.now += 40
        bar.update()
        time.sleep(0.5)
    assert capsys.readouterr().err == "images: 1/100\n"


def test_a_bar_on_a_terminal_is_not_named(soon, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.bar("images", 100):
        time.sleep(0.5)
    assert "..." not in capsys.readouterr().err
