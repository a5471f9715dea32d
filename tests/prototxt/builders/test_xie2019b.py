"""The nets of [xie2019b] in real Caffe: losses and regularisers against NumPy, shapes, pruning; the tables' rows."""
import dataclasses
import json
import re

import caffe
import numpy as np
import pytest

from common import experiment
from common.errors import UserError
from data_prep import prepared_folder
from prototxt import build, nets
from prototxt.builders import backbones, parts, xie2019b
from tests import small_data
from tests.paper_nets import fill, net_of, shapes, without_lmdbs
from tools.training import pretrained

NAMES = [name for name in experiment.names() if name.startswith("xie2019b/")]
TOYS = [name for name in NAMES if "fer2013-toy" in name]
BATCH = 5


def load(name, *changes):
    return experiment.load("xie2019b/" + name, changes)


def training_net(folder, name, *changes):
    """Filled, with labels that come twice."""
    net = net_of(folder, without_lmdbs(load(name, f"solver.batch_size={BATCH}", *changes), 7, BATCH),
                 caffe.TRAIN)
    fill(net)
    net.blobs["data"].data[...] -= 0.5
    net.blobs["label"].data[...] = [0, 3, 3, 6, 0]
    return net


def norm(array, p):
    return np.abs(array.astype(float)).sum() if p == 1 else 0.5 * (array.astype(float) ** 2).sum()


def derivative(array, p):
    return np.sign(array) if p == 1 else array


def same_weights(net):
    for blobs in net.params.values():
        blobs[0].data[...] = np.random.RandomState(blobs[0].count % 1000).uniform(-.1, .1, blobs[0].data.shape)


def own(net, loss):
    """The blobs of its own by which a loss sees what it is on: Caffe's Split gives each user one."""
    return [net.blobs[name] for name in net.bottom_names[loss]]


@pytest.mark.parametrize("name, p, on", [
    ("fer2013-toy-l2", 2, {"sparse_x": ["fc1"]}), ("fer2013-toy-l1", 1, {"sparse_x": ["fc1"]}),
    ("fer2013-toy-l2l2", 2, {"sparse_x": ["fc1"], "sparse_z": ["conv2"]}),
    ("fer2013-toy-hidden-l2", 2, {"sparse_hidden": ["conv1", "conv2", "fc1"]}),
    ("fer2013-toy-center-l2", 2, {"sparse_x": ["fc1"]})])
@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_sparseness_is_the_norm_of_what_it_is_imposed_on(tmp_path, name, p, on, normalization):
    chosen = load(name)
    changes = [f"losses.{loss}.{change}" for loss in chosen.losses if loss != "center"
               for change in ("weight=0.3", "normalization=" + normalization)]
    net = training_net(tmp_path, name, *changes)
    values = net.forward()
    assert set(values) == {"softmax_loss"} | set(on) | ({"center_loss"} if "center" in chosen.losses else set())
    net.backward()
    divisor = BATCH if normalization == "batch" else 1
    for loss, blobs in on.items():
        expected = 0
        for seen, blob in zip(own(net, loss), blobs):
            np.testing.assert_array_equal(seen.data, net.blobs[blob].data)
            assert np.abs(seen.data).min() < 1e-3 < np.abs(seen.data).max()
            np.testing.assert_allclose(seen.diff, 0.3 / divisor * derivative(seen.data, p), rtol=1e-5)
            expected += norm(seen.data, p) / divisor
        assert len(own(net, loss)) == len(blobs)
        assert float(values[loss]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name, on, layer", [("fer2013-toy-w-l2", "sparse_w", "fc2_7"),
                                             ("fer2013-toy-v-l2", "sparse_v", "fc1")])
@pytest.mark.parametrize("p", [1, 2])
def test_weight_sparseness_adds_to_the_weights_gradient(tmp_path, name, on, layer, p):
    gradients = {}
    for weight in (0, 0.3):
        net = training_net(tmp_path, name, f"losses.{on}.weight={weight}", f"losses.{on}.p={p}")
        same_weights(net)
        weights = net.params[layer][0].data.copy()
        value = float(net.forward()[on])
        net.backward()
        gradients[weight] = net.params[layer][0].diff.copy()
    assert value == pytest.approx(norm(weights, p), rel=1e-4)
    assert np.abs(gradients[0]).max() > 1e-4
    np.testing.assert_allclose(gradients[0.3] - gradients[0], 0.3 * derivative(weights, p), rtol=1e-3, atol=1e-5)
    # The features are left alone.
    assert list(net.bottom_names[on]) == []


def test_sparse_features_move_the_weights_as_the_chain_rule_says(tmp_path):
    """Eq. (7): V takes lambda z x^T / M beside the softmax's gradient."""
    gradients = []
    for weight in (0, 2):
        net = training_net(tmp_path, "fer2013-toy-l2", f"losses.sparse_x.weight={weight}")
        same_weights(net)
        net.forward()
        net.backward()
        gradients.append(net.params["fc1"][0].diff.copy())
    x, z = net.blobs["fc1"].data, net.blobs["conv2"].data.reshape(BATCH, -1)
    np.testing.assert_allclose(gradients[1] - gradients[0], 2 / BATCH * x.T @ z, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name, layers", [("fer2013-toy-hidden-l2", 3), ("fer2013-hidden-l2-divided", 28),
                                          ("fer2013-vgg-hidden-l1-divided", 15)])
def test_hidden_units_of_all_hidden_layers(name, layers):
    """27 PReLUs and FC1 of the face ResNet; 13 convolutions, fc6 and fc7 of VGG-16."""
    for coefficient in ("same", "divided"):
        chosen = load(name, "losses.sparse_hidden.coefficient=" + coefficient)
        found, = [layer for layer in nets.train_val(chosen, build.expected(chosen)).layer
                  if layer.name.startswith("sparse_")]
        assert len(set(found.bottom)) == len(found.bottom) == layers
        assert found.loss_weight[0] == pytest.approx(1e-5)
        assert json.loads(found.python_param.param_str)["coefficient"] == coefficient
        assert found.include[0].phase == caffe.TRAIN


def test_divided_coefficient_divides_by_the_hidden_layers(tmp_path):
    values = {}
    for coefficient in ("same", "divided"):
        net = training_net(tmp_path, "fer2013-toy-hidden-l2", "losses.sparse_hidden.coefficient=" + coefficient)
        same_weights(net)
        values[coefficient] = float(net.forward()["sparse_hidden"])
    assert values["same"] > 1 and values["divided"] == pytest.approx(values["same"] / 3, rel=1e-5)


def test_one_layer_losses_and_two_layer_losses():
    def imposed(name):
        chosen = load(name)
        return {layer.name: (*layer.bottom, json.loads(layer.python_param.param_str)["p"])
                for layer in nets.train_val(chosen, build.expected(chosen)).layer
                if layer.python_param.layer == "SparsenessLossLayer"}
    assert imposed("fer2013-l2") == {"sparse_x": ("fc1", 2)}
    assert imposed("fer2013-l1") == {"sparse_x": ("fc1", 1)}
    assert imposed("fer2013-l2l2") == {"sparse_z": ("res5_6", 2), "sparse_x": ("fc1", 2)}
    assert imposed("fer2013-l1l1") == {"sparse_z": ("res5_6", 1), "sparse_x": ("fc1", 1)}
    assert imposed("fer2013-vgg-l2l2") == {"sparse_z": ("fc6", 2), "sparse_x": ("fc1", 2)}
    assert imposed("fer2013-softmax") == imposed("fer2013-dropout-center") == {}


def test_face_resnet_has_the_papers_shapes(tmp_path):
    """3.3: V has 512 x 6 x 6 x 512 elements, W #classes x 512."""
    chosen = load("oulu_casia-center-l2")
    net = net_of(tmp_path, nets.deploy(chosen, build.expected(chosen)))
    assert tuple(net.blobs["res5_6"].shape) == (1, 512, 6, 6)
    assert tuple(net.params["fc1"][0].shape) == (512, 512 * 6 * 6)
    assert tuple(net.params["fc2_6"][0].shape) == (6, 512)


def test_one_map_net(tmp_path):
    """3.2: one map, kernel 9, stride 2; FC layers of 32 and 6."""
    chosen = load("mmi-one_map-l2")
    net = net_of(tmp_path, nets.deploy(chosen, build.expected(chosen)))
    assert shapes(net) == {"data": (1, 1, 227, 227), "conv1": (1, 1, 110, 110), "fc1": (1, 32), "fc2": (1, 6),
                           "prob": (1, 6)}
    assert tuple(net.params["conv1"][0].shape) == (1, 1, 9, 9)


def test_vgg_has_the_published_layers(tmp_path):
    chosen = load("fer2013-vgg-softmax")
    net = net_of(tmp_path, nets.deploy(chosen, build.expected(chosen)))
    weights = {name: tuple(blobs[0].shape) for name, blobs in net.params.items()}
    widths = [3, 64, 64, 128, 128] + [256] * 3 + [512] * 6
    names = ["conv1_1", "conv1_2", "conv2_1", "conv2_2"] + [
        f"conv{stage}_{number}" for stage in (3, 4, 5) for number in (1, 2, 3)]
    expected = {name: (after, before, 3, 3) for name, before, after in zip(names, widths, widths[1:])}
    assert weights == dict(expected, fc6=(4096, 512 * 7 * 7), fc7=(4096, 4096), fc2_7=(7, 4096))
    net.blobs["data"].data[...] = np.random.RandomState(0).randint(0, 256, (1, 1, 227, 227))
    grey = net.blobs["data"].data.copy()
    net.blobs["data"].data[...] = (grey - parts.MEAN) * parts.SCALE
    net.forward(end="input")
    np.testing.assert_allclose(net.blobs["input"].data[0], [grey[0, 0, 1:225, 1:225] - 127.5] * 3, atol=1e-4)


def test_width_of_each_backbone_is_what_it_gives(tmp_path):
    for name, backbone in backbones.BACKBONES.items():
        if name != "vgg16":
            net = net_of(tmp_path, backbones.alone(name))
            assert net.blobs[net.outputs[0]].count == backbone.width, name


def test_dropout_is_on_both_inputs_and_leaves_the_losses_alone(tmp_path):
    net = training_net(tmp_path, "fer2013-toy-dropout", "head.dropout=0.25")
    net.forward()
    for features, dropped in (("conv2", "dropped_z"), ("fc1", "dropped_x")):
        kept = net.blobs[dropped].data != 0
        assert 0.2 < 1 - kept.mean() < 0.3
        np.testing.assert_allclose(net.blobs[dropped].data[kept], net.blobs[features].data[kept] / 0.75, rtol=1e-5)
    chosen = load("fer2013-dropout-center-l2")
    layers = {layer.name: layer for layer in nets.train_val(chosen, build.expected(chosen)).layer}
    assert (layers["dropped_z"].bottom[0], layers["fc1"].bottom[0]) == ("res5_6", "dropped_z")
    assert (layers["dropped_x"].bottom[0], layers["fc2_7"].bottom[0]) == ("fc1", "dropped_x")
    assert layers["dropped_z"].dropout_param.dropout_ratio == layers["dropped_x"].dropout_param.dropout_ratio == 0.5
    assert layers["sparse_x"].bottom[0] == layers["center_loss"].bottom[0] == "fc1"


def test_dropout_does_nothing_where_the_net_predicts(tmp_path):
    chosen = load("fer2013-toy-dropout")
    net = net_of(tmp_path, nets.deploy(chosen, build.expected(chosen)))
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(-1, 1, net.blobs["data"].shape)
    net.forward()
    np.testing.assert_array_equal(net.blobs["dropped_z"].data, net.blobs["conv2"].data)


@pytest.mark.parametrize("name, alpha", [("fer2013-norm-2", 2), ("fer2013-norm-0.5", 0.5), ("fer2013-norm-learned", 1)])
def test_norm_is_alpha(tmp_path, name, alpha):
    chosen = dataclasses.replace(load(name), net="toy")
    net = net_of(tmp_path, without_lmdbs(chosen, 7, BATCH), caffe.TRAIN)
    fill(net)
    net.forward()
    x = net.blobs["scaled" if name.endswith("learned") else "normalized"].data
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), alpha, rtol=1e-4)
    assert ("scaled" in net.params) == name.endswith("learned")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = small_data.prepared(tmp_path_factory.mktemp("data"), features=())
    return parts.prepared(root, prepared_folder.read_note(root))


def solver_of(folder, chosen, data):
    for file, text in build.definitions(chosen, data, str(folder), str(folder / "snapshot")).items():
        (folder / file).write_text(text)
    return caffe.SGDSolver(str(folder / "solver.prototxt"))


@pytest.mark.parametrize("name", TOYS)
def test_toy_trains_on_small_data(tmp_path, data, name):
    chosen = experiment.load(name, ["solver.batch_size=8", "solver.base_lr=1e-3", "solver.test_interval=2"])
    solver = solver_of(tmp_path, chosen, data)
    before = solver.net.params["fc1"][0].data.copy()
    solver.step(3)
    assert (solver.net.params["fc1"][0].data != before).any()
    outputs = {blob: float(solver.net.blobs[blob].data) for blob in solver.net.outputs}
    assert np.isfinite(list(outputs.values())).all() and len(outputs) >= 1 + len(chosen.losses)
    tested = solver.test_nets[0].forward()
    assert set(tested) == {"softmax_loss", "accuracy"}
    np.testing.assert_array_equal(solver.test_nets[0].params["fc1"][0].data, solver.net.params["fc1"][0].data)
    # Its weights fit the net that predicts.
    solver.net.save(str(tmp_path / "weights.caffemodel"))
    deploy = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST, weights=str(tmp_path / "weights.caffemodel"))
    np.testing.assert_array_equal(deploy.params["fc1"][0].data, solver.net.params["fc1"][0].data)


@pytest.mark.parametrize("head, layer, size", [("prune_v", "fc1", 512 * 12800), ("prune_w", "fc2_7", 7 * 512)])
@pytest.mark.parametrize("p", [1, 2])
def test_pruned_connections_are_exactly_zero_after_training(tmp_path, data, head, layer, size, p):
    loss = "sparse_" + head[-1]
    chosen = load(f"fer2013-toy-{head[-1]}-l2", f"head.{head}=0.3", f"losses.{loss}.p={p}",
                  f"losses.{loss}.weight=1e-3", "solver.batch_size=8")
    solver = solver_of(tmp_path, chosen, data)
    solver.step(1)
    mask = solver.net.params["pruning_" + head[-1]][1].data.copy()
    solver.step(5)
    weights = solver.net.params[layer][0].data
    assert weights.size == size
    np.testing.assert_array_equal(weights == 0, mask == 0)
    assert (weights == 0).sum() == round(0.3 * size)
    # Whoever predicts has them too.
    solver.net.save(str(tmp_path / "weights.caffemodel"))
    deploy = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST, weights=str(tmp_path / "weights.caffemodel"))
    np.testing.assert_array_equal(deploy.params[layer][0].data, weights)
    assert "pruning_" + head[-1] not in deploy.params


def test_weight_sparseness_is_beside_weight_decay(tmp_path, data):
    """One step of the solver on W: softmax's gradient + lambda W + weight decay W."""
    moved = []
    for weight in ("0", "0.5"):
        chosen = load("fer2013-toy-w-l2", "losses.sparse_w.weight=" + weight, "solver.batch_size=8")
        solver = solver_of(tmp_path, chosen, data)
        solver.net.params["fc2_7"][0].data[...] = np.random.RandomState(3).uniform(-1, 1, (7, 512))
        start = solver.net.params["fc2_7"][0].data.copy()
        solver.step(1)
        moved.append(solver.net.params["fc2_7"][0].data - start)
    np.testing.assert_allclose(moved[1] - moved[0], -0.01 * 0.5 * start, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("name, fresh, copied", [("ckplus-center-l2", set(), {"fc1", "fc2_7", "conv5_6"}),
                                                 ("mmi-center-l2", {"fc2_6"}, {"fc1", "conv5_6"})])
def test_a_model_of_fer2013_fits_the_other_sets(tmp_path, name, fresh, copied):
    """The seven classes of CK+ are FER2013's, in its order; for six FC2 starts fresh."""
    fer, other = load("fer2013-center-l2"), load(name)
    net_of(tmp_path, nets.deploy(fer, build.expected(fer))).save(str(tmp_path / "fer.caffemodel"))
    (tmp_path / "deploy.prototxt").write_text(str(nets.deploy(other, build.expected(other))))
    fit = pretrained.write_fitting(str(tmp_path / "fer.caffemodel"), str(tmp_path / "deploy.prototxt"),
                                   str(tmp_path / "initial.caffemodel"))
    assert set(fit.fresh) == fresh and copied <= set(fit.copied) and not fit.unfit


def test_settings_are_the_papers():
    ours = load("fer2013-center-l2")
    assert {loss: settings["weight"] for loss, settings in ours.losses.items()} == {"center": 8e-3, "sparse_x": 1e-5}
    assert [ours.solver[key] for key in ("batch_size", "momentum", "base_lr", "weight_decay", "stepsize")] == [
        64, 0.9, 0.01, 0.0005, 4000]
    proto = build.solver(ours, build.expected(ours), "run", "snap")
    assert (proto.lr_policy, proto.stepsize) == ("step", 4000) and proto.gamma == pytest.approx(0.1)
    assert {load(name).losses["sparse_" + name[8]]["weight"] for name in ("fer2013-w-l2", "fer2013-v-l1-cp")} == {1e-5}
    assert load("fer2013-w-l1-cp").head["prune_w"] == load("fer2013-vgg-v-l2-cp").head["prune_v"] == 0.3


@pytest.mark.parametrize("change, said", [
    ("losses.sparse_x.p=3", "p is 3, expected one of 1, 2"),
    ("head.dropout=1", "dropout is 1, expected a number of at least 0"),
    ("head.prune_v=-0.1", "prune_v is -0.1"), ("head.fc1=0", "fc1 is 0, expected a whole number"),
    ("solver.stepsize=0.5", "stepsize is 0.5, expected a whole number of at least 1"),
    ("head.activation=tanh", "activation is 'tanh', expected one of none, relu")])
def test_settings_out_of_range_are_named(change, said):
    with pytest.raises(UserError, match=re.escape(said)):
        load("fer2013-l2", change)


@pytest.fixture(scope="module")
def with_source():
    """Function: experiments of a net that say they are in a table, e.g. "5" or "6 row 3"."""
    sources = {name[len("xie2019b/"):]: (loaded.source, loaded.net) for name, loaded in zip(
        NAMES, map(experiment.load, NAMES))}

    def chosen(table, wanted):
        pattern = re.compile(rf"(Tables?|,) {re.escape(table)}(?! row)(,|$| )")
        return sorted(name for name, (source, net) in sources.items() if net == wanted and pattern.search(source))
    return chosen


@pytest.mark.parametrize("net", ["face_resnet_pad4", "vgg16"])
def test_every_row_of_tables_3_5_and_6_has_its_experiment(with_source, net):
    assert len(with_source("3", net)) == 9
    assert len(with_source("5", net)) == 9
    assert [len(with_source(f"6 row {row}", net)) for row in range(1, 9)] == [1] * 8
    # Id 1 to 8 by what is in them: dropout, center loss, L2.
    rows = [load(with_source(f"6 row {row}", net)[0]) for row in range(1, 9)]
    assert [(bool(row.head["dropout"]), "center" in row.losses, "sparse_x" in row.losses) for row in rows] == [
        (False, False, False), (True, False, False), (True, False, True), (True, True, False), (True, True, True),
        (False, True, False), (False, False, True), (False, True, True)]


def test_every_row_of_the_other_tables_has_its_experiment(with_source):
    net = "face_resnet_pad4"
    assert with_source("4", net) == ["fer2013-l2", "fer2013-softmax"]
    for data_set in ("fer2013", "ckplus", "oulu_casia", "mmi"):
        assert sum(name.startswith(data_set + "-") for name in with_source("7", net)) == 7, data_set
    assert [with_source(f"{number} (ours)", net) for number in range(8, 12)] == [
        [name + "-center-l2"] for name in ("fer2013", "ckplus", "oulu_casia", "mmi")]
    assert with_source("12", net) == ["ckplus_whole-center-l2", "fer2013-center-l2", "mmi_whole-center-l2",
                                      "oulu_casia_whole-center-l2"]
    assert with_source("15", net) == sorted(
        f"{data_set}_whole-{method}" for data_set in ("mmi", "oulu_casia")
        for method in ("w-l2-center", "v-l2-center", "dropout-center", "center-l2"))


def test_hidden_layers_are_those_with_an_activation():
    net = caffe.NetSpec()
    net.data = caffe.layers.Input(shape=dict(dim=[1, 1, 48, 48]))
    backbones.BACKBONES["toy"].build(net)
    assert xie2019b.hidden_layers(net) == ["relu1", "relu2"]
