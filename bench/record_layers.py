"""Records what real Caffe calculates in the cases of `layer_cases`, for machines without Caffe.

usage: ./fer python -m bench.record_layers OUT
The committed file is bench/recorded/layers.npz. It has the cases themselves, and float32 arrays by name:
CASE/output/BLOB, CASE/gradient/BLOB or CASE/gradient/LAYER.NUMBER of a parameter, and CASE/parameter/LAYER.NUMBER of a
parameter that the pass has changed.
"""
import os
import sys
import tempfile
from typing import Any

import caffe
import numpy as np

from bench import gpu_data, layer_case, layer_cases


def record() -> dict[str, np.ndarray]:
    """The arrays of the file, by name; "cases" are the cases."""
    cases = layer_cases.cases()
    made = {"cases": np.frombuffer(layer_case.to_json(cases).encode(), np.uint8)}
    with tempfile.TemporaryDirectory() as folder:
        images = gpu_data.write_small_images(folder)
        for case in cases:
            path = os.path.join(folder, "net.prototxt")
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(case.net(images))
            values = run(case, caffe.Net(path, caffe.TRAIN if case.train else caffe.TEST))
            made.update({f"{case.name}/{name}": value for name, value in values.items()})
    return made


def run(case: layer_case.Case, net: Any) -> dict[str, np.ndarray]:
    """Runs Caffe's net. Returns copies of its results, by name."""
    drawn = layer_case.Drawn(case)
    for name, value in drawn.inputs.items():
        net.blobs[name].data[...] = value
    if case.name.startswith("MemoryData"):
        net.set_input_arrays(*drawn.memory)
    kinds = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    parameters = {f"{name}.{number}": blob for name, blobs in net.params.items() for number, blob in enumerate(blobs)}
    for name, blobs in net.params.items():
        for number, blob in enumerate(blobs if kinds[name] != "Python" else ()):  # ours make their own
            blob.data[...] = drawn.parameter(kinds[name], number, blob.data.shape)
    before = {name: blob.data.copy() for name, blob in parameters.items()}
    net.forward()
    made = {f"output/{name}": net.blobs[name].data.copy() for name in case.outputs}
    if case.backward:
        for name in () if case.loss else case.outputs:
            net.blobs[name].diff[...] = drawn.gradient(net.blobs[name].data.shape)
        net.backward()
        for name in case.inputs if case.force else ():
            made[f"gradient/{name}"] = net.blobs[name].diff.copy()
        made.update({f"gradient/{name}": blob.diff.copy() for name, blob in parameters.items()})
    made.update({f"parameter/{name}": blob.data.copy() for name, blob in parameters.items()
                 if (blob.data != before[name]).any()})
    return made


if __name__ == "__main__":
    os.makedirs(os.path.dirname(os.path.abspath(sys.argv[1])), exist_ok=True)
    np.savez_compressed(sys.argv[1], **record())
