"""Class weights: Eq. (13), and Caffe's InfogainLoss with them, which is Eq. (14)."""
import numpy as np
import pytest

from layers.functions import class_weights
from tests import caffe_nets, numeric

COUNTS = [3995, 436, 4097, 7215, 4830, 3171, 4965]


def test_weights_by_hand():
    # 1/1, 1/2 and 1/4 of their sum, 7/4.
    np.testing.assert_allclose(class_weights.inverse([1, 2, 4]), [4 / 7, 2 / 7, 1 / 7])


def test_weight_times_count_is_the_same_for_all_classes():
    weights = class_weights.inverse(COUNTS)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights * COUNTS, weights[0] * COUNTS[0])


def text(samples, counts):
    return "\n".join([
        caffe_nets.parameter("x", (samples, len(counts))), caffe_nets.inputs(label=(samples,)),
        caffe_nets.python_layer("weights", "class_weights", "ClassWeightsLayer", [], counts=counts),
        'layer { name: "loss" type: "InfogainLoss" bottom: "x" bottom: "label" bottom: "weights" top: "loss" '
        'loss_weight: 0.5 }'])


def slow_loss(x, labels, counts):
    total, inverses = 0.0, [1 / count for count in counts]
    for row, label in zip(x, labels):
        weight = inverses[label] / sum(inverses)
        total -= weight * np.log(np.exp(row[label]) / sum(np.exp(value) for value in row))
    return total


def test_infogain_loss_is_the_weighted_softmax_loss(tmp_path):
    random = np.random.RandomState(0)
    x, labels = random.randn(6, 7), np.array([0, 1, 1, 3, 6, 5])
    net = caffe_nets.net(tmp_path, text(6, COUNTS))
    net.params["x"][0].data[...] = x
    net.blobs["label"].data[...] = labels
    assert float(net.forward()["loss"]) == pytest.approx(slow_loss(x, labels, COUNTS) / 6, rel=1e-5)
    net.backward()
    expected = numeric.gradient(lambda moved: 0.5 / 6 * slow_loss(moved, labels, COUNTS), x)
    np.testing.assert_allclose(net.params["x"][0].diff, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("counts", [[3, 0], [3, 1.5], "3"])
def test_class_without_samples_is_refused(tmp_path, capfd, counts):
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, caffe_nets.python_layer(
            "weights", "class_weights", "ClassWeightsLayer", [], counts=counts))
    assert "(ClassWeightsLayer): param_str: 'counts' is " in capfd.readouterr().err
