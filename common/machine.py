"""The memory of the machine, or of the container."""
import contextlib

# Files with the memory limit of a container, in versions 2 and 1 of control groups.
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> tuple[int, int]:
    """The memory of this machine, or of this container if it is smaller, and how much of it is free, in bytes."""
    with open("/proc/meminfo") as stream:
        amounts = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in stream)}
    limits = [amounts["MemTotal"]]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError), open(path) as stream:
            limits.append(int(stream.read()))
    return min(limits), min(amounts["MemAvailable"], *limits)
