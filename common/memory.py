"""The memory of this machine."""
import contextlib

# Limits of a container, in version 2 and 1 of control groups.
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_memory() -> tuple[int, int]:
    """Bytes of memory that this machine has, or this container may take, and how many of them are free."""
    with open("/proc/meminfo") as stream:
        sizes = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in stream)}
    limits = [sizes["MemTotal"]]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError), open(path) as stream:
            limits.append(int(stream.read()))
    return min(limits), min(sizes["MemAvailable"], *limits)
