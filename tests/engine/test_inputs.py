"""Layers whose tops come from who runs the net, or from fillers."""
import numpy as np
import pytest
import torch

from common.errors import UserError
from tests.engine import compare

MEMORY = ('layer { name: "data" type: "MemoryData" top: "data" top: "label" '
          "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }")


def dummy(param, tops=("data",)):
    return 'layer {{ name: "data" type: "DummyData" {} dummy_data_param {{ {} }} }}'.format(
        " ".join(f'top: "{top}"' for top in tops), param)


def refused(text, *words):
    with pytest.raises(UserError) as error:
        compare.engine_net(text).forward()
    assert str(error.value).startswith("layer data (") and "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


class TestInput:
    def test_values(self):
        net = compare.engine_net('layer { name: "data" type: "Input" top: "a" top: "b" '
                                 "input_param { shape { dim: 2 dim: 3 } } }")
        assert net.shapes == {"a": (2, 3), "b": (2, 3)}
        net.layer("data").value = torch.ones(2, 3)
        made = net.forward()
        assert made["a"].sum() == 6 and made["b"].sum() == 0

    def test_old_form_of_inputs(self):
        text = 'input: "a" input: "b" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5 ' + "input_dim: 1 " * 4
        assert compare.engine_net(text).shapes == {"a": (2, 3, 4, 5), "b": (1, 1, 1, 1)}
        assert {name: blob.data.shape for name, blob in compare.caffe_net(text).blobs.items()} == {
            "a": (2, 3, 4, 5), "b": (1, 1, 1, 1)}

    @pytest.mark.parametrize("shapes", (2, 0))
    def test_refuses(self, shapes):
        refused('layer { name: "data" type: "Input" top: "a" top: "b" top: "c" '
                f"input_param {{ {'shape { dim: 2 }' * shapes} }} }}", f"{shapes} shape", "3")


class TestMemoryData:
    def test_equals_caffe(self):
        theirs, ours = compare.caffe_net(MEMORY), compare.engine_net(MEMORY)
        random = np.random.RandomState(0)
        for count in (6, 4):
            images = random.standard_normal((count, 3, 4, 5)).astype(np.float32)
            labels = np.arange(count, dtype=np.float32)
            theirs.set_input_arrays(images, labels)
            ours.layer("data").set_arrays(images, labels)
            for _ in range(5):
                theirs.forward()
                for name, top in ours.forward(keep=["data", "label"]).items():
                    # Caffe declares labels as (M), but calls them (M, 1, 1, 1) once it has data.
                    assert (top.numpy() == theirs.blobs[name].data.reshape(top.shape)).all()
                    assert top.shape == ours.shapes[name]

    def test_refuses(self):
        refused(MEMORY, "no data", "set_arrays")
        refused(MEMORY.replace("height: 4", ""), "(2, 3, 0, 5)")
        layer = compare.engine_net(MEMORY).layer("data")
        for images, labels, words in (((3, 3, 4, 5), 3, "(3, 3, 4, 5)"), ((4, 3, 5, 4), 4, "(4, 3, 5, 4)"),
                                      ((0, 3, 4, 5), 0, "(0, 3, 4, 5)"), ((4, 3, 4, 5), 3, "3 labels, but 4 images")):
            with pytest.raises(UserError) as error:
                layer.set_arrays(np.zeros(images, np.float32), np.zeros(labels, np.float32))
            assert words in str(error.value)


class TestDummyData:
    @pytest.mark.parametrize("param", (
        "shape { dim: 2 dim: 3 }", "shape { dim: 2 } shape { dim: 3 dim: 1 }",
        "shape { dim: 2 dim: 3 } data_filler { value: 4 }",
        'shape { dim: 4 } data_filler { value: 4 } data_filler { type: "constant" value: 5 }',
        "num: 2 channels: 3 height: 4 height: 5 width: 1", "shape { }"))
    def test_constants_equal_caffes(self, param):
        text = dummy(param, ("data", "other"))
        theirs, ours = compare.caffe_net(text), compare.engine_net(text)
        for _ in range(2):
            theirs.forward()
            for name, top in ours.forward().items():
                assert top.shape == ours.shapes[name] == theirs.blobs[name].data.shape
                assert (top.numpy() == theirs.blobs[name].data).all()

    def test_constants_are_filled_once_and_random_numbers_each_time(self):
        text = dummy('shape { dim: 50 dim: 60 } data_filler { value: 3 } data_filler { type: "gaussian" }', ("c", "g"))
        net = compare.engine_net(text, seed=4)
        made = [net.forward() for _ in range(3)]
        assert made[0]["c"].data_ptr() == made[2]["c"].data_ptr()
        assert all(abs(one["g"].std() - 1) < 0.05 for one in made)
        assert not torch.equal(made[0]["g"], made[1]["g"])
        again = compare.engine_net(text, seed=4)
        again.seek(2)
        assert torch.equal(again.forward()["g"], made[2]["g"])

    def test_a_gradient_of_a_constant_does_not_stay(self):
        layer = compare.engine_net(dummy("shape { dim: 2 }")).layer("data")
        for _ in range(2):
            top, = layer.forward([])
            assert not top.requires_grad
            top.requires_grad_().sum().backward()
            assert top.grad.tolist() == [1, 1]

    @pytest.mark.parametrize("param, tops, words", (
        ("", 1, ("0 shape",)), ("shape { dim: 1 } shape { dim: 1 }", 3, ("2 shape", "3")),
        ("shape { dim: 1 } num: 1", 1, ("both shape and num",)), ("num: 1 channels: 1 height: 1", 1, ("0 width",)),
        ("shape { dim: 1 } data_filler { } data_filler { }", 3, ("2 data_filler",)),
        ('shape { dim: 1 } data_filler { type: "bilinear" }', 1, ("bilinear",))))
    def test_refuses(self, param, tops, words):
        refused(dummy(param, [str(number) for number in range(tops)]), *words)
