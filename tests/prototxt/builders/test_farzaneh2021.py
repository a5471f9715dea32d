"""The nets of farzaneh2021 in real Caffe: the attention network's shapes and arithmetic, and what trains what."""
import caffe
import numpy as np
import pytest
from caffe import layers as L

from common import experiment
from prototxt import build, nets
from prototxt.builders import farzaneh2021, parts


def load(name, *changes):
    return experiment.load("farzaneh2021/" + name, changes)


def net_of(folder, proto, phase=caffe.TEST):
    (folder / "net.prototxt").write_text(str(proto))
    return caffe.Net(str(folder / "net.prototxt"), phase)


def training_net(folder, name, batch=6, classes=6):
    """The training net on blobs to be filled."""
    chosen = load(name)
    shape = build.expected(chosen).shape
    proto = nets.train_val(chosen, parts.Data("data", classes, {"train": 10}, shape))
    inputs = caffe.NetSpec()
    inputs.data, inputs.label = L.Input(shape=dict(dim=[batch] + list(shape))), L.Input(shape=dict(dim=[batch]))
    joined = inputs.to_proto()
    joined.layer.extend(layer for layer in proto.layer if layer.name != "train_data")
    net = net_of(folder, joined, caffe.TRAIN)
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, net.blobs["data"].shape)
    net.blobs["label"].data[...] = np.arange(batch) % classes
    return net


def test_attention_network_has_the_papers_widths():
    """[farzaneh2021] 4.2: 512 x 7 x 7 -> 3584, 512, 64 -> 512 heads of two."""
    chosen = load("raf_db-dacl")
    layers = {layer.name: layer for layer in nets.train_val(chosen, build.expected(chosen)).layer}
    assert [layers[name].inner_product_param.num_output for name in
            ("attention_1", "attention_2", "attention_3", "attention_heads")] == [3584, 512, 64, 1024]
    assert list(layers["attention_1"].bottom) == ["res5b"]
    assert [layers[f"attention_{number}_activation"].type for number in (1, 2, 3)] == ["ReLU", "ReLU", "TanH"]
    assert all(layers[name].inner_product_param.weight_filler.type == "msra" for name in layers
               if name.startswith("attention") and layers[name].type == "InnerProduct")
    assert list(layers["sparse_center_loss"].bottom) == ["pool5", "label", "attention"]
    assert layers["sparse_center_loss"].loss_weight[0] == pytest.approx(0.01)


def test_classifier_begins_as_torchs_linear_and_the_attention_network_from_he(tmp_path):
    """Linear of 64 values: uniform in +-1/8, biases too. He: a variance of 2 / inputs; here 64 * 7 * 7 of them."""
    caffe.set_random_seed(1)
    net = training_net(tmp_path, "synthetic-dacl")
    weights, biases = (blob.data for blob in net.params["fc"])
    assert 0.12 < np.abs(weights).max() <= 0.125 and 0.03 < np.abs(biases).max() <= 0.125
    assert weights.std() == pytest.approx(0.125 / 3 ** 0.5, rel=0.1)
    assert net.params["attention_1"][0].data.std() == pytest.approx((2 / (64 * 7 * 7)) ** 0.5, rel=0.02)
    assert not net.params["attention_1"][1].data.any()
    chosen = load("raf_db-dacl")
    fc = next(layer for layer in nets.deploy(chosen, build.expected(chosen)).layer if layer.name == "fc")
    for filler in (fc.inner_product_param.weight_filler, fc.inner_product_param.bias_filler):
        assert (filler.type, filler.min, filler.max) == ("uniform", pytest.approx(-0.0441942), pytest.approx(0.0441942))


def test_attention_is_the_softmax_of_each_pair_of_scores(tmp_path):
    net = training_net(tmp_path, "synthetic-dacl")
    net.forward()
    scores, weights = net.blobs["attention_heads"].data.astype(float), net.blobs["attention"].data
    assert weights.shape == (6, 1, 64) and scores.shape == (6, 128)
    for sample in range(6):
        for head in range(64):
            included, excluded = np.exp(scores[sample, head]), np.exp(scores[sample, 64 + head])
            assert weights[sample, 0, head] == pytest.approx(included / (included + excluded), rel=1e-4)
    difference = net.blobs["pool5"].data.reshape(6, -1).astype(float) - net.params["sparse_center_loss"][0].data
    expected = (weights.reshape(6, -1) * difference ** 2).sum() / 12
    assert float(net.blobs["sparse_center_loss"].data) == pytest.approx(expected, rel=1e-4)


def test_the_context_encoder_is_equation_5(tmp_path):
    net = training_net(tmp_path, "synthetic-dacl")
    net.forward()
    below = net.blobs["res5b"].data.reshape(6, -1).astype(float)
    for number, activation in ((1, lambda v: np.maximum(v, 0)), (2, lambda v: np.maximum(v, 0)), (3, np.tanh)):
        weights, biases = (blob.data.astype(float) for blob in net.params[f"attention_{number}"])
        linear = below @ weights.T + biases
        normal = (linear - linear.mean(axis=0)) / np.sqrt(linear.var(axis=0) + 1e-5)
        below = activation(normal)
        np.testing.assert_allclose(net.blobs[f"attention_{number}"].data, below, rtol=1e-2, atol=1e-3)


def test_gradients_reach_the_attention_network_and_through_it_the_backbone(tmp_path):
    net = training_net(tmp_path, "synthetic-dacl")
    net.forward()
    net.backward()
    for name in ("attention_1", "attention_2", "attention_3", "attention_heads", "conv1", "fc"):
        assert np.abs(net.params[name][0].diff).max() > 0, name


def test_center_loss_has_no_attention_and_softmax_neither():
    for name, kinds in (("synthetic-center", 1), ("synthetic-softmax", 0)):
        layers = {layer.name for layer in nets.train_val(load(name), build.expected(load(name))).layer}
        assert not any(layer.startswith("attention") for layer in layers)
        assert ("sparse_center_loss" in layers) == bool(kinds)


def test_deploy_has_neither_attention_nor_centers(tmp_path):
    chosen = load("synthetic-dacl")
    net = net_of(tmp_path, nets.deploy(chosen, build.expected(chosen)))
    assert set(net.blobs) >= {"data", "pool5", "fc", "prob"} and not any("attention" in name for name in net.params)
    assert "bn5b_branch2b" in net.params


def test_given_weights_may_fill_the_attention_network_and_never_the_centers(tmp_path):
    def layers(name):
        chosen = load(name)
        return set(net_of(tmp_path, nets.learned(chosen, build.expected(chosen))).params)
    attention = {"attention_heads"} | {f"attention_{number}{part}" for number in (1, 2, 3)
                                       for part in ("", "_bn", "_scale")}
    assert layers("synthetic-dacl") - layers("synthetic-softmax") == attention
    assert layers("synthetic-center") == layers("synthetic-softmax")
    learning = set(training_net(tmp_path, "synthetic-dacl").params)
    assert learning - layers("synthetic-dacl") == {"sparse_center_loss"}


def test_a_trained_models_attention_can_be_asked(tmp_path):
    trained = training_net(tmp_path, "synthetic-dacl")
    trained.forward()
    trained.save(str(tmp_path / "trained.caffemodel"))
    chosen = load("synthetic-dacl")
    net = net_of(tmp_path, farzaneh2021.attention(chosen, build.expected(chosen)))
    net.copy_from(str(tmp_path / "trained.caffemodel"))
    np.testing.assert_array_equal(net.params["attention_heads"][0].data, trained.params["attention_heads"][0].data)
    net.blobs["data"].data[...] = 0.5
    values = net.forward()["attention"]
    assert values.shape == (1, 1, 64) and (values > 0).all() and (values <= 1).all()


def test_schedules_are_the_papers():
    raf, affectnet = load("raf_db-dacl").solver, load("affectnet-dacl").solver
    assert [raf["stepsize"], raf["max_iter"]] == [round(epochs * 12271 / 128) for epochs in (20, 60)]
    assert [affectnet["stepsize"], affectnet["max_iter"]] == [round(epochs * 283901 / 128) for epochs in (5, 20)]
    assert (raf["gamma"], affectnet["gamma"]) == (0.1, 0.2)


def test_without_a_validation_part_the_solver_tests_nothing():
    chosen = load("raf_db-dacl")
    solver = build.solver(chosen, build.expected(chosen), "f", "s")
    assert not solver.test_iter and not solver.test_interval
    assert not any(layer.include for layer in nets.train_val(chosen, build.expected(chosen)).layer)
