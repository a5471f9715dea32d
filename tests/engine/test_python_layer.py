"""Python layers, ours and a lab's: the same values, gradients and states as in Caffe over several steps; errors."""
import os

import caffe
import numpy as np
import pytest
import torch
from google.protobuf import text_format

from common.errors import UserError
from data_prep import lmdb_io
from engine import messages, python_layer
from engine.net import Net
from tests import caffe_nets, small_data

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lab")
STATE = "lr_mult: 0 decay_mult: 0"
RATE = np.float32(0.1)


@pytest.fixture(autouse=True)
def lab(monkeypatch):
    monkeypatch.syspath_prepend(LAB)


class Both:
    """The same net in Caffe and in the engine, with Caffe's initial weights. `step` compares all that they have."""

    def __init__(self, folder, text, phase=caffe.TRAIN, tolerance=0.0, **inputs):
        self.caffe = caffe_nets.net(folder, text, phase)
        self.engine = engine(text, phase)
        self.tolerance = tolerance
        for layer, parameter, theirs, ours in self.parameters():
            if parameter and layer.param.type == "Python":
                self.same(f"the first {layer.name}", ours, theirs.data)
        for _, _, theirs, ours in self.parameters():
            with torch.no_grad():
                ours.copy_(torch.from_numpy(theirs.data))
        for name, values in inputs.items():
            caffe_nets.blob(self.caffe, name).data[...] = values
            layer = self.engine.layer(name)
            with torch.no_grad():
                (layer.blobs[0] if layer.blobs else layer.values[0]).copy_(torch.from_numpy(np.float32(values)))

    def parameters(self):
        """Layer, parameter of the engine, Caffe's blob and the engine's tensor, of each parameter in this order, the
        shared ones at the end."""
        own = {(one.layer, one.number): one for one in self.engine.parameters}
        found = [(layer, own.get((layer.name, number)), self.caffe.params[layer.name][number], blob)
                 for layer in self.engine.layers for number, blob in enumerate(layer.blobs)]
        return sorted(found, key=lambda one: one[1] is None)

    def same(self, what, ours, theirs):
        ours = ours.detach().numpy()
        assert ours.shape == theirs.shape, what
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=self.tolerance * np.abs(theirs).max(initial=0),
                                   err_msg=what)

    def forward(self, seed=0):
        np.random.seed(seed)
        theirs = {name: blob.copy() for name, blob in self.caffe.forward().items()}
        np.random.seed(seed)
        ours = self.engine.forward()
        assert self.engine.outputs == sorted(theirs)
        for name in theirs:
            self.same(name, ours[name], theirs[name])
        return ours

    def step(self, passes=1):
        """The update of a solver without momentum, after so many passes."""
        self.caffe.clear_param_diffs()
        for parameter in self.engine.parameters:
            parameter.blob.grad = None
        for _ in range(passes):
            self.forward()
            self.caffe.backward()
            self.engine.backward()
        for layer, _, theirs, ours in self.parameters():
            if layer.param.type == "Parameter" and passes > 1:
                ours.grad.copy_(torch.from_numpy(theirs.diff))  # in Caffe this type does not sum its gradients
            elif ours.requires_grad:
                self.same(f"gradient of {layer.name}", ours.grad, theirs.diff)
        for layer, parameter, theirs, ours in self.parameters():
            if parameter and parameter.rate:
                theirs.data[...] -= RATE * theirs.diff
                ours.detach().numpy()[...] -= RATE * ours.grad.numpy()
            self.same(f"{layer.name} after the step", ours, theirs.data)


def engine(text, phase=messages.TRAIN):
    return Net(text_format.Parse(text, messages.NetParameter()), phase)


def features(rows=8, columns=5, seed=0):
    return np.random.RandomState(seed).randn(rows, columns).astype(np.float32)


def lab_layer(layer, bottoms, tops, param_str="", rest=""):
    blobs = "".join([f'bottom: "{name}" ' for name in bottoms] + [f'top: "{name}" ' for name in tops])
    return (f'layer {{ name: "lab" type: "Python" {blobs} {rest} python_param {{ module: "lab_layers" '
            f'layer: "{layer}" param_str: "{param_str}" }} }}')


X = caffe_nets.parameter("x", (8, 5))
LABELS = np.arange(8) % 3
LABEL = caffe_nets.inputs(label=(8,))


# ---------------------------------------------------------------- our losses

@pytest.mark.parametrize("force", ["false", "true"])
def test_center_loss(tmp_path, force):
    loss = caffe_nets.python_layer("loss", "center_loss", "CenterLossLayer", ["x", "label"], 0.3, classes=3)
    both = Both(tmp_path, f"force_backward: {force}\n{X}\n{LABEL}\n{loss}", x=features(), label=LABELS)
    for _ in range(3):
        both.step()
    both.step(passes=2)


def test_sparse_center_loss_moves_its_centers_itself(tmp_path):
    text = "\n".join([X, caffe_nets.parameter("a", (8, 5)), LABEL, caffe_nets.python_layer(
        "loss", "sparse_center_loss", "SparseCenterLossLayer", ["x", "label", "a"], 0.5, [STATE], classes=3)])
    both = Both(tmp_path, text, x=features(), label=LABELS, a=np.abs(features(seed=1)))
    centers = both.engine.layer("loss").blobs[0].clone()
    for _ in range(3):
        both.step()
    assert (both.engine.layer("loss").blobs[0] != centers).all()


@pytest.mark.parametrize("p", [1, 2])
def test_feature_loss_and_its_clock(tmp_path, p):
    text = "\n".join([X, caffe_nets.inputs(h=(8, 5)), caffe_nets.python_layer(
        "loss", "feature_loss", "FeatureLossLayer", ["x", "h"], 2, [STATE], epoch_size=20, p=p, rho=0.5)])
    h = np.abs(features(seed=1))
    both = Both(tmp_path, text, x=features(), h=h / np.sqrt((h ** 2).sum(1, keepdims=True)))
    for _ in range(6):
        both.step()
    assert both.engine.layer("loss").blobs[0].tolist() == [2, 8]


@pytest.mark.parametrize("layer, param", [
    ("TupletLossLayer", {"negatives": 2}),
    ("FixedClustersLossLayer", {"positives": 2, "negatives": 2, "threshold": 1, "tau": 0.5}),
    ("AdaptiveClustersLossLayer", {"positives": 2, "negatives": 2, "rank": 3})])
def test_tuplet_losses(tmp_path, layer, param):
    loss = caffe_nets.python_layer("loss", "tuplet_loss", layer, ["x"], **param)
    both = Both(tmp_path, caffe_nets.parameter("x", (12, 5)) + loss, x=0.3 * features(12))
    for _ in range(4):
        both.step()


def test_sparseness_of_features(tmp_path):
    loss = caffe_nets.python_layer("loss", "sparseness_loss", "SparsenessLossLayer", ["x", "x"], 0.1, p=1,
                                   coefficient="divided")
    both = Both(tmp_path, X + loss, x=features())
    for _ in range(3):
        both.step()


# ---------------------------------------------------------------- shared weights

def inner_product(bottom="x", outputs=4):
    return (f'layer {{ name: "fc" type: "InnerProduct" bottom: "{bottom}" top: "fc" param {{ name: "V" }} '
            f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}\n'
            'layer { name: "sum" type: "Reduction" bottom: "fc" top: "sum" loss_weight: 1 '
            'reduction_param { operation: SUMSQ coeff: 0.1 } }')


def pruning(share=0.3):
    return caffe_nets.python_layer("pruning", "pruning", "PruningLayer", ["x"], 0, ['name: "V"', STATE], ["x"],
                                   outputs=4, share=share)


def sparseness():
    return caffe_nets.python_layer("sparse", "sparseness_loss", "SparsenessLossLayer", [], 0.2, ['name: "V"'],
                                   p=1, shape=[4, 5])


@pytest.mark.parametrize("x", ["input", "parameter"])
@pytest.mark.parametrize("prune, sparse", [(True, False), (False, True), (True, True)])
def test_shared_weights(tmp_path, prune, sparse, x):
    parts = [X if x == "parameter" else caffe_nets.inputs(x=(8, 5))]
    parts += [pruning()] * prune + [inner_product()] + [sparseness()] * sparse
    both = Both(tmp_path, "\n".join(parts), tolerance=1e-6, x=features())
    for _ in range(3):
        both.step()
    both.step(passes=2)
    weights = both.engine.layer("fc").blobs[0]
    if prune:
        mask = both.engine.layer("pruning").blobs[1]
        assert mask.sum() == 14 and ((weights == 0) == (mask == 0)).all() and ((weights.grad == 0) == (mask == 0)).all()
    assert weights.data_ptr() == both.engine.layer("pruning" if prune else "sparse").blobs[0].data_ptr()


def test_weights_that_are_loaded_reach_the_layer(tmp_path):
    """In place into the parameter, as from a caffemodel."""
    both = Both(tmp_path, "\n".join([X, pruning(0.5), inner_product()]), tolerance=1e-6, x=features())
    weights = features(4, 5, seed=9)
    both.caffe.params["fc"][0].data[...] = weights
    [owner] = [one for one in both.engine.parameters if one.blob.shape == (4, 5) and one.rate]
    with torch.no_grad():
        owner.blob.copy_(torch.from_numpy(weights))
    both.step()
    assert both.engine.layer("pruning").blobs[1].sum() == 10


# ---------------------------------------------------------------- our data layers

def run_data(tmp_path, text, passes):
    both = Both(tmp_path, text)
    for _ in range(passes):
        both.step()


def test_window_and_tuplet_data(tmp_path):
    data = small_data.with_subjects(tmp_path, (28, 14, 14))
    for layer, param in (("WindowDataLayer", {}), ("TupletDataLayer", {"positives": 3, "negatives": 6})):
        run_data(tmp_path, caffe_nets.python_layer("data", "window_data", layer, [], None, [STATE], ["data", "label"],
                                                   data=data, batch_size=9, seed=1, **param), 4)


def test_lmdb_and_augmented_data(tmp_path):
    random = np.random.RandomState(1)
    note = {"manifest": "m", "crops": "c", "seed": 0, "split": "train"}
    for name in ("images", "vectors"):
        writer = lmdb_io.Writer(str(tmp_path / name), 1 << 20, note)
        for number in range(10):
            writer.put(number, lmdb_io.encode_image(random.randint(0, 256, (8, 8, 3)).astype(np.uint8), number)
                       if name == "images" else lmdb_io.encode_floats(random.rand(6).astype(np.float32), number))
        writer.close()
    run_data(tmp_path, caffe_nets.python_layer(
        "data", "lmdb_data", "LmdbDataLayer", [], None, [STATE], ["data", "label", "vectors"], batch_size=4,
        images=str(tmp_path / "images"), features=[str(tmp_path / "vectors")], mean=127.5, scale=0.01), 6)
    run_data(tmp_path, caffe_nets.python_layer(
        "data", "augmented_data", "AugmentedDataLayer", [], None, [STATE], ["data", "label"], batch_size=4,
        images=str(tmp_path / "images"), augmentation="five_crops", side=5, seed=[3]), 6)


# ---------------------------------------------------------------- a lab's layers

Y = caffe_nets.parameter("y", (8, 5))


def test_a_labs_loss(tmp_path):
    both = Both(tmp_path, "\n".join([X, Y, lab_layer("DistanceLossLayer", "xy", ["loss"], rest="loss_weight: 0.7")]),
                x=features(), y=features(seed=1))
    for _ in range(3):
        both.step()


def test_no_gradient_is_asked_for_where_none_is_needed(tmp_path):
    both = Both(tmp_path, "\n".join([X, caffe_nets.inputs(y=(8, 5)), lab_layer(
        "DistanceLossLayer", "yx", ["loss"], rest="loss_weight: 1 propagate_down: false propagate_down: true")]),
                x=features(), y=features(seed=1))
    both.step()


def test_a_labs_learned_layer(tmp_path):
    """It has a parameter, and a factor of its own on its rate."""
    text = "\n".join([
        caffe_nets.parameter("x", (2, 3, 4, 5)), lab_layer("ChannelScale", "x", ["scaled"], "{'start': 1.5}"),
        lab_layer("EagerLoss", ["scaled"], ["loss"], rest="loss_weight: 0.1").replace('"lab"', '"loss"')])
    both = Both(tmp_path, text, x=features(6, 20).reshape(2, 3, 4, 5))
    for _ in range(3):
        both.step()
    both.step(passes=2)  # as in Caffe, it then has only the gradient of the last one
    assert both.engine.layer("lab").hosted.passes == 5


def test_a_parameter_that_is_not_trained_has_no_gradient(tmp_path):
    text = "\n".join([caffe_nets.parameter("x", (2, 3, 4, 5)), lab_layer(
        "ChannelScale", "x", ["scaled"], "{'start': 1.5}", "loss_weight: 1 param { lr_mult: 0 }")])
    both = Both(tmp_path, text, tolerance=1e-6, x=features(6, 20).reshape(2, 3, 4, 5))
    both.step()
    assert both.engine.layer("lab").blobs[0].grad is None


def test_the_gradient_of_a_bottom_is_zero_before_each_pass():
    net = engine("\n".join([X, lab_layer("Old", "x", ["top"], "2.5")]))
    for _ in range(2):
        net.forward()
        [bottom] = net.layer("lab").bottom
        assert not bottom.diff.any()
        bottom.diff[...] = 1


def test_a_layer_in_place(tmp_path):
    text = "\n".join([X, lab_layer("Double", "x", "x"), Y, lab_layer(
        "DistanceLossLayer", "xy", ["loss"], rest="loss_weight: 1").replace('"lab"', '"loss"')])
    both = Both(tmp_path, text, x=features(), y=features(seed=1))
    first = features()
    both.forward()
    # In Caffe the parameter itself is doubled; in the engine the layer before keeps what it made.
    np.testing.assert_array_equal(both.engine.layer("x").blobs[0].detach().numpy(), first)
    both.caffe.backward()
    both.engine.backward()
    np.testing.assert_array_equal(both.engine.layer("x").blobs[0].grad.numpy(), both.caffe.params["x"][0].diff)
    np.testing.assert_array_equal(both.engine.layer("y").blobs[0].grad.numpy(), both.caffe.params["y"][0].diff)


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_labs_data(tmp_path, phase):
    both = Both(tmp_path, lab_layer("CropData", [], ["data", "label", "constants"], "5,3"), phase)
    kept = [both.forward(seed) for seed in range(4)]
    for earlier, later in zip(kept, kept[1:]):  # each pass has its own memory
        assert (earlier["data"] != later["data"]).any() and (earlier["label"] != later["label"]).any()
    assert kept[3]["constants"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_older_name_of_param_str():
    net = engine("\n".join([X, lab_layer("Old", "x", ["top"], "2.5")]))
    assert net.shapes["top"] == (8, 5, 1, 1)
    assert (net.forward()["top"] == 2.5).all()


def test_nothing_is_kept_of_a_pass_without_gradient():
    net = engine(lab_layer("Double", "x", ["x"]).join([X, ""]), messages.TEST)
    net.forward()
    assert not net.layer("lab").bottom[0]._sources


# ---------------------------------------------------------------- arrays that are no views

@pytest.mark.parametrize("prune, sparse", [(True, False), (False, True), (True, True)])
def test_copies_come_back(tmp_path, monkeypatch, prune, sparse):
    """As from and to a card."""
    view = python_layer._view
    monkeypatch.setattr(python_layer, "_view", lambda tensor: view(tensor).copy())
    test_shared_weights(tmp_path, prune, sparse, "parameter")
    test_sparse_center_loss_moves_its_centers_itself(tmp_path)
    test_a_labs_learned_layer(tmp_path)


# ---------------------------------------------------------------- errors

@pytest.mark.parametrize("module, layer, expected", [
    ("lab_layer", "Old", "there is no module lab_layer on PYTHONPATH or in the current folder"),
    ("lab.nothing", "Old", "there is no module lab.nothing on PYTHONPATH or in the current folder"),
    ("lab_layers", "Od", "module lab_layers: there is no class derived from caffe.Layer 'Od'; did you mean Old?"),
    ("lab_layers", "Helper", "module lab_layers: there is no class derived from caffe.Layer 'Helper'"),
    ("lab_layers", "np", "module lab_layers: there is no class derived from caffe.Layer 'np'"),
    ("lab_cannot", "Old", "module lab_cannot cannot be imported: ModuleNotFoundError: No module named "
     "'a_package_that_no_one_has'")])
def test_modules_and_classes_that_do_not_exist(module, layer, expected):
    with pytest.raises(UserError) as error:
        engine("\n".join([X, f'layer {{ name: "l" type: "Python" bottom: "x" top: "t" python_param {{ '
                             f'module: "{module}" layer: "{layer}" }} }}']))
    assert str(error.value).startswith(f"layer l (Python): {expected}") and "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["setup", "reshape", "forward", "backward"])
def test_exceptions_of_a_layer(method):
    with pytest.raises(UserError) as error:
        net = engine("\n".join([X, lab_layer("Broken", "x", ["t"], method, "loss_weight: 1")]))
        net.forward()
        net.backward()
    assert str(error.value) == f"layer lab (Python): lab_layers.Broken.{method}: KeyError: 'in two\\nlines'"
    assert isinstance(error.value.__cause__, KeyError) and error.value.__cause__.__traceback__


def test_our_own_messages_are_whole(capfd):
    with pytest.raises(UserError, match=r"^layer loss \(Python\): layers.center_loss.CenterLossLayer.setup: "
                                        "ValueError: param_str: key 'classes' is missing, expected an integer >= 1$"):
        engine("\n".join([X, LABEL, caffe_nets.python_layer("loss", "center_loss", "CenterLossLayer", ["x", "label"])]))
