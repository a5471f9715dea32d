"""Caffemodels: whether their weights are complete and finite, and which of those from outside fit a net."""
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import caffe
import numpy as np

from common import files
from common.errors import UserError
from prototxt.builders import backbones

Shapes = dict[str, tuple[tuple[int, ...], ...]]
# How files of PyTorch's weights end.
OF_PYTORCH = (".pth", ".pth.tar", ".pt", ".safetensors")
# Layers that a message names of a long list.
LISTED = 5
# Values that are checked at a time, so that they stay in the cache.
CHUNK = 1 << 18
# Bytes of a caffemodel beside its values, at most: the definitions of the layers.
DEFINITION = 1 << 20
# Kinds of fields in the wire format of Protocol Buffers: those of a fixed length, with their bytes, and others.
FIXED = {1: 8, 5: 4}
VARINT, COUNTED = 0, 2


def read(path: str) -> Any:
    """A caffemodel as Caffe's NetParameter. Raises UserError if it is none, or is in the format of before 2015."""
    model = parsed(files.read_bytes(path), path)
    if model.layers and not model.layer:
        raise UserError(f"{path}: is in Caffe's format of before 2015; `upgrade_net_proto_binary {path} NEW` writes "
                        "one in today's")
    return model


def parsed(content: bytes, path: str) -> Any:
    """The NetParameter in the bytes of a caffemodel, also in one of before 2015. path: for the UserError that is raised
    if it is none."""
    model = caffe.proto.caffe_pb2.NetParameter()
    try:
        with warnings.catch_warnings():
            # The parser only warns if a text begins like a model.
            warnings.simplefilter("error", RuntimeWarning)
            model.ParseFromString(content)
    except Exception:
        convert = "; `./fer weights convert` makes one of PyTorch's ResNet-18" if path.endswith(OF_PYTORCH) else ""
        raise UserError(f"{path}: not a caffemodel, or one that was cut{convert}") from None
    if not model.layers and not model.layer:
        raise UserError(f"{path}: not a caffemodel")
    return model


def shapes(model: Any) -> Shapes:
    """Layer -> shapes of its blobs. model: a NetParameter."""
    return {layer.name: tuple(map(_shape, layer.blobs)) for layer in model.layer if layer.blobs}


def _shape(blob: Any) -> tuple[int, ...]:
    """blob: a BlobProto. Those of before 2015 have four sizes, of which the first ones are 1 in a bias or a matrix;
    Caffe accepts them as well."""
    if blob.shape.dim:
        return tuple(blob.shape.dim)
    sizes = [blob.num, blob.channels, blob.height, blob.width]
    while len(sizes) > 1 and sizes[0] == 1:
        del sizes[0]
    return tuple(sizes)


def net_shapes(deploy: str) -> Shapes:
    """The same of a net. deploy: path of its definition."""
    net = caffe.Net(deploy, caffe.TEST)
    return {name: tuple(tuple(blob.shape) for blob in blobs) for name, blobs in net.params.items()}


@dataclass(frozen=True)
class Fit:
    """Which layers of a caffemodel a net takes."""

    # In both, with the same shapes.
    copied: list[str]
    # Of the net alone.
    fresh: list[str]
    # Of the caffemodel alone.
    left: list[str]
    # In both, with other shapes, so that they start fresh too: (layer, the caffemodel's shapes, the net's).
    unfit: list[tuple[str, tuple, tuple]]

    def __str__(self) -> str:
        lines = [f"{what} {len(layers)}: {', '.join(layers) or 'none'}" for what, layers in (
            ("copied", self.copied), ("start fresh", self.fresh + [layer for layer, _, _ in self.unfit]),
            ("left out", self.left))]
        return "\n".join(lines + ["does not fit: " + _unfit(*layer) for layer in self.unfit])


def compare(model: Shapes, net: Shapes) -> Fit:
    """Compares a caffemodel's shapes with a net's; Caffe copies by name."""
    return Fit([name for name in net if model.get(name) == net[name]],
               [name for name in net if name not in model],
               [name for name in model if name not in net],
               [(name, model[name], net[name]) for name in net if model.get(name, net[name]) != net[name]])


def _unfit(name: str, model: tuple, net: tuple) -> str:
    return f"layer {name} has blobs {model}, the net {net}"


def _short(names: Sequence[str]) -> str:
    """The names as text, of many the first ones."""
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "") or "none"


def write_fitting(path: str, learned: str, out: str, copied_suffix: str = "", fresh_head: bool = False,
                  net: Optional[str] = None) -> Fit:
    """Writes the layers of a caffemodel that the net of `learned` has, and returns which they are.

    That net (`nets.learned`) holds weights alone, and BatchNorm's statistics: positions in the data, clocks and centers
    of another run stay behind. copied_suffix: see `nets.copied_suffix`; a layer with this suffix that the caffemodel
    does not have gets the weights of the layer without it. fresh_head: whether layers of the same name with other
    shapes, as a head for other classes has them, are left out too. net: name of the backbone, see `require_layout`.
    Raises UserError where no layer fits, one of the same name has other shapes without fresh_head, or a weight is not
    finite.
    """
    model = read(path)
    if net:
        require_layout(path, shapes(model), net)
    wanted = net_shapes(learned)
    require_finite(path)
    if copied_suffix:
        _copy(model, wanted, copied_suffix)
    fit = compare(shapes(model), wanted)
    unfit = [layer for layer, _, _ in fit.unfit]
    if not fit.copied:
        raise UserError("{}: no layer {}; it has {}, the net {}".format(
            path, "has the shapes of the net's" if unfit else "matches the net's", _short(sorted(fit.left + unfit)),
            _short(sorted(fit.fresh + unfit))))
    if unfit and not fresh_head:
        more = f"; and {len(unfit) - LISTED} more layers" if len(unfit) > LISTED else ""
        raise UserError("{}: {}{}; with --fresh-head such layers start afresh".format(
            path, "; ".join(_unfit(*layer) for layer in fit.unfit[:LISTED]), more))
    fitting = caffe.proto.caffe_pb2.NetParameter(name=model.name)
    for layer in model.layer:
        if layer.name in fit.copied:
            fitting.layer.add().CopyFrom(layer)
    with files.replacing(out) as partial, open(partial, "wb") as stream:
        stream.write(fitting.SerializeToString())
    return fit


def require_layout(path: str, model: Shapes, net: str) -> None:
    """Raises UserError if a caffemodel has a layer that shows that it belongs to another net, which has the layers of
    this one and more. path: for the message; net: name of the backbone."""
    foreign = backbones.named(net).foreign
    found = sorted(set(foreign) & set(model))
    if found:
        other = foreign[found[0]]
        raise UserError(f"{path}: has the layer {found[0]} of the net {other}, which {net} lacks; train with "
                        f"--set net={other}")


def _copy(model: Any, wanted: Shapes, suffix: str) -> None:
    """Adds a copy of each layer that the net has a second time and the model has once."""
    own = {layer.name for layer in model.layer}
    for layer in list(model.layer):
        second = layer.name + suffix
        if second in wanted and second not in own:
            added = model.layer.add()
            added.CopyFrom(layer)
            added.name = second


def write_fresh(deploy: str, seed: int, out: str, weights: Optional[str] = None) -> None:
    """Writes the weights that the net of `deploy` starts from, with the seed of Caffe's random numbers.

    BatchNorm's statistics, which Caffe does not have at first, are mean 0 and variance 1, so that the net can predict
    before it is trained. weights: caffemodel from which the layers come that it has; it must fit.
    """
    caffe.set_random_seed(seed)
    net = caffe.Net(deploy, caffe.TEST)
    for name, kind in zip(net._layer_names, (layer.type for layer in net.layers)):
        if kind == "BatchNorm":
            mean, variance, weight = net.params[name]
            mean.data[...], variance.data[...], weight.data[...] = 0, 1, 1
    if weights:
        net.copy_from(weights)
    with files.replacing(out) as partial:
        save(net, partial)


def save(net: caffe.Net, path: str) -> None:
    """Writes the caffemodel of a net. Raises UserError if the disk has no room for it: on a full disk, Caffe would end
    this process."""
    values = sum(blob.data.size for blobs in net.params.values() for blob in blobs)
    files.require_space(os.path.dirname(os.path.abspath(path)), 4 * values + DEFINITION)
    net.save(path)


# ---------------------------------------------------------------- read from the file

@dataclass(frozen=True)
class Blob:
    """A blob of a caffemodel."""

    layer: str
    # In the file's mapped memory, (N,) float32 or float64.
    values: np.ndarray


def blobs(path: str) -> Iterator[Blob]:
    """All blobs of a caffemodel, without a copy. Caffe's Python bindings turn each value into an object and need a
    minute where this needs a second. Raises UserError if the file is no caffemodel, or was cut."""
    net, layer, blob = (getattr(caffe.proto.caffe_pb2, name).DESCRIPTOR.fields_by_name
                        for name in ("NetParameter", "LayerParameter", "BlobProto"))
    try:
        memory = np.memmap(path, np.uint8, "r")
        for number, start, end in _fields(memory, 0, len(memory)):
            if number != net["layer"].number:
                continue
            parts = list(_fields(memory, start, end))
            name = next((memory[begin:stop].tobytes().decode() for field, begin, stop in parts
                         if field == layer["name"].number), "")
            for part in (part for part in parts if part[0] == layer["blobs"].number):
                for field, begin, stop in _fields(memory, *part[1:]):
                    kind = {blob["data"].number: "<f4", blob["double_data"].number: "<f8"}.get(field)
                    if kind:
                        yield Blob(name, np.frombuffer(memory, kind, (stop - begin) // int(kind[2:]), begin))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path}: no caffemodel, or one that was cut ({os.path.getsize(path)} bytes)") from None


def require_whole(path: str) -> None:
    """Raises UserError if a file of Protocol Buffers, such as Caffe writes, was cut."""
    try:
        memory = np.memmap(path, np.uint8, "r")
        for _ in _fields(memory, 0, len(memory)):
            pass
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path}: was cut ({os.path.getsize(path)} bytes)") from None


def _fields(memory: np.ndarray, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of the fields of the message in memory[start:end], in the wire format of Protocol Buffers.
    Raises ValueError if the format is broken."""
    while start < end:
        key, start = _varint(memory, start, end)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, after = _varint(memory, start, end)
        elif kind == COUNTED:
            length, start = _varint(memory, start, end)
            after = start + length
        elif kind in FIXED:
            after = start + FIXED[kind]
        else:
            raise ValueError("no such kind of field")
        if after > end or not number:
            raise ValueError("a field does not end where its message does")
        yield number, start, after
        start = after


def _varint(memory: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and where it ends."""
    value = 0
    for shift, at in enumerate(range(start, min(end, start + 10))):
        byte = int(memory[at])
        value |= (byte & 0x7f) << 7 * shift
        if byte < 0x80:
            return value, at + 1
    raise ValueError("an integer does not end")


def sizes(path: str) -> dict[str, list[int]]:
    """Layer -> how many values each of its blobs has."""
    counts: dict[str, list[int]] = {}
    for blob in blobs(path):
        counts.setdefault(blob.layer, []).append(len(blob.values))
    return counts


def not_finite(path: str) -> Optional[str]:
    """The first layer with a value that is NaN or infinite; None if all are finite."""
    return next((blob.layer for blob in blobs(path) for start in range(0, len(blob.values), CHUNK)
                 if not np.isfinite(blob.values[start:start + CHUNK]).all()), None)


def require_finite(path: str) -> None:
    """Raises UserError if a weight is NaN or infinite, or the file was cut."""
    layer = not_finite(path)
    if layer is not None:
        raise UserError(f"{path}: layer {layer} has weights that are NaN or infinite")
