"""Reads tensors from files of PyTorch (.pth, .pt) and safetensors, and writes safetensors, without PyTorch.

A file of PyTorch holds a pickle, and a pickle may call any function. Here it can only describe tensors and put them
into dictionaries; anything else is refused. The formats:

    zip (since PyTorch 1.6)   data.pkl, and data/<key> with the values of each storage
    legacy                    pickles (magic number, version, system, object, keys), then each storage: its number of
                              values as int64, and the values
    safetensors               the header's length as uint64, the header as JSON, then the values

Tensors in a pickle refer to a storage with an offset and a stride for each dimension, all in values. All numbers are
little-endian.
"""
import collections
import io
import json
import math
import os
import pickle
import pickletools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable

import numpy as np

from common.errors import UserError

Tensors = dict[str, np.ndarray]
BFLOAT16 = "bfloat16"  # NumPy does not have it
# PyTorch's classes of storages -> dtype.
STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": BFLOAT16,
            "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1",
            "ByteStorage": "u1", "BoolStorage": "?"}
SAFETENSORS = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "BF16": BFLOAT16, "I64": "<i8", "I32": "<i4", "I16": "<i2",
               "I8": "i1", "U8": "u1", "BOOL": "?"}
ZIP, LEGACY, SAFE = "zip", "legacy", "safetensors"
ZIP_START = b"PK\x03\x04"
# The pickle of this number begins a legacy file.
MAGIC = 0x1950a86a20f9469cfc6c
MAGIC_START = pickle.dumps(MAGIC, 2)
# The keys under which checkpoints hold their state dict.
STATE_DICTS = ("state_dict", "model")
# What torch.nn.DataParallel puts before each name.
PARALLEL = "module."
# The largest JSON header that safetensors itself reads.
MOST_HEADER = 100_000_000


def is_one(path: str) -> bool:
    """Whether a file begins as one of the formats does. Raises UserError if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return _begins(stream) != ""
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def read(path: str) -> Tensors:
    """The tensors of a state dict: name -> values, in the file's order. float16 and bfloat16 become float32.

    A state dict under the key `state_dict` or `model` is found, and the prefix `module.` is taken away. Raises
    UserError if the file is none of the formats, was cut, contradicts itself, or holds anything but tensors and plain
    values.
    """
    try:
        with open(path, "rb") as stream:
            kind = _begins(stream)
            if kind == ZIP:
                return _state_dict(path, *_read_zip(path, stream))
            if kind == LEGACY:
                return _state_dict(path, *_read_legacy(path, stream))
            if kind == SAFE:
                return _without_prefix(_read_safetensors(path, stream, os.fstat(stream.fileno()).st_size))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    raise UserError(f"{path}: neither a file of PyTorch (.pth, .pt) nor one of safetensors, or one that was cut")


def _begins(stream: BinaryIO) -> str:
    """The format that a file begins with, or "". The stream is at its beginning, also afterwards."""
    start = stream.read(len(MAGIC_START))
    stream.seek(0)
    return (ZIP if start.startswith(ZIP_START) else LEGACY if start == MAGIC_START else
            SAFE if start[8:9] == b"{" else "")


# ---------------------------------------------------------------- pickles

class _Tensor:
    """A tensor as a pickle describes it; its values are elsewhere in the file."""

    __slots__ = ("storage", "offset", "shape", "strides")

    def __init__(self, storage: "_Storage", offset: int, shape: Sequence[int], strides: Sequence[int]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def __setstate__(self, state: Any) -> None:
        """Old files give the state of a parameter, such as `requires_grad`, in this way. It is not needed."""


@dataclass(frozen=True)
class _Storage:
    key: str
    # A value of STORAGES.
    dtype: str
    # The number of values.
    count: int


class _Unpickler(pickle.Unpickler):
    """Makes dictionaries of _Tensor and plain values.

    `find_class` is asked for each function and class that a pickle wants to use. What it returns here cannot be changed
    by the pickle: methods, strings and OrderedDict do not accept attributes.
    """

    def __init__(self, path: str, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="utf-8")
        self._path = path
        # Key -> what the pickle says of it.
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch.nn.parameter", "Parameter"): self._parameter}
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) not in allowed:
            raise UserError(f"{self._path}: holds {module}.{name}, which is not read from a pickle; save the state "
                            "dict alone, torch.save(model.state_dict(), FILE)")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage of ("storage", dtype, key, device, number of values). Legacy files add a view, which is None."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or dtype not in STORAGES.values() or not isinstance(key, str) or any(view):
            raise ValueError("no storage")
        storage = _Storage(key, dtype, _whole(count))
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("a storage of two kinds")
        return storage

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
        """rest: whether there is a gradient, hooks and metadata."""
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise ValueError("no tensor")
        return _Tensor(storage, _whole(offset), [_whole(size) for size in shape], [_whole(step) for step in strides])

    def _parameter(self, data: Any, *rest: Any) -> _Tensor:
        """rest: whether it has a gradient, and hooks."""
        if not isinstance(data, _Tensor):
            raise ValueError("no parameter")
        return data


def _whole(value: Any) -> int:
    """A whole number of at least 0. Raises ValueError."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a whole number of at least 0")
    return value


def _unpickle(path: str, stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """The object of the pickle that begins where `stream` is, and the storages that it names. Afterwards the stream is
    behind the pickle. Raises UserError."""
    try:
        start = stream.tell()
        for opcode, argument, _ in pickletools.genops(stream):
            # Python's reader would make a list of this length.
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > stream.getbuffer().nbytes:
                raise ValueError("an index beyond the pickle")
        end = stream.tell()
        unpickler = _Unpickler(path, io.BytesIO(stream.getbuffer()[start:end]))
        content = unpickler.load()
        stream.seek(end)
        return content, unpickler.storages
    except UserError:
        raise
    # A damaged pickle raises nearly anything.
    except Exception:
        raise UserError(f"{path}: its pickle is damaged, or the file was cut") from None


def _state_dict(path: str, content: Any, values: Callable[[_Storage], bytes]) -> Tensors:
    """The tensors of a checkpoint. values: the bytes of a storage."""
    for key in STATE_DICTS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no dictionary, expected a state dict")
    described = {name: tensor for name, tensor in content.items()
                 if isinstance(name, str) and isinstance(tensor, _Tensor)}
    if not described:
        raise UserError(f"{path}: holds no tensors, neither at its top nor under {' or '.join(STATE_DICTS)}")
    storages: dict[str, np.ndarray] = {}
    tensors = {}
    for name, tensor in described.items():
        _require_inside(path, name, tensor)
        storage = tensor.storage
        if storage.key not in storages:
            storages[storage.key] = _decoded(path, f"storage {storage.key}", storage.dtype, values(storage),
                                             storage.count)
        held = storages[storage.key]
        try:
            tensors[name] = np.lib.stride_tricks.as_strided(
                held[tensor.offset:], tensor.shape, [step * held.itemsize for step in tensor.strides]).copy()
        except (ValueError, OverflowError):  # of no values, or one, in sizes or strides beyond 64 bits
            raise UserError(f"{path}: tensor {name} has shape {tensor.shape} and strides {tensor.strides}") from None
    return _without_prefix(tensors)


def _require_inside(path: str, name: str, tensor: _Tensor) -> None:
    """Raises UserError if a tensor reaches beyond its storage."""
    if len(tensor.shape) != len(tensor.strides):
        raise UserError(f"{path}: tensor {name} has shape {tensor.shape} and strides {tensor.strides}")
    count = math.prod(tensor.shape)
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides))
    # More values than the storage has would be repetitions of the same ones, with which a small file fills the memory.
    if count and (last >= tensor.storage.count or count > tensor.storage.count):
        raise UserError(f"{path}: tensor {name} of shape {tensor.shape} reaches beyond its storage of "
                        f"{tensor.storage.count} values")


def _decoded(path: str, name: str, dtype: str, data: bytes, count: int) -> np.ndarray:
    """(count,) values; float32 for the 16-bit formats. Raises UserError if `data` has another length."""
    if len(data) != count * _size(dtype):
        raise UserError(f"{path}: {name} has {len(data)} bytes, expected {count * _size(dtype)}; or the file was cut")
    if dtype == BFLOAT16:  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    values = np.frombuffer(data, dtype)
    return values.astype(np.float32) if dtype == "<f2" else values


def _size(dtype: str) -> int:
    """Bytes of a value."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def _without_prefix(tensors: Tensors) -> Tensors:
    if not all(name.startswith(PARALLEL) for name in tensors):
        return tensors
    return {name[len(PARALLEL):]: values for name, values in tensors.items()}


# ---------------------------------------------------------------- the files

def _read_zip(path: str, stream: BinaryIO) -> tuple[Any, Callable[[_Storage], bytes]]:
    try:
        archive = zipfile.ZipFile(stream)
    except Exception:
        raise UserError(f"{path}: its table of contents is damaged, or the file was cut") from None
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"{path}: a zip file without PyTorch's data.pkl")
    folder = pickles[0][:-len("data.pkl")]

    def entry(name: str) -> bytes:
        try:
            info = archive.getinfo(folder + name)
        except KeyError:
            raise UserError(f"{path}: lacks {name}") from None
        # PyTorch does not compress. So no entry is larger than the file.
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise UserError(f"{path}: {name} is compressed or encrypted, which PyTorch's files are not")
        try:
            return archive.read(info)
        except Exception:
            raise UserError(f"{path}: {name} is damaged") from None
    if folder + "byteorder" in archive.namelist() and entry("byteorder") != b"little":
        raise UserError(f"{path}: is in big-endian order, expected little-endian")
    content, _ = _unpickle(path, io.BytesIO(entry("data.pkl")))
    return content, lambda storage: entry("data/" + storage.key)


def _read_legacy(path: str, stream: BinaryIO) -> tuple[Any, Callable[[_Storage], bytes]]:
    data = io.BytesIO(stream.read())
    _, version, system = (_unpickle(path, data)[0] for _ in range(3))
    if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UserError(f"{path}: is not in version 1001 of PyTorch's legacy format, little-endian")
    content, storages = _unpickle(path, data)
    keys, _ = _unpickle(path, data)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise UserError(f"{path}: its list of storages is not that of its tensors")
    held = {}
    for key in keys:
        count = int.from_bytes(data.read(8), "little")
        if count != storages[key].count:
            raise UserError(f"{path}: storage {key} has {count} values, expected {storages[key].count}; or the file "
                            "was cut")
        held[key] = data.read(count * _size(storages[key].dtype))
    return content, lambda storage: held[storage.key]


def _read_safetensors(path: str, stream: BinaryIO, size: int) -> Tensors:
    length = int.from_bytes(stream.read(8), "little")
    if length > min(MOST_HEADER, size - 8):
        raise UserError(f"{path}: its header has {length} bytes, and the file {size}; or the file was cut")
    try:
        header = json.loads(stream.read(length).decode())
        entries = {name: (entry["dtype"], [_whole(side) for side in entry["shape"]],
                          [_whole(at) for at in entry["data_offsets"]])
                   for name, entry in header.items() if name != "__metadata__"}
    except Exception:
        raise UserError(f"{path}: its header is not that of safetensors") from None
    data = stream.read()
    tensors = {}
    for name, (dtype, shape, offsets) in entries.items():
        if dtype not in SAFETENSORS:
            raise UserError(f"{path}: tensor {name} has the type {dtype}, expected one of {', '.join(SAFETENSORS)}")
        if len(offsets) != 2 or not offsets[0] <= offsets[1] <= len(data):
            raise UserError(f"{path}: tensor {name} is at {offsets} of {len(data)} bytes; or the file was cut")
        values = _decoded(path, f"tensor {name}", SAFETENSORS[dtype], data[slice(*offsets)], math.prod(shape))
        try:
            tensors[name] = values.reshape(shape)
        except (ValueError, OverflowError):  # of no values, in sizes beyond 64 bits
            raise UserError(f"{path}: tensor {name} has shape {shape}") from None
    return tensors


# ---------------------------------------------------------------- writing

def write_safetensors(path: str, tensors: Tensors, metadata: dict[str, str]) -> None:
    """Writes tensors as float32. metadata: texts, which are the first bytes of the header."""
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [at, at + 4 * values.size]}
        at += 4 * values.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the values begin at a multiple of 8
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            stream.write(values.astype("<f4").tobytes())
