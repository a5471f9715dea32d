"""The memory of the machine, or of the container, and the graphics card that this process computes on."""
import contextlib
import os
from typing import Optional

# Files with the memory limit of a container, in versions 2 and 1 of control groups.
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

# The variable with the number of the card, for this process and its children.
CARD = "FER_GPU"


def use_card(number: Optional[str]) -> None:
    """From now on `card` returns this number. None stands for the processor."""
    if number is None:
        os.environ.pop(CARD, None)
    else:
        os.environ[CARD] = number


def card() -> Optional[str]:
    """The number of the graphics card that Caffe computes on, as text; None for the processor."""
    return os.environ.get(CARD)


def memory() -> tuple[int, int]:
    """The memory of this machine, or of this container if it is smaller, and how much of it is free, in bytes."""
    with open("/proc/meminfo") as stream:
        amounts = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in stream)}
    limits = [amounts["MemTotal"]]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError), open(path) as stream:
            limits.append(int(stream.read()))
    return min(limits), min(amounts["MemAvailable"], *limits)
