"""Files of PyTorch and safetensors: their tensors, and what is refused. `tests/host_oracles` reads those that PyTorch
itself has written."""
import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from common.errors import UserError
from tests.tools.weights.torch_files import (
    EMPTY,
    Op,
    call,
    checkpoint,
    named,
    of_legacy,
    of_safetensors,
    of_zip,
    op,
    tensor,
    whole,
)
from tools.weights import torch_file

SIX = np.arange(6, dtype=np.float32)


@pytest.fixture
def read(tmp_path):
    def written_and_read(data):
        (tmp_path / "w.pth").write_bytes(data)
        return torch_file.read(str(tmp_path / "w.pth"))
    return written_and_read


@pytest.fixture
def refused(read):
    """Reads a file that must be refused, and returns why, without the file's name."""
    def message(data):
        with pytest.raises(UserError) as error:
            read(data)
        text = str(error.value)
        assert "w.pth: " in text and "\n" not in text
        return text.partition("w.pth: ")[2]
    return message


def in_both(content, storages, counts):
    return [of_zip(content, storages), of_legacy(content, storages, counts)]


def test_views_of_one_storage_in_both_formats(read):
    content = {"whole": tensor("0", (2, 3), (3, 1)), "transposed": tensor("0", (3, 2), (1, 3)),
               "column": tensor("0", (2,), (3,), offset=1, count=6),
               "scalar": tensor("0", (), (), offset=4, count=6), "row": tensor("0", (1, 3), (99, 1), 3, 6)}
    for data in in_both(content, {"0": SIX.tobytes()}, {"0": 6}):
        found = read(data)
        assert list(found) == list(content)
        assert {name: values.tolist() for name, values in found.items()} == {
            "whole": [[0, 1, 2], [3, 4, 5]], "transposed": [[0, 3], [1, 4], [2, 5]], "column": [1, 4], "scalar": 4,
            "row": [[3, 4, 5]]}
        assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}


# 1.5, -2 and 0.15625 by hand: sign, exponent, fraction.
@pytest.mark.parametrize("dtype, data", [
    ("float16", bytes.fromhex("003e 00c0 0031")), ("bfloat16", bytes.fromhex("c03f 00c0 203e")),
    ("float32", bytes.fromhex("0000c03f 000000c0 0000203e")),
    ("float64", bytes.fromhex("000000000000f83f 00000000000000c0 000000000000c43f"))])
def test_formats_of_numbers(read, dtype, data):
    content = {"a": tensor("x", (3,), (1,), dtype=dtype)}
    safe = of_safetensors({"a": (dict(float16="F16", bfloat16="BF16", float32="F32", float64="F64")[dtype], [3], data)})
    for file in [*in_both(content, {"x": data}, {"x": 3}), safe]:
        found = read(file)["a"]
        assert found.tolist() == [1.5, -2, 0.15625]
        assert found.dtype == (np.float64 if dtype == "float64" else np.float32)


def test_several_storages_of_several_types(read):
    content = {"a": tensor("7", (6,), (1,)), "n": tensor("3", (), (), count=1, dtype="int64"),
               "b": tensor("5", (2,), (1,), dtype="bool")}
    storages = {"3": (12345678901).to_bytes(8, "little"), "5": b"\1\0", "7": SIX.tobytes()}
    for data in in_both(content, storages, {"3": 1, "5": 2, "7": 6}):
        found = read(data)
        assert found["a"].tolist() == [0, 1, 2, 3, 4, 5] and found["n"] == 12345678901
        assert found["b"].tolist() == [True, False]


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": state, "epoch": 3, "best": tensor("0", (), (), count=6)},
    lambda state: {"model": state},
    lambda state: {"state_dict": state, "model": "resnet18"},
    lambda state: state])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_of_checkpoints(read, wrap, prefix):
    state = {prefix + "a.weight": tensor("0", (6,), (1,)), prefix + "b": tensor("0", (), (), count=6)}
    found = read(of_zip(wrap(state), {"0": SIX.tobytes()}))
    assert list(found) == ["a.weight", "b"] and found["a.weight"].tolist() == SIX.tolist()


def test_a_prefix_of_some_names_stays(read):
    content = {"module.a": tensor("0", (6,), (1,)), "b": tensor("0", (6,), (1,))}
    assert list(read(of_zip(content, {"0": SIX.tobytes()}))) == ["module.a", "b"]


def test_parameters_and_ordered_dictionaries_as_pytorch_writes_them(read):
    """A state dict is an OrderedDict with metadata as its attribute; old files have parameters with a state."""
    held = tensor("0", (6,), (1,))
    new = call(named("torch._utils", "_rebuild_parameter"), held, True, EMPTY)
    old = Op(op(call(named("torch.nn.parameter", "Parameter"), tensor("0", (6,), (1,), function="_rebuild_tensor")))
             + op((True, False, EMPTY)) + b"b")
    state = Op(op(EMPTY) + b"(" + b"".join(map(op, ("new", new, "old", old))) + b"u"
               + op({"_metadata": EMPTY}) + b"b")
    for data in in_both(state, {"0": SIX.tobytes()}, {"0": 6}):
        found = read(data)
        assert found["new"].tolist() == found["old"].tolist() == SIX.tolist()


def test_storages_that_are_not_used_are_not_read(read):
    content = {"state_dict": {"a": tensor("0", (6,), (1,))}, "optimizer": tensor("1", (6,), (1,))}
    assert list(read(of_zip(content, {"0": SIX.tobytes()}))) == ["a"]


# ---------------------------------------------------------------- pickles that do more

def touch(path):
    return op((f"touch {path}",))


@pytest.mark.parametrize("attack", [
    lambda path: op(named("posix", "system")) + touch(path) + b"R",
    lambda path: op(named("os", "system")) + touch(path) + b"R",
    lambda path: op(named("builtins", "eval")) + op((f"open({str(path)!r}, 'w')",)) + b"R",
    # Without memory of the name: STACK_GLOBAL, INST, OBJ.
    lambda path: op("posix") + op("system") + b"\x93" + touch(path) + b"R",
    lambda path: b"(" + op(f"touch {path}") + b"iposix\nsystem\n",
    lambda path: b"(" + op(named("posix", "system")) + op(f"touch {path}") + b"o",
    lambda path: op(named("pathlib", "Path")) + op((str(path),)) + b"R",
    lambda path: op(named("torch", "load")) + touch(path) + b"R",
    lambda path: op(named("torch._utils", "_import_dotted_name")) + touch(path) + b"R",
    lambda path: op(named("collections", "OrderedDict.fromkeys")) + touch(path) + b"R",
    lambda path: op(named("numpy.core.multiarray", "_reconstruct")) + b")R"])
def test_a_pickle_that_calls_a_function_is_refused_before_it_is_called(tmp_path, refused, attack):
    touched = tmp_path / "touched"
    for content in (Op(attack(touched)), {"state_dict": {"a": tensor("0", (6,), (1,))}, "x": Op(attack(touched))}):
        for data in in_both(content, {"0": SIX.tobytes()}, {"0": 6}):
            assert "is not read from a pickle; save the state dict alone" in refused(data)
    assert not touched.exists()


def test_the_attacks_are_real(tmp_path):
    """Python's own reader does what the pickles of the test above ask for."""
    pickle.loads(whole(Op(op(named("posix", "system")) + touch(tmp_path / "touched") + b"R")))
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize("inner", [
    op(named("torch", "FloatStorage")) + op((1,)) + b"R",  # calls a type of storage
    op(named("torch._utils", "_rebuild_tensor_v2")) + op((1, 2, 3, 4)) + b"R",
    op(named("torch.nn.parameter", "Parameter")) + op((1,)) + b"R",
    op(named("torch._utils", "_rebuild_tensor_v2")) + op((None, {"__defaults__": ()})) + b"b",  # changes the reader
    op(named("torch", "FloatStorage")) + op({"x": 1}) + b"b",
    op(("storage", "no type", "0", "cpu", 6)) + b"Q", op(5) + b"Q",
    op(("module", named("torch", "FloatStorage"), "0", "cpu", 6)) + b"Q",
    op(("storage", named("torch", "FloatStorage"), "0", "cpu", -6)) + b"Q",
    op(("storage", named("torch", "FloatStorage"), "0", "cpu", 6, ("1", 0, 6))) + b"Q",  # a view of another storage
    # Indices for which the reader would make long lists, lengths beyond the file, an unknown index, nothing, no opcode.
    b"Nr" + (10 ** 7).to_bytes(4, "little"), b"Np10000000\n", b"\x8a\xffxx", b"\x8e" + b"\xff" * 8, b"h\x63", b"",
    b"\xff"])
def test_damaged_pickles(refused, inner):
    """Each is one value of a dictionary, which is otherwise whole."""
    for data in in_both({"a": Op(inner)}, {}, {}):
        assert refused(data) == "its pickle is damaged, or the file was cut"


# ---------------------------------------------------------------- files that contradict themselves

@pytest.mark.parametrize("described, said", [
    (tensor("0", (7,), (1,), count=6), "tensor a of shape [7] reaches beyond its storage of 6 values"),
    (tensor("0", (6,), (1,), 1, 6), "tensor a of shape [6] reaches beyond its storage of 6 values"),
    (tensor("0", (2, 3), (4, 1), count=6), "tensor a of shape [2, 3] reaches beyond its storage of 6 values"),
    (tensor("0", (), (), 6, 6), "tensor a of shape [] reaches beyond its storage of 6 values"),
    # With a stride of 0 a few bytes would fill the memory.
    (tensor("0", (10 ** 9, 10 ** 9), (0, 0), count=6),
     "tensor a of shape [1000000000, 1000000000] reaches beyond its storage of 6 values"),
    (tensor("0", (2, 3), (1,), count=6), "tensor a has shape [2, 3] and strides [1]"),
    (tensor("0", (1,), (10 ** 30,), count=6), f"tensor a has shape [1] and strides [{10 ** 30}]"),
    (tensor("0", (0, 10 ** 30), (1, 1), count=6), f"tensor a has shape [0, {10 ** 30}] and strides [1, 1]")])
def test_tensors_beyond_their_storage(refused, described, said):
    for data in in_both({"a": described}, {"0": SIX.tobytes()}, {"0": 6}):
        assert refused(data) == said


def test_storages_of_another_length(refused):
    described = {"a": tensor("0", (10 ** 12,), (1,))}
    assert refused(of_zip(described, {"0": b"1234"})) == (
        "storage 0 has 4 bytes, expected 4000000000000; or the file was cut")
    assert refused(of_legacy(described, {"0": b"1234"}, {"0": 10 ** 12})) == (
        "storage 0 has 4 bytes, expected 4000000000000; or the file was cut")
    assert refused(of_legacy(described, {"0": b"1234"}, {"0": 1})) == (
        "storage 0 has 1 values, expected 1000000000000; or the file was cut")
    assert refused(of_zip(described, {"1": b"1234"})) == "lacks data/0"
    assert refused(of_legacy(described, {"1": b"1234"}, {"1": 1})) == (
        "its list of storages is not that of its tensors")
    two = {"a": tensor("0", (6,), (1,)), "b": tensor("0", (3,), (1,), dtype="float64")}
    assert "its pickle is damaged" in refused(of_zip(two, {"0": SIX.tobytes()}))


def test_zip_files_that_are_not_pytorchs(refused):
    stream = io.BytesIO()
    np.savez(stream, a=SIX)
    assert refused(stream.getvalue()) == "a zip file without PyTorch's data.pkl"
    described = {"a": tensor("0", (6,), (1,))}
    zeros = {"0": bytes(24)}
    assert "data.pkl is compressed or encrypted" in refused(of_zip(described, zeros, compression=zipfile.ZIP_DEFLATED))
    assert refused(of_zip(described, zeros, byteorder=b"big")) == "is in big-endian order, expected little-endian"
    data = of_zip(described, {"0": SIX.tobytes()})
    assert refused(data.replace(SIX.tobytes(), SIX[::-1].tobytes())) == "data/0 is damaged"


def test_legacy_files_of_other_versions(refused):
    for options in ({"version": 1000}, {"little": False}):
        assert refused(of_legacy({}, {}, {}, **options)) == (
            "is not in version 1001 of PyTorch's legacy format, little-endian")


@pytest.mark.parametrize("content, said", [
    ({}, "holds no tensors, neither at its top nor under state_dict or model"),
    ({"state_dict": {"a": 1}}, "holds no tensors"), ({5: tensor("0", (6,), (1,))}, "holds no tensors"),
    ([1, 2], "holds no dictionary, expected a state dict"), (tensor("0", (6,), (1,)), "holds no dictionary")])
def test_files_without_a_state_dict(refused, content, said):
    assert refused(of_zip(content, {"0": SIX.tobytes()})).startswith(said)


@pytest.mark.parametrize("data", [b"", b"PK", b"hello", b"\x0a\x03net", b"\x80\x02}q\x00."])
def test_other_files(refused, data):
    assert refused(data) == "neither a file of PyTorch (.pth, .pt) nor one of safetensors, or one that was cut"


def test_missing_files_and_folders(tmp_path):
    for path, said in ((tmp_path / "none.pth", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=f"{path}: {said}"):
            torch_file.read(str(path))


HEADER = {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}


@pytest.mark.parametrize("entry, said", [
    (dict(HEADER, dtype="F8_E4M3"), "tensor a has the type F8_E4M3, expected one of F32, "),
    (dict(HEADER, shape=[7]), "tensor a has 24 bytes, expected 28; or the file was cut"),
    (dict(HEADER, data_offsets=[1, 25]), "tensor a is at [1, 25] of 24 bytes; or the file was cut"),
    (dict(HEADER, data_offsets=[24, 0]), "tensor a is at [24, 0] of 24 bytes"),
    (dict(HEADER, data_offsets=[24]), "tensor a is at [24] of 24 bytes"),
    (dict(HEADER, shape=[0, 10 ** 30], data_offsets=[0, 0]), f"tensor a has shape [0, {10 ** 30}]"),
    (dict(HEADER, shape=[-6]), "its header is not that of safetensors"),
    (dict(HEADER, shape=6), "its header is not that of safetensors"),
    ({"dtype": "F32"}, "its header is not that of safetensors"), ([], "its header is not that of safetensors")])
def test_headers_of_safetensors_that_contradict_the_file(refused, entry, said):
    assert refused(of_safetensors({"a": ("F32", [6], SIX.tobytes())}, a=entry)).startswith(said)


def test_lengths_of_safetensors_headers(refused):
    data = of_safetensors({"a": ("F32", [6], SIX.tobytes())})
    for length in (len(data) - 7, 2 ** 64 - 1):
        assert refused(length.to_bytes(8, "little") + data[8:]).startswith(f"its header has {length} bytes")
    assert refused(b"\x08\0\0\0\0\0\0\0{\"a\": 1}") == "its header is not that of safetensors"


FILES = [of_zip({"a": tensor("0", (2, 3), (3, 1))}, {"0": SIX.tobytes()}),
         of_legacy({"a": tensor("0", (2, 3), (3, 1))}, {"0": SIX.tobytes()}, {"0": 6}),
         of_safetensors({"a": ("F32", [2, 3], SIX.tobytes())})]


@pytest.mark.parametrize("data", FILES, ids=["zip", "legacy", "safetensors"])
def test_a_file_cut_anywhere_is_refused(refused, data):
    for length in range(len(data)):
        refused(data[:length])


@pytest.mark.parametrize("data", FILES, ids=["zip", "legacy", "safetensors"])
def test_any_changed_byte_is_read_or_refused_in_one_line(read, data):
    read(data)
    random = np.random.RandomState(3)
    for _ in range(1500):
        changed = bytearray(data)
        for at in random.randint(len(data), size=random.randint(1, 4)):
            changed[at] = random.randint(256)
        try:
            read(bytes(changed))
        except UserError as error:
            assert "\n" not in str(error)


def test_written_safetensors_have_the_documented_layout(tmp_path):
    tensors = {"b": np.float32([[1.5, 2], [3, 4]]), "a": np.float64([0.1])}
    torch_file.write_safetensors(str(tmp_path / "w"), tensors, {"format": "pt"})
    data = (tmp_path / "w").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0 and json.loads(data[8:8 + length]) == {
        "__metadata__": {"format": "pt"}, "b": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [16, 20]}}
    assert data[8 + length:] == np.float32([1.5, 2, 3, 4, 0.1]).tobytes()
    found = torch_file.read(str(tmp_path / "w"))
    assert found["b"].tolist() == [[1.5, 2], [3, 4]] and found["a"].dtype == np.float32


def test_checkpoints_written_for_other_tests_are_read(read):
    tensors = {"a": np.arange(24.).reshape(2, 3, 4), "b": np.float32(5), "c": np.int64([7, 8])}
    found = read(checkpoint(tensors))
    assert all((found[name] == values).all() and found[name].shape == values.shape for name, values in tensors.items())
