"""Caffe's files of weights and of a solver's state, binary and HDF5, in both directions.

Files are written whole or not at all. As in Caffe, a snapshot replaces another one of the same name.
"""
import contextlib
import dataclasses
import os
from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple

import numpy as np
import torch

from common import files, suggestions
from common.errors import UserError

from . import blobs, messages
from .net import Net

HDF5 = ".h5"


@dataclasses.dataclass
class State:
    """A solver's state. history: float32 arrays, in the order of `updates.Updater.history`; learned_net: the file of
    the weights, "" if none is named."""

    iteration: int
    current_step: int
    learned_net: str
    history: List[np.ndarray]


def write_weights(net: Net, path: str) -> None:
    """Writes the parameters of all layers, as HDF5 if the name ends in .h5, else as a NetParameter. Raises UserError
    if the file cannot be written."""
    with _writing(path) as partial:
        if path.endswith(HDF5):
            owners = _owners(net)
            with blobs.open_hdf5(partial, "w") as stream:
                for layer in net.layers:
                    group = stream.create_group(f"data/{layer.name}")
                    for number, blob in enumerate(layer.blobs):
                        if (layer.name, number) in owners:  # Caffe writes a shared parameter in its first layer only
                            group.create_dataset(str(number), data=_array(blob))
            return
        message = messages.NetParameter(name=net.name)
        for layer in net.layers:
            stored = message.layer.add()
            stored.CopyFrom(layer.param)
            stored.ClearField("blobs")
            stored.phase = net.phase
            for blob in layer.blobs:
                blobs.fill_proto(stored.blobs.add(), _array(blob))
        _write(partial, message)


def write_state(state: State, path: str) -> None:
    """Writes a solver's state, as HDF5 if the name ends in .h5, else as a SolverState. Raises UserError if the file
    cannot be written."""
    with _writing(path) as partial:
        if path.endswith(HDF5):
            with blobs.open_hdf5(partial, "w") as stream:
                for key, value in (("iter", state.iteration), ("current_step", state.current_step)):
                    stream.create_dataset(key, data=np.array([value], np.int32))
                # Caffe reads up to the byte 0.
                stream.create_dataset("learned_net", data=np.array(os.fsencode(state.learned_net) + b"\0"))
                group = stream.create_group("history")
                for number, array in enumerate(state.history):
                    group.create_dataset(str(number), data=array)
            return
        message = messages.SolverState(iter=state.iteration, learned_net=state.learned_net,
                                       current_step=state.current_step)
        for array in state.history:
            blobs.fill_proto(message.history.add(), array)
        _write(partial, message)


def load_weights(net: Net, path: str) -> List[str]:
    """Copies weights into the layers of the same names. path: a caffemodel, or its HDF5 form (.h5).

    Returns the names of the net's layers with parameters that are not in the file. Raises UserError if the file is
    damaged, if a shape or a number of parameters differs, or if it has no layer with parameters of the net.
    """
    if not path.endswith(HDF5):
        return copy_weights(net, messages.read_binary(path, "NetParameter"), path)
    with blobs.open_hdf5(path, "r") as stream:
        stored = {name: {int(number): blobs.from_dataset(dataset) for number, dataset in group.items()}
                  for name, group in stream["data"].items()}
    return _copy(net, stored, path, _owners(net))


def copy_weights(net: Net, message: Any, source: str) -> List[str]:
    """The same for a NetParameter, which is used up. source: what the errors name."""
    stored = {layer.name: {number: blobs.from_proto(blob) for number, blob in enumerate(layer.blobs)}
              for layer in [*message.layers, *message.layer]}
    return _copy(net, stored, source, {(layer.name, number) for layer in net.layers
                                       for number in range(len(layer.blobs))})


def load_files(net: Net, names: str, log: Any) -> None:
    """Loads weights from files whose names are separated by commas, and says so in the log. Raises UserError as
    `load_weights` does."""
    for name in map(str.strip, names.split(",")):
        log.info("solver.cpp:72", f"Finetuning from {name}")
        missing = load_weights(net, name)
        if missing:
            log.info("engine", f"Layers that are not in {name} and keep their values: {', '.join(missing)}")


def read_state(path: str, shapes: Sequence[Tuple[int, ...]]) -> State:
    """Reads a solver's state, from HDF5 if the name ends in .h5. shapes: those of the history. Raises UserError if the
    file is damaged or does not fit."""
    state = State(0, 0, "", [])
    if path.endswith(HDF5):
        with blobs.open_hdf5(path, "r") as stream:
            group = stream["history"]
            stored = [blobs.from_dataset(group[str(number)]) for number in range(len(group))]
            state.iteration, state.current_step = int(stream["iter"][0]), int(stream["current_step"][0])
            if "learned_net" in stream:
                state.learned_net = os.fsdecode(bytes(stream["learned_net"][()]).rstrip(b"\0"))
    else:
        message = messages.read_binary(path, "SolverState")
        if not message.HasField("iter"):
            raise UserError(f"{path}: not a SolverState of Caffe, or damaged")
        stored = [blobs.from_proto(blob) for blob in message.history]
        state.iteration, state.current_step = message.iter, message.current_step
        state.learned_net = message.learned_net
    if len(stored) != len(shapes):
        raise UserError(f"{path}: {len(stored)} blobs of history, expected {len(shapes)}; it is of another net or "
                        "another type of solver, or damaged")
    state.history = [one.as_shape(f"{path}: blob {number} of the history", tuple(shape))
                     for number, (one, shape) in enumerate(zip(stored, shapes))]
    return state


def require_writable(net: Net, prefix: str, hdf5: bool) -> None:
    """Raises UserError if no snapshot of the net can be written at `<prefix>_iter_N...`."""
    folder = os.path.dirname(os.path.abspath(prefix))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"solver: snapshot_prefix {prefix!r}: {folder} is not a folder that can be written to")
    for layer in net.layers:
        if hdf5 and "/" in layer.name:  # it would be a group in a group, which Caffe does not find
            raise UserError(f"layer {layer.name}: has a / in its name, so there is no snapshot in HDF5; expected "
                            "snapshot_format: BINARYPROTO")


@contextlib.contextmanager
def _writing(path: str) -> Iterator[str]:
    try:
        with files.replacing(path, anyones=True) as partial:
            yield partial
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def _copy(net: Net, stored: Dict[str, Dict[int, blobs.Stored]], source: str, needed: Set[Tuple[str, int]]) -> List[str]:
    """stored: layers' names to their parameters; needed: which of them a layer must have if it is stored."""
    copies: List[Tuple[torch.Tensor, np.ndarray]] = []
    for layer in net.layers:
        found, numbers = stored.get(layer.name), range(len(layer.blobs))
        if found is None:
            continue
        if not {number for number in numbers if (layer.name, number) in needed} <= set(found) <= set(numbers):
            raise UserError(f"{source}: layer {layer.name} has {len(found)} parameters, expected {len(numbers)}")
        for number, one in found.items():
            blob = layer.blobs[number]
            copies.append((blob, one.as_shape(f"{source}: parameter {number} of layer {layer.name}",
                                              tuple(blob.shape))))
    missing = [layer.name for layer in net.layers if layer.blobs and layer.name not in stored]
    if not copies:
        ours = suggestions.first(missing, 3) or "none"
        theirs = suggestions.first([name for name, found in stored.items() if found], 3) or "none"
        raise UserError(f"{source}: no layer of the net is in it; layers with parameters in the file: {theirs}, in the "
                        f"net: {ours}")
    with torch.no_grad():  # only now, so the net stays as it was if the file does not fit
        for blob, values in copies:
            blob.copy_(torch.from_numpy(values))
    return missing


def _owners(net: Net) -> Set[Tuple[str, int]]:
    """The layers and numbers of parameters, without those that another layer owns."""
    return {(one.layer, one.number) for one in net.parameters}


def _array(blob: torch.Tensor) -> np.ndarray:
    return blob.detach().cpu().contiguous().numpy()


def _write(path: str, message: Any) -> None:
    with open(path, "wb") as stream:
        stream.write(message.SerializeToString())
