"""Checks the engine's layers, on any device, against what real Caffe was recorded to calculate.

usage: python3 -m bench.layer_check DEVICE SECONDS
Begins no case after so many seconds. The last line on standard output is JSON: what the file RECORDED is, the results,
and what PyTorch warned of, such as of an algorithm that does not give the same bytes each time.
"""
import dataclasses
import json
import os
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Optional

import numpy as np
import torch
from google.protobuf import text_format

from bench import gpu_data, layer_case
from common import datums, files
from common.errors import UserError
from engine import messages, precision
from engine.net import Net

RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recorded", "layers.npz")
# The largest difference of an output and of a gradient, as a part of the largest value of its blob, or of FLOOR if that
# is larger.
OUTPUT, GRADIENT, FLOOR = 1e-5, 1e-4, 1e-2


@dataclasses.dataclass
class Result:
    """Of a case: the largest difference of an output (or of a parameter that the pass changes) and of a gradient, and
    what went wrong, if the engine could not run it or has other values."""

    name: str
    output: float = 0.0
    gradient: float = 0.0
    error: Optional[str] = None

    @property
    def good(self) -> bool:
        return self.error is None and self.output <= OUTPUT and self.gradient <= GRADIENT


def read(path: str = RECORDED) -> tuple[list[layer_case.Case], dict[str, np.ndarray]]:
    """The cases and the recorded arrays. Raises UserError if the file cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as stream:
            arrays = {name: stream[name] for name in stream.files}
        return layer_case.from_json(arrays.pop("cases").tobytes().decode()), arrays
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not the file of bench.record_layers, or damaged ({error})") from None


def check(cases: list[layer_case.Case], recorded: Mapping[str, np.ndarray], device: str, images: str,
          go_on: Callable[[], bool] = lambda: True) -> list[Result]:
    """Runs the cases in the engine. device: as torch names it; images: the LMDB of `gpu_data.write_small_images`;
    go_on: is asked before each case, and those that are left when it says no have no result."""
    results = []
    # It stays open: a process must not open an LMDB while another thread still closes it.
    opened = datums.environment(images)
    for case in cases:
        if not go_on():
            break
        expected = {name[len(case.name) + 1:]: value for name, value in recorded.items()
                    if name.startswith(case.name + "/")}
        try:
            results.append(compared(case.name, run(case, device, images), expected))
        except Exception as error:  # whatever it is, the other layers are of interest
            results.append(Result(case.name, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    del opened
    return results


def run(case: layer_case.Case, device: str, images: str) -> dict[str, np.ndarray]:
    """The engine's results, by the names of `record_layers`; of all parameters."""
    definition = text_format.Parse(case.net(images), messages.NetParameter())
    net = Net(definition, messages.TRAIN if case.train else messages.TEST, device=device)
    drawn = layer_case.Drawn(case)
    for name, value in drawn.inputs.items():
        net.layer(name).value = _tensor(value, device).requires_grad_(case.backward and case.force)  # type: ignore
    parameters: dict[str, torch.Tensor] = {}
    for layer in net.layers:
        kind = layer.param.type
        if kind == "MemoryData":
            layer.set_arrays(*drawn.memory)  # type: ignore
        for number, blob in enumerate(layer.blobs):
            parameters[f"{layer.name}.{number}"] = blob
            if kind != "Python":
                with torch.no_grad():
                    blob.copy_(_tensor(drawn.parameter(kind, number, tuple(blob.shape)), device))
    blobs = net.forward(keep=case.outputs)
    made = {f"output/{name}": blobs[name] for name in case.outputs}
    if case.backward:
        total = net.loss
        for name in () if case.loss else case.outputs:
            total = total + (blobs[name] * _tensor(drawn.gradient(tuple(blobs[name].shape)), device)).sum()
        total.backward()
        sources = {name: net.layer(name).value for name in case.inputs if case.force}  # type: ignore
        made.update({f"gradient/{name}": torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
                     for name, tensor in {**sources, **parameters}.items()})
    made.update({f"parameter/{name}": tensor for name, tensor in parameters.items()})
    return {name: tensor.detach().cpu().numpy() for name, tensor in made.items()}


def compared(name: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> Result:
    """Compares the arrays of a case by their names."""
    result, wrong = Result(name), []
    for key, theirs in expected.items():
        ours, kind = found.get(key), key.partition("/")[0]
        if ours is None or ours.shape != theirs.shape:
            wrong.append(f"{key}: shape {None if ours is None else ours.shape}, Caffe's is {theirs.shape}")
            continue
        scale = max(FLOOR, float(np.abs(theirs).max(initial=0)))
        difference = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0)) / scale
        if not np.isfinite(difference):
            wrong.append(f"{key}: a value is not finite")
        elif kind == "gradient":
            result.gradient = max(result.gradient, difference)
        else:
            result.output = max(result.output, difference)
    result.error = "; ".join(wrong) or None
    return result


def main(words: list[str]) -> None:
    device, end = words[0], time.monotonic() + float(words[1])
    precision.use("float32", device)
    cases, recorded = read()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        results = check(cases, recorded, device, gpu_data.write_small_images(folder), lambda: time.monotonic() < end)
    print(json.dumps({"recorded_sha256": files.digest(RECORDED), "cases": len(cases), "checked": len(results),
                      "different": [one.name for one in results if not one.good],
                      "largest_output_difference": max((one.output for one in results), default=None),
                      "largest_gradient_difference": max((one.gradient for one in results), default=None),
                      "output_tolerance": OUTPUT, "gradient_tolerance": GRADIENT,
                      "warnings": sorted({str(one.message).splitlines()[0] for one in warned}),
                      "each": [vars(one) for one in results]}))


def _tensor(values: Any, device: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).reshape(np.shape(values)).to(device)


if __name__ == "__main__":
    main(sys.argv[1:])
