"""Datums and LMDBs: equal to protobuf's own reading, to the byte."""
import caffe
import numpy as np
import pytest

from common.errors import UserError
from data_prep import lmdb_io


def datum(raw):
    return caffe.proto.caffe_pb2.Datum.FromString(raw)


def test_float_record_is_what_protobuf_writes():
    vector = np.array([0, 1.5, -2, 3e-9, np.float32(0.1)], np.float32)
    expected = caffe.proto.caffe_pb2.Datum(channels=5, height=1, width=1, label=6)
    expected.float_data.extend(vector.tolist())
    raw = lmdb_io.encode_floats(vector, 6)
    assert raw == expected.SerializeToString()
    np.testing.assert_array_equal(lmdb_io.decode_floats([raw], 5), [vector])
    array, label = lmdb_io.decode(raw)
    assert (array.shape, label) == ((5, 1, 1), 6)
    np.testing.assert_array_equal(array.ravel(), vector)


def test_fast_reading_gives_way_to_protobuf_where_the_layout_differs():
    other = caffe.proto.caffe_pb2.Datum(channels=2, height=1, width=1, encoded=False)
    other.float_data.extend([1, 2])
    usual = lmdb_io.encode_floats(np.array([3, 4], np.float32), 0)
    np.testing.assert_array_equal(lmdb_io.decode_floats([usual, other.SerializeToString(), memoryview(usual)], 2),
                                  [[3, 4], [1, 2], [3, 4]])
    shorter = lmdb_io.encode_floats(np.array([5], np.float32), 0)
    with pytest.raises(ValueError):
        lmdb_io.decode_floats([usual, shorter], 2)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3)])
def test_image_record(shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    raw = lmdb_io.encode_image(image, 2)
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    assert (datum(raw).channels, datum(raw).height, datum(raw).width) == planes.shape
    array, label = lmdb_io.decode(raw)
    assert label == 2
    np.testing.assert_array_equal(array, planes)


def test_decoded_values_are_no_view_of_the_record_and_viewed_ones_are():
    raw = lmdb_io.encode_image(np.arange(12, dtype=np.uint8).reshape(3, 4), 2)
    memory = np.frombuffer(raw, np.uint8)
    (decoded, first), (viewed, second) = lmdb_io.decode(raw), lmdb_io.view(raw)
    assert not np.shares_memory(decoded, memory) and np.shares_memory(viewed, memory)
    np.testing.assert_array_equal(decoded, viewed)
    assert first == second == 2


def fill(path, records, size=1 << 22, **note):
    writer = lmdb_io.Writer(str(path), size, note)
    for index, record in enumerate(records):
        writer.put(index, record)
    writer.close()
    return lmdb_io.Reader(str(path))


def test_records_come_back_in_order_beyond_one_commit(tmp_path):
    reader = fill(tmp_path / "lmdb", (b"%d" % n for n in range(2500)), seed=3)
    assert [reader[n] for n in (0, 999, 1000, 2499)] == [b"0", b"999", b"1000", b"2499"]
    assert len(reader) == 2500
    assert reader.note == {"seed": 3, "count": 2500}


@pytest.mark.parametrize("record_bytes", [100, 2304, 51529, 64000])
def test_estimate_is_enough_and_not_far_off(tmp_path, record_bytes):
    size = lmdb_io.estimate(2000, record_bytes)
    fill(tmp_path / "lmdb", (bytes(record_bytes + 20) for _ in range(2000)), size)
    used = (tmp_path / "lmdb" / "data.mdb").stat().st_blocks * 512
    assert used <= size


def test_missing_record_and_missing_lmdb_are_named(tmp_path):
    reader = fill(tmp_path / "lmdb", [b"0"])
    with pytest.raises(UserError, match="lmdb: no record with key 00000001"):
        reader[1]
    with pytest.raises(UserError, match="nowhere: no LMDB here"):
        lmdb_io.Reader(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("key, value", [("manifest", "b"), ("crops", "ten"), ("seed", 1), ("split", "val"),
                                        ("records", None)])
def test_sets_that_were_not_made_together_do_not_match(tmp_path, key, value):
    note = {"manifest": "a", "crops": "whole", "seed": 0, "split": "train"}
    images = fill(tmp_path / "images", [b"0", b"1"], **note)
    other = [b"0"] if key == "records" else [b"0", b"1"]
    features = fill(tmp_path / "features", other, **(note if key == "records" else dict(note, **{key: value})))
    with pytest.raises(UserError, match="features does not match .*images: " + key):
        lmdb_io.require_match(images, features)


def test_float_image_and_png():
    floats = np.random.RandomState(0).normal(size=(5, 4)).astype(np.float32)
    array, label = lmdb_io.decode(lmdb_io.encode_image(floats, 3))
    assert array.shape == (1, 5, 4) and label == 3
    np.testing.assert_array_equal(array[0], floats)
    for shape in ((6, 5), (6, 5, 3)):
        image = np.random.RandomState(1).randint(0, 256, shape).astype(np.uint8)
        raw = lmdb_io.encode_image(image, 4, "png")
        assert datum(raw).encoded
        array, label = lmdb_io.decode(raw)
        assert label == 4
        np.testing.assert_array_equal(array, image[None] if image.ndim == 2 else image.transpose(2, 0, 1))


def test_records_in_any_order_fit_into_the_estimate(tmp_path):
    for record_bytes in (100, 1900, 51529):
        writer = lmdb_io.Writer(str(tmp_path / str(record_bytes)), lmdb_io.estimate(1500, record_bytes), {})
        for index in np.random.RandomState(0).permutation(1500):
            writer.put(int(index), b"%08d" % index + bytes(record_bytes))
        writer.close()
        reader = lmdb_io.Reader(str(tmp_path / str(record_bytes)))
        assert [reader[index][:8] for index in range(1500)] == [b"%08d" % index for index in range(1500)]


def test_a_file_that_was_cut_is_named(tmp_path):
    fill(tmp_path / "lmdb", (bytes(3000) for _ in range(100))).close()
    path = tmp_path / "lmdb" / "data.mdb"
    with open(str(path), "r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    with pytest.raises(UserError, match="lmdb: data.mdb has .* bytes, expected at least .*: the file was cut"):
        lmdb_io.Reader(str(tmp_path / "lmdb"))


@pytest.mark.parametrize("change, said", [
    (lambda content: b"", "not a readable LMDB: data.mdb is empty"),
    (lambda content: b"junk", "not a readable LMDB: File is not an LMDB file"),
    (lambda content: np.random.RandomState(0).bytes(len(content)), "not a readable LMDB: File is not an LMDB file"),
    (lambda content: content[:2 * 4096] + bytes(len(content) - 2 * 4096), "not a readable LMDB: Located page")],
    ids=["empty", "short", "garbage", "zeros behind the head"])
def test_a_file_that_is_no_lmdb_is_named(tmp_path, change, said):
    fill(tmp_path / "lmdb", (bytes(3000) for _ in range(100))).close()
    path = tmp_path / "lmdb" / "data.mdb"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError) as error:
        reader = lmdb_io.Reader(str(tmp_path / "lmdb"))
        [bytes(reader[index]) for index in range(100)]
    assert str(error.value).startswith("{}: {}".format(tmp_path / "lmdb", said))


def test_fewer_records_than_the_note_says_are_named(tmp_path):
    fill(tmp_path / "lmdb", [b"0", b"1"]).close()
    (tmp_path / "lmdb" / "note.json").write_text('{"count": 3}')
    with pytest.raises(UserError, match="lmdb: 2 records, but note.json says 3; prepare the data anew"):
        lmdb_io.Reader(str(tmp_path / "lmdb"))
