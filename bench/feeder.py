"""A process of the benchmark `feeding`: a net that is only a data layer, in Caffe or in the engine.

Arguments: "Caffe" or "engine", the prototxt. It prints a line when it is warm, waits for the number of seconds on its
standard input, and prints passes per second, seconds of processor time for a pass, and bytes of the tops of a pass.
"""
import sys
import time
from typing import Callable

WARM_UP = 4


def caffe_pass(path: str) -> Callable[[], int]:
    """A function that makes a pass in Caffe and returns the bytes of its tops."""
    import caffe
    net = caffe.Net(path, caffe.TRAIN)
    return lambda: sum(blob.nbytes for blob in net.forward().values())


def engine_pass(path: str) -> Callable[[], int]:
    """The same in the engine. Caffe must not be loaded: beside it, Python layers do not run ahead."""
    from engine import tuning
    tuning.before_torch()
    import torch

    from engine import messages
    from engine.net import Net
    torch.set_num_threads(1)
    net = Net(messages.read_text(path, "NetParameter"), messages.TRAIN)
    return lambda: sum(4 * blob.numel() for blob in net.forward().values())


def main() -> None:
    host, path = sys.argv[1:]
    make = {"Caffe": caffe_pass, "engine": engine_pass}[host](path)
    for _ in range(WARM_UP):
        make()
    print("warm", flush=True)
    seconds = float(sys.stdin.readline())
    for _ in range(WARM_UP):  # what was made ahead while it waited
        count = make()
    began, processor, passes = time.perf_counter(), time.process_time(), 0
    while passes == 0 or time.perf_counter() - began < seconds:
        make()
        passes += 1
    took, processor = time.perf_counter() - began, time.process_time() - processor
    print(passes / took, processor / passes, count, flush=True)


if __name__ == "__main__":
    main()
