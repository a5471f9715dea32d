"""The comparison itself must see differences."""
import numpy as np
import pytest

from engine import elementwise
from tests import caffe_nets
from tests.engine import compare

NET = caffe_nets.inputs(data=(2, 3)) + """
layer { name: "one" type: "Sigmoid" bottom: "data" top: "one" }
layer { name: "two" type: "Sigmoid" bottom: "data" top: "two" }
layer { name: "three" type: "Sigmoid" bottom: "two" top: "three" }"""
DATA = {"data": np.arange(-3, 3).reshape(2, 3)}


def test_same():
    compared = compare.run(NET, DATA)
    assert compared.difference < 1e-6 and compared.gradient_difference < 1e-6
    assert sorted(compared.outputs) == ["one", "three"] and np.abs(compared.gradients["data"]).min() > 0
    np.testing.assert_allclose(compared.outputs["one"], 1 / (1 + np.exp(-DATA["data"])), rtol=1e-5)
    np.testing.assert_array_equal(compare.run(NET, DATA, phase=compare.TEST).gradients["data"],
                                  compared.gradients["data"])


def test_other_output(monkeypatch):
    monkeypatch.setattr(elementwise.Sigmoid, "forward", lambda self, bottoms: [bottoms[0].sigmoid() * 1.0001])
    with pytest.raises(AssertionError, match="output one: differs by 0.0001"):
        compare.run(NET, DATA)


def test_other_gradient(monkeypatch):
    monkeypatch.setattr(elementwise.Sigmoid, "forward",
                        lambda self, bottoms: [bottoms[0].sigmoid() + (bottoms[0] - bottoms[0].detach()) * 1e-3])
    with pytest.raises(AssertionError, match="gradient of data: differs by"):
        compare.run(NET, DATA)
