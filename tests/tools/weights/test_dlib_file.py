"""The reader of dlib's files, on files written byte by byte."""
import numpy as np
import pytest

from common.errors import UserError
from tests import dlib_reference as reference
from tools.weights import dlib_file

# A length, its text; version 2 and the sizes 3, 1, 1, 1; three values; seven settings, of which 300 takes two bytes and
# the last one is negative.
CONVOLUTION = (b"\x01\x05con_4" b"\x01\x02\x01\x03\x01\x01\x01\x01\x01\x01"
               b"\x00\x00\x80\x3f\x00\x00\x00\xc0\x00\x00\x00\x3f"
               b"\x02\x2c\x01\x01\x07\x01\x07\x01\x02\x01\x02\x01\x00\x81\x04")
AFFINE = b"\x01\x07affine_\x01\x02\x01\x01\x01\x01\x01\x01\x01\x02" b"\x00\x00\x80\x40\x00\x00\xa0\x40"
PRODUCT = b"\x01\x04fc_2\x01\x01\x01\x02\x01\x02\x01\x02\x01\x01\x01\x01\x01\x01" b"\x00\x00\xc0\x40\x00\x00\xe0\x40"


def written(folder, content):
    path = folder / "net.dat"
    path.write_bytes(content)
    return str(path)


def test_by_hand(tmp_path):
    path = written(tmp_path, b"\x01\x01\x01\x0dloss_metric_2\x07" + CONVOLUTION + b"\x10\x81\x04" + AFFINE + b"\x00"
                   + PRODUCT + b"\x01\x00")
    found = dlib_file.layers(path)
    assert [(layer.kind, layer.settings, layer.values.tolist()) for layer in found] == [
        ("con_4", (300, 7, 7, 2, 2, 0, -4), [1, -2, 0.5]), ("affine_", (), [4, 5]), ("fc_2", (1, 2), [6, 7])]
    assert all(layer.values.dtype == np.float32 for layer in found)


def test_values_that_look_like_a_layer(tmp_path):
    values = np.frombuffer(AFFINE + b"\x00" * (-len(AFFINE) % 4), "<f4")
    path = written(tmp_path, reference.text("affine_") + reference.tensor(values, len(values), 1, 1, 1) + PRODUCT)
    assert [layer.kind for layer in dlib_file.layers(path)] == ["affine_", "fc_2"]


def test_all_layers_of_a_net(tmp_path):
    layers, product = reference.parameters()
    found = dlib_file.layers(written(tmp_path, reference.file(layers, product)))
    assert [layer.kind for layer in found] == ["con_4", "affine_"] * 29 + ["fc_2"]
    for (weights, biases, factors, summands), convolution, affine in zip(layers, found[::2], found[1::2]):
        np.testing.assert_array_equal(convolution.values, np.concatenate([weights.ravel(), biases]))
        np.testing.assert_array_equal(affine.values, np.concatenate([factors, summands]))
        assert convolution.settings[:3] == (len(weights), *weights.shape[2:])
    np.testing.assert_array_equal(found[-1].values, product.ravel())


@pytest.mark.parametrize("end", (8, 12, 17, 20, 28, 29, 30, len(CONVOLUTION) - 1))
def test_a_cut_file(tmp_path, end):
    path = written(tmp_path, AFFINE + CONVOLUTION[:end])
    with pytest.raises(UserError, match=f"net.dat: layer 2, con_4 at byte {len(AFFINE)}: the file was cut, it has "
                                        f"{len(AFFINE) + end} bytes$"):
        dlib_file.layers(path)


@pytest.mark.parametrize("content, said", (
    (b"", "not a net that dlib serialized"), (b"\x89PNG and so on" * 100, "not a net that dlib serialized"),
    (b"\x01\x07affine_\x01\x03" + AFFINE[11:], "layer 1, affine_ at byte 0: its tensor has version 3, expected 2"),
    (b"\x01\x07affine_\x01\x02\x81\x02" + AFFINE[13:],
     r"its tensor has the sizes \[-2, 1, 1, 2\], expected none below 0"),
    (b"\x01\x07affine_\x09" + AFFINE[10:], "byte 9 is 0x09, expected a whole number of at most 8 bytes")))
def test_a_foreign_file(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        dlib_file.layers(written(tmp_path, content))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="nowhere: No such file or directory"):
        dlib_file.layers(str(tmp_path / "nowhere"))
