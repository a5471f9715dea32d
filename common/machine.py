"""The memory of the machine, or of the container, and what computes nets."""
import contextlib
import os
from dataclasses import dataclass, fields, replace
from typing import Optional

# Files with the memory limit of a container, in versions 2 and 1 of control groups.
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

# Variables with the fields of a Device, for this process and its children.
ENGINE, CARD, PRECISION = "FER_ENGINE", "FER_GPU", "FER_PRECISION"
CAFFE, TORCH = "caffe", "torch"
FLOAT32 = "float32"
# Said where TORCH is asked for and is missing.
NO_TORCH = "--engine torch: PyTorch is not installed"
# The first one is the default.
ENGINES, PRECISIONS = (CAFFE, TORCH), (FLOAT32, "tf32", "bf16")


@dataclass(frozen=True)
class Device:
    """What computes nets."""

    # One of ENGINES: real Caffe, or the engine on PyTorch.
    engine: str = CAFFE
    # The number of the graphics card, as text, or with TORCH of several, such as "0,1"; None for the processor.
    gpu: Optional[str] = None
    # One of PRECISIONS.
    precision: str = FLOAT32

    def __str__(self) -> str:
        """In words, such as "torch on card 0 in bf16"."""
        where = "" if self.gpu is None else f" on card{'s' * (',' in self.gpu)} {self.gpu}"
        return self.engine + where + (f" in {self.precision}" if self.precision != FLOAT32 else "")

    def options(self) -> "list[str]":
        """The words of a command line that ask for it."""
        return [word for field in fields(self) if getattr(self, field.name) != field.default
                for word in (f"--{field.name}", getattr(self, field.name))]

    def each(self) -> "list[Device]":
        """A device for each card; the device itself if it has one card or none."""
        return [replace(self, gpu=card) for card in (self.gpu or "").split(",")] if self.gpu else [self]


# Real Caffe on the processor.
DEFAULT = Device()


def use(device: Device) -> None:
    """From now on `device` returns this one."""
    for name, value in ((ENGINE, device.engine), (CARD, device.gpu), (PRECISION, device.precision)):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def device() -> Device:
    """What this process computes nets with."""
    return Device(os.environ.get(ENGINE, CAFFE), os.environ.get(CARD), os.environ.get(PRECISION, FLOAT32))


def memory() -> tuple[int, int]:
    """The memory of this machine, or of this container if it is smaller, and how much of it is free, in bytes."""
    with open("/proc/meminfo") as stream:
        amounts = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in stream)}
    limits = [amounts["MemTotal"]]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError), open(path) as stream:
            limits.append(int(stream.read()))
    return min(limits), min(amounts["MemAvailable"], *limits)
