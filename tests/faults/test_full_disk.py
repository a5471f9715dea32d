"""Commands on a disk that is full at a random moment: they say so in one line, and go on when there is room."""
import contextlib
import os
import random
import re
import subprocess

import pytest

from tests.faults.cases import CASES, Inputs, call, left, processes

MOMENTS = {"prepare": 5, "train": 3, "train with adaptive weights": 2, "train self-paced": 2, "evaluate": 2,
           "reproduce": 2, "report": 2, "predict": 2}
# What the kernel gives and takes at a time.
PAGE = 4096
ROOM = 1 << 30
# What the kernel says; what is said where the program that writes, such as Caffe, does not say it; and what is said
# before anything is written.
FULL = re.compile(r"No space left on device|could not be written completely; the disk|are needed and .* are free")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs(str(tmp_path_factory.mktemp("inputs")))


@contextlib.contextmanager
def disk(folder):
    """A file system in memory. Yields a function that sets its size, in bytes."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "disk", folder], stderr=subprocess.PIPE)
    if done.returncode:
        pytest.skip(f"no disk of its own: {done.stderr.decode().strip()}")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def used(folder):
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_twenty_moments():
    assert set(MOMENTS) == {case.name for case in CASES} and sum(MOMENTS.values()) == 20


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_disk_is_full(case, inputs, tmp_path):
    words, draw = case.words(inputs), random.Random(case.name)
    place = str(tmp_path / "disk")
    folder = os.path.join(place, "work")
    os.makedirs(place)
    with disk(place):
        case.begin(inputs, folder)
        before = used(place)
        done = call(words, folder)
        assert done.returncode == 0, done.stderr
        expected, needed = left(folder), used(place) - before
    full = 0
    for number in range(MOMENTS[case.name]):
        with disk(place) as resize:
            case.begin(inputs, folder)
            resize(before + draw.randrange(PAGE, needed, PAGE))
            mark = f"{os.getpid()} {case.name} {number}"
            done = call(words, folder, mark)
            assert processes(mark) == []
            if done.returncode:
                full += 1
                last = done.stderr.strip().splitlines()[-1]
                assert last.startswith("fer: ") and FULL.search(last), done.stderr
                assert "Traceback" not in done.stderr, done.stderr
            resize(ROOM)
            done = call(words, folder)
            assert done.returncode == 0, done.stderr
            assert left(folder) == expected
    assert full > 0
