"""LMDBs of Datums are opened once in a process. tests/data_prep/test_lmdb_io.py and tests/engine/test_data.py read
them."""
import gc
import shutil

import caffe
import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import datums
from common.errors import UserError


def write(path, value):
    with lmdb.open(str(path), map_size=1 << 20, lock=False) as environment, environment.begin(write=True) as writing:
        writing.put(b"0", value)
    return str(path)


def read(environment):
    with environment.begin() as transaction:
        return transaction.get(b"0")


def test_readers_share_an_environment_until_none_needs_it(tmp_path):
    path = write(tmp_path / "db", b"old")
    first, second = datums.environment(path), datums.environment(str(tmp_path / "." / "db"))
    assert first is second and read(second) == b"old"
    del first
    gc.collect()
    assert read(second) == b"old"
    del second
    gc.collect()
    assert not datums._opened


def test_a_new_lmdb_at_the_same_path_is_opened_anew(tmp_path):
    path = write(tmp_path / "db", b"old")
    old = datums.environment(path)
    shutil.rmtree(path)
    write(tmp_path / "db", b"new")
    assert read(datums.environment(path)) == b"new" and read(old) == b"old"


def test_no_lmdb(tmp_path):
    with pytest.raises(UserError, match="no LMDB here, .*data.mdb cannot be read: No such file or directory"):
        datums.environment(str(tmp_path / "none"))


def datum(**changes):
    fields = dict(channels=2, height=3, width=4, label=5, data=bytes(range(24)))
    fields.update(changes)
    return caffe.proto.caffe_pb2.Datum(**{key: value for key, value in fields.items() if value is not None})


@pytest.mark.parametrize("changes", [
    {}, {"label": None}, {"label": 0}, {"label": 300}, {"label": 2 ** 31 - 1}, {"encoded": False},
    {"channels": 1, "height": 200, "width": 300, "data": bytes(60000)},
    {"channels": 1, "height": 1, "width": 1, "data": b"\x28"}])
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_raw_pixels_are_read_as_protobuf_reads_them(changes, kind):
    expected = datum(**changes)
    raw = kind(expected.SerializeToString())
    array, label = datums.pixels(raw)
    assert array.dtype == np.uint8 and array.shape == (expected.channels, expected.height, expected.width)
    assert array.tobytes() == expected.data and label == expected.label
    assert np.shares_memory(array, np.frombuffer(raw, np.uint8))


@pytest.mark.parametrize("raw", [
    datum(label=-1).SerializeToString(), datum(encoded=True).SerializeToString(),
    datum(data=bytes(23)).SerializeToString(), datum(data=bytes(25)).SerializeToString(),
    datum(width=None).SerializeToString(), datum(data=None, float_data=[1] * 24).SerializeToString(),
    datum(float_data=[1]).SerializeToString(), datum(data=b"", width=0).SerializeToString(),
    datum(height=-3, channels=-2).SerializeToString(),
    datum(label=None).SerializeToString() + b"\x28\xff\xff\xff\xff\x0f",  # 2^32 - 1, which protobuf reads as -1
    # Another order, a field twice, cut in its data, cut in its label, and what is no Datum.
    datum(channels=None).SerializeToString() + datum(height=None, width=None, data=None).SerializeToString(),
    datum().SerializeToString() + datum(data=None).SerializeToString(),
    datum(label=None).SerializeToString()[:-1], datum().SerializeToString()[:-1], b"", b"\x08", b"\xff" * 40])
def test_what_is_written_in_another_way_is_left_to_protobuf(raw):
    assert datums.pixels(raw) is None


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.data())
def test_no_record_is_read_in_another_way_than_by_protobuf(drawn):
    """Also damaged ones."""
    shape = drawn.draw(st.tuples(*[st.integers(0, 5)] * 3))
    raw = bytearray(datum(**dict(zip(("channels", "height", "width"), shape)), label=drawn.draw(st.integers(-2, 400)),
                          data=bytes(int(np.prod(shape)))).SerializeToString())
    for _ in range(drawn.draw(st.integers(0, 2))):
        raw[drawn.draw(st.integers(0, len(raw) - 1))] = drawn.draw(st.integers(0, 255))
    found = datums.pixels(bytes(raw))
    if found is not None:
        expected = caffe.proto.caffe_pb2.Datum.FromString(bytes(raw))
        assert found[0].shape == (expected.channels, expected.height, expected.width)
        assert (found[0].tobytes(), found[1]) == (expected.data, expected.label) and not expected.encoded
