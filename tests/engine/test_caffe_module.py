"""The stand-in for `caffe`: its blobs and its caffe.io beside the real ones."""
import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from engine import caffe_module, messages
from tests import caffe_nets

OURS = caffe_module.MODULES["caffe"]


class Probe(caffe.Layer):
    """Runs a function on a real blob."""

    function = None

    def setup(self, bottom, top):
        Probe.function(top[0])

    def reshape(self, bottom, top):
        top[0].reshape(1)


def on_both(tmp_path, monkeypatch, function):
    """What a function finds of a blob without a shape, in Caffe and in the stand-in."""
    found = []
    monkeypatch.setattr(Probe, "function", lambda blob: found.append(function(blob)))
    caffe_nets.net(tmp_path, 'layer { name: "p" type: "Python" top: "t" python_param { '
                             f'module: "{__name__}" layer: "Probe" }} }}')
    return found[0], function(caffe_module.Blob())


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4, 5)])
def test_shapes(tmp_path, monkeypatch, shape):
    def look(blob):
        seen = [list(blob.shape), blob.count]
        blob.reshape(*shape)
        return seen + [list(blob.shape), blob.count, blob.num, blob.channels, blob.height, blob.width, blob.data.shape,
                       blob.diff.shape, blob.data.dtype, type(blob.data), not blob.data.any() and not blob.diff.any()]
    theirs, ours = on_both(tmp_path, monkeypatch, look)
    assert ours == theirs


@pytest.mark.parametrize("shapes", [[(2, 3), (3, 2)], [(6,), (4,), (2, 2)], [(4,), ()]])
def test_memory_is_kept_where_it_suffices(tmp_path, monkeypatch, shapes):
    def look(blob):
        blob.reshape(*shapes[0])
        blob.data.flat[...] = range(blob.count)
        seen = []
        for shape in shapes[1:]:
            blob.reshape(*shape)
            seen.append(blob.data.tolist())
        return seen
    theirs, ours = on_both(tmp_path, monkeypatch, look)
    assert ours == theirs


def test_a_larger_shape_gets_new_memory():
    blob = caffe_module.Blob()
    blob.reshape(2)
    blob.data[...] = 1
    blob.reshape(3, 2)
    assert blob.data.tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("call", [
    lambda blob: blob.reshape([1, 2]), lambda blob: blob.reshape(1.0), lambda blob: setattr(blob, "data", 1),
    lambda blob: setattr(blob, "diff", 1), lambda blob: setattr(blob, "shape", (1,))])
def test_what_a_blob_refuses(tmp_path, monkeypatch, call):
    def look(blob):
        with pytest.raises((TypeError, AttributeError)) as error:
            call(blob)
        return error.type
    theirs, ours = on_both(tmp_path, monkeypatch, look)
    assert ours == theirs


def test_what_ends_the_process_in_caffe():
    blob = caffe_module.Blob()
    with pytest.raises(ValueError, match=r"^a blob cannot have the shape \(2, -1\)$"):
        blob.reshape(2, -1)
    blob.reshape(1, 2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"^a blob of shape \(1, 2, 3, 4, 5\) has more than four axes"):
        blob.num  # noqa: B018


def test_arrays_are_the_same_ones_each_time():
    blobs = caffe_module.Blobs()
    blobs.add_blob(2, 3)
    blobs[0].data[...] = 4
    blobs[-1].diff[1] += 1
    assert len(blobs) == 1 and (blobs[0].data == 4).all() and blobs[0].diff.sum() == 3


@pytest.mark.parametrize("array", [np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
                                   np.linspace(-1, 1, 24).reshape(2, 3, 4), np.ones((1, 1, 1), np.float32)])
@pytest.mark.parametrize("label", [None, 3])
def test_datums(array, label):
    made, expected = OURS.io.array_to_datum(array, label), caffe.io.array_to_datum(array, label)
    assert made.SerializeToString() == expected.SerializeToString()
    back = OURS.io.datum_to_array(made)
    np.testing.assert_array_equal(back, caffe.io.datum_to_array(expected))
    assert back.dtype == caffe.io.datum_to_array(expected).dtype and back.flags.writeable


def test_a_datum_has_three_axes():
    with pytest.raises(ValueError):
        OURS.io.array_to_datum(np.zeros((2, 3)))


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4, 5)])
def test_blobprotos(shape):
    array = np.random.RandomState(0).uniform(-1, 1, shape or 1).astype(np.float32).reshape(shape)
    made, expected = (module.io.array_to_blobproto(array, -array) for module in (OURS, caffe))
    assert made.SerializeToString() == expected.SerializeToString()
    for diff in (False, True):
        np.testing.assert_array_equal(OURS.io.blobproto_to_array(made, diff),
                                      caffe.io.blobproto_to_array(expected, diff))


def test_old_blobprotos():
    old = caffe_pb2.BlobProto(num=1, channels=2, height=3, width=1, data=range(6))
    ours = messages.BlobProto.FromString(old.SerializeToString())
    np.testing.assert_array_equal(OURS.io.blobproto_to_array(ours), caffe.io.blobproto_to_array(old))


def test_what_else_it_has():
    assert (OURS.TRAIN, OURS.TEST) == (caffe.TRAIN, caffe.TEST)
    assert OURS.proto.caffe_pb2.NetParameter is messages.NetParameter
    assert OURS.set_mode_gpu() is OURS.set_device(0) is None


def test_what_it_does_not_have_is_named():
    with pytest.raises(AttributeError, match="^the engine runs without Caffe and has no caffe.Net for Python layers$"):
        OURS.Net  # noqa: B018
    with pytest.raises(AttributeError, match="has no caffe.io.Transformer for"):
        OURS.io.Transformer  # noqa: B018
