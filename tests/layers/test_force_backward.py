"""Nets with `force_backward: true`: Caffe asks each layer for the gradients of all bottoms, also of labels."""
import numpy as np
import pytest

from tests import caffe_nets

FROZEN = ["lr_mult: 0 decay_mult: 0"]
FEATURES, LABELS = (10, 6), (10,)
# Loss -> its module, class, bottoms with shapes, `param`, and the keys of its param_str. The first bottom is features.
LOSSES = {
    "center": ("center_loss", "CenterLossLayer", dict(x=FEATURES, label=LABELS), [], dict(classes=3)),
    "sparse_center": ("sparse_center_loss", "SparseCenterLossLayer", dict(x=FEATURES, label=LABELS), FROZEN,
                      dict(classes=3)),
    "attentive_center": ("sparse_center_loss", "SparseCenterLossLayer",
                         dict(x=FEATURES, label=LABELS, attention=FEATURES), FROZEN, dict(classes=3)),
    "feature": ("feature_loss", "FeatureLossLayer", dict(x=FEATURES, handcrafted=FEATURES), FROZEN,
                dict(epoch_size=100)),
    "sparseness": ("sparseness_loss", "SparsenessLossLayer", dict(x=FEATURES, attention=FEATURES), [], {}),
    "tuplet": ("tuplet_loss", "TupletLossLayer", dict(x=FEATURES), [], dict(negatives=3)),
    "fixed_clusters": ("tuplet_loss", "FixedClustersLossLayer", dict(x=FEATURES), [],
                       dict(positives=3, negatives=2, threshold=3, tau=1.5)),
    "clusters": ("tuplet_loss", "AdaptiveClustersLossLayer", dict(x=FEATURES), [], dict(positives=3, negatives=2))}
WITHOUT_GRADIENT = ("label", "handcrafted")


def text(loss, forced):
    """forced: all bottoms are inputs. Otherwise those with a gradient are learnable blobs, as in any training."""
    module, layer, bottoms, params, param_str = LOSSES[loss]
    blobs = [caffe_nets.inputs(**{name: shape}) if forced or name in WITHOUT_GRADIENT
             else caffe_nets.parameter(name, shape) for name, shape in bottoms.items()]
    return "\n".join(["force_backward: true"] * forced + blobs + [
        caffe_nets.python_layer("loss", module, layer, list(bottoms), 0.5, params, **param_str)])


def gradients(folder, loss, forced):
    """Bottom -> its gradient. All gradients are 7 before the backward pass."""
    net = caffe_nets.net(folder, text(loss, forced))
    random = np.random.RandomState(1)
    for name, shape in LOSSES[loss][2].items():
        values = random.randint(0, 3, shape) if name == "label" else random.rand(*shape)
        caffe_nets.blob(net, name).data[...] = values
        caffe_nets.blob(net, name).diff[...] = 7
    net.forward()
    net.backward()
    return {name: caffe_nets.blob(net, name).diff.copy() for name in LOSSES[loss][2]}


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_labels_and_handcrafted_features_get_a_gradient_of_0(tmp_path, loss):
    plain, forced = gradients(tmp_path, loss, False), gradients(tmp_path, loss, True)
    for name in LOSSES[loss][2]:
        if name in WITHOUT_GRADIENT:
            assert not forced[name].any() and (plain[name] == 7).all()
        else:
            assert forced[name].any()
            np.testing.assert_array_equal(forced[name], plain[name])


def test_labels_that_caffes_own_loss_uses_too(tmp_path):
    """Then the gradients of both meet in a Split layer."""
    net = caffe_nets.net(tmp_path, text("center", True) + """
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 3 } }
        layer { name: "softmax" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "softmax" }""")
    net.blobs["x"].data[...] = np.random.RandomState(1).rand(*FEATURES)
    net.forward()
    net.backward()
    assert not net.blobs["label"].diff.any() and net.blobs["x"].diff.any()


def test_weights(tmp_path):
    """Pruned ones, of which there is a sparseness loss."""
    def gradient(forced):
        pruning = caffe_nets.python_layer("pruning", "pruning", "PruningLayer", ["x"], 0, ['name: "V"', *FROZEN], ["x"],
                                          outputs=3, share=0.5)
        sparse = caffe_nets.python_layer("sparse", "sparseness_loss", "SparsenessLossLayer", [], 1, ['name: "V"'],
                                         shape=[3, 6])
        net = caffe_nets.net(tmp_path, "\n".join(["force_backward: true"] * forced + [
            caffe_nets.inputs(x=FEATURES, label=LABELS), pruning, """
            layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" param { name: "V" }
                    inner_product_param { num_output: 3 } }
            layer { name: "softmax" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "softmax" }""", sparse]))
        net.blobs["x"].data[...] = np.random.RandomState(1).rand(*FEATURES)
        net.forward()
        net.backward()
        return net.params["fc"][0].diff.copy()
    assert gradient(True).any()
    np.testing.assert_array_equal(gradient(True), gradient(False))
