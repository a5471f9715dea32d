"""Commands that are killed at random moments, again and again: at last they leave what an undisturbed one leaves."""
import os
import random
import shutil
import subprocess
import time

import pytest

from tests.faults.cases import CASES, Inputs, call, command, environment, left, processes

MOMENTS = {"prepare": 14, "train": 14, "train with adaptive weights": 14, "train self-paced": 14, "evaluate": 12,
           "reproduce": 12, "report": 10, "predict": 10}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs(str(tmp_path_factory.mktemp("inputs")))


def mounted(folder):
    with open("/proc/self/mounts") as stream:
        return [line for line in stream if folder in line]


def test_a_hundred_moments():
    assert set(MOMENTS) == {case.name for case in CASES} and sum(MOMENTS.values()) == 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_killed_at_random_moments(case, inputs, tmp_path):
    words, folder = case.words(inputs), str(tmp_path / "work")
    before = left(os.path.dirname(inputs.data))
    case.begin(inputs, folder)
    began = time.monotonic()
    done = call(words, folder)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    expected = left(folder)
    draw = random.Random(case.name)
    killed = 0
    while killed < MOMENTS[case.name]:
        shutil.rmtree(folder)
        case.begin(inputs, folder)
        # Until it has come to its end: what a killed call has done makes the next one shorter.
        while killed < MOMENTS[case.name]:
            mark = f"{os.getpid()} {case.name} {killed}"
            process = subprocess.Popen(command(words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
                                       env=environment(mark))
            try:
                process.wait(draw.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
            status = process.wait()
            assert processes(mark) == []
            if status == 0:
                assert left(folder) == expected
                break
            assert status == -9
    again = call(words, folder)
    assert again.returncode == 0, again.stderr
    assert left(folder) == expected
    assert left(os.path.dirname(inputs.data)) == before
    assert mounted(str(tmp_path)) == []
