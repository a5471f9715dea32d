"""One training of `bench.gpu`, in a process of its own: its speed, what it waits for, its memory, its snapshots.

usage: python3 -m bench.gpu_training SOLVER DEVICE PRECISION SECONDS
Trains the solver's iterations with its snapshots, then goes on for about so many seconds, which are timed. The last
line on standard output is JSON.
"""
import json
import sys
import time
from typing import Any

# Iterations that are timed at a time, and at least.
STEP = 2


class Silent:
    """Takes the place of the engine's log."""

    def info(self, place: str, text: str) -> None:
        pass


class Waited:
    """Adds up the seconds in the passes of layers that read data."""

    def __init__(self, net: Any):
        self.seconds = 0.0
        for layer in net.layers:
            if not layer.param.bottom and "images" in layer.param.python_param.param_str:
                layer.forward = self._timed(layer.forward)

    def _timed(self, forward: Any) -> Any:
        def waiting(bottoms: Any) -> Any:
            began = time.perf_counter()
            tops = forward(bottoms)
            self.seconds += time.perf_counter() - began
            return tops
        return waiting


def timed(path: str, device: str, name: str, seconds: float) -> dict:
    """What the last line has. Raises UserError if the device cannot compute in this precision."""
    import torch

    from engine import cli, precision, solver_param
    from engine.solver import Solver
    torch.set_num_threads(cli.threads())  # as the engine's program, which resumes this training, does
    precision.use(name, device)
    card = device.startswith("cuda")
    wait = torch.cuda.synchronize if card else lambda: None
    param = solver_param.read(path)
    solver = Solver(param, Silent(), device)
    solver.step(param.max_iter)
    solver.param.snapshot = solver.param.display = 0
    waited, iterations = Waited(solver.net), 0
    wait()
    began = time.perf_counter()
    while iterations == 0 or time.perf_counter() - began < seconds:
        solver.step(STEP)
        iterations += STEP
        wait()
    took = time.perf_counter() - began
    return {"iterations": iterations, "iterations_per_second": iterations / took,
            "waiting_for_data": waited.seconds / took,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if card else None}


def main(words: list[str]) -> None:
    from engine import tuning
    tuning.before_torch()
    from common.errors import UserError
    try:
        path, device, precision, seconds = words
        found = timed(path, device, precision, float(seconds))
    except (UserError, RuntimeError, MemoryError) as error:  # PyTorch's errors have no class of their own
        found = {"note": str(error).splitlines()[0]}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
