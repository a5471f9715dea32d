"""Writes files in PyTorch's formats and in that of safetensors by hand. Their pickles are put together opcode by
opcode."""
import io
import json
import pickle
import zipfile

import numpy as np

STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage",
            "bfloat16": "BFloat16Storage", "bool": "BoolStorage"}
SAFE = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "bfloat16": "BF16"}


class Op:
    """Opcodes that leave one value on the stack."""

    def __init__(self, code: bytes) -> None:
        self.code = code


def op(value) -> bytes:
    """The opcodes that make a value."""
    if isinstance(value, Op):
        return value.code
    if isinstance(value, dict):
        return b"}(" + b"".join(op(key) + op(inner) for key, inner in value.items()) + b"u"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(op, value)) + b"t"
    return pickle.dumps(value, 2)[2:-1]  # without its beginning and its end


def named(module: str, name: str) -> Op:
    return Op(f"c{module}\n{name}\n".encode())


def call(function: Op, *arguments) -> Op:
    return Op(op(function) + op(arguments) + b"R")


def whole(value) -> bytes:
    return b"\x80\x02" + op(value) + b"."


EMPTY = call(named("collections", "OrderedDict"))


def tensor(key: str, shape: tuple, strides: tuple, offset: int = 0, count: int = 0, dtype: str = "float32",
           view: tuple = (), function: str = "_rebuild_tensor_v2") -> Op:
    """count: values of the storage; 0 for as many as the shape has."""
    count = count or int(np.prod(shape, dtype=int))
    storage = Op(op(("storage", named("torch", STORAGES[dtype]), key, "cpu", count, *view)) + b"Q")
    return call(named("torch._utils", function), storage, offset, shape, strides,
                *((False, EMPTY) if function.endswith("v2") else ()))


def of_zip(content, storages: dict, folder: str = "archive", compression=zipfile.ZIP_STORED, **others: bytes) -> bytes:
    """storages: key -> bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", whole(content))
        for name, data in others.items():
            archive.writestr(f"{folder}/{name}", data)
        for key, data in storages.items():
            archive.writestr(f"{folder}/data/{key}", data)
        archive.writestr(f"{folder}/version", b"3\n")
    return stream.getvalue()


def of_legacy(content, storages: dict, counts: dict, version: int = 1001, little: bool = True) -> bytes:
    """counts: key -> values in the storage."""
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    return (whole(0x1950a86a20f9469cfc6c) + whole(version) + whole(system) + whole(content) + whole(list(storages))
            + b"".join(counts[key].to_bytes(8, "little") + data for key, data in storages.items()))


def checkpoint(tensors: dict) -> bytes:
    """A zip file of a state dict. tensors: name -> values."""
    storages = {str(number): np.ascontiguousarray(values).tobytes() for number, values in enumerate(tensors.values())}
    described = {}
    for number, (name, values) in enumerate(tensors.items()):
        steps = tuple(int(np.prod(values.shape[axis + 1:], dtype=int)) for axis in range(values.ndim))
        described[name] = tensor(str(number), values.shape, steps, dtype=str(values.dtype), count=max(values.size, 1))
    return of_zip(described, storages)


def of_safetensors(tensors: dict, **header) -> bytes:
    """tensors: name -> (type, shape, bytes). header: entries that replace those of the tensors."""
    entries, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, shape, values) in tensors.items():
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps({**entries, **header}).encode()
    return len(text).to_bytes(8, "little") + text + data
