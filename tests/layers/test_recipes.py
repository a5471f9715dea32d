"""The recipes for one's own prototxt are trained in real Caffe, and so is a copy of the layers under another name."""
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from tests import caffe_nets, small_data

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAYERS = os.path.join(ROOT, "layers")
# A net with the blobs that the recipes name.
NET = {
    "data": 'layer { name: "data" type: "Data" top: "data" top: "label" transform_param { mean_value: 127.5 scale: '
            '0.0078125 } data_param { source: "data/fer2013/train/images" backend: LMDB batch_size: 64 } }',
    "gabor": 'layer { name: "gabor" type: "Data" top: "gabor" data_param { source: "data/fer2013/train/gabor" backend: '
             'LMDB batch_size: 64 } }',
    "conv": 'layer { name: "conv" type: "Convolution" bottom: "data" top: "z" convolution_param { num_output: 512 '
            'kernel_size: 10 stride: 9 weight_filler { type: "xavier" } } }',
    "fc1": 'layer { name: "fc1" type: "InnerProduct" bottom: "z" top: "x" inner_product_param { num_output: 512 '
           'weight_filler { type: "xavier" } } }',
    "fc2": 'layer { name: "fc2" type: "InnerProduct" bottom: "x" top: "fc2" inner_product_param { num_output: 7 '
           'weight_filler { type: "xavier" } } }',
    "softmax": 'layer { name: "softmax" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "softmax" }'}


def recipes(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as stream:
        blocks = re.findall(r"^```\n(.*?)^```", stream.read(), flags=re.S | re.M)
    return [block for block in blocks if block.startswith("layer {")]


RECIPES = [(page, block) for page in ("README.md", "docs/plain-caffe.md") for block in recipes(page)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("data"), features=("gabor",))


def names(recipe):
    return re.findall(r'^ +name: "(\w+)"', recipe, flags=re.M)


def test_each_of_the_three_losses_has_a_short_recipe_on_both_pages():
    found = {page: [layer for where, block in RECIPES if where == page
                    for layer in re.findall(r'layer: "(\w+)"', block)] for page in ("README.md", "docs/plain-caffe.md")}
    losses = ["CenterLossLayer", "FeatureLossLayer", "SparsenessLossLayer"]
    assert found == {"README.md": losses, "docs/plain-caffe.md": losses + ["SparsenessLossLayer"]}
    for block in re.split(r"^(?=layer)", recipes("README.md")[0], flags=re.M):
        assert len(block.splitlines()) <= 10


@pytest.mark.parametrize("page, recipe", RECIPES, ids=[f"{page} {' '.join(names(recipe))}" for page, recipe in RECIPES])
def test_recipes_train(tmp_path, data, page, recipe):
    own = names(recipe)
    losses = re.findall(r'top: "(\w+)"\s+loss_weight', recipe)
    body = [layer for name, layer in NET.items() if name not in own and (name != "gabor" or '"gabor"' in recipe)]
    # A recipe that has a layer of the net itself stands in its place, another one at the end.
    place = list(NET).index("fc1") - 1 if "fc1" in own else len(body)
    text = "\n".join(body[:place] + [recipe] + body[place:])
    # Weights with which the losses show within a few steps, and the data that are there.
    text = re.sub(r"loss_weight: \S+", "loss_weight: 0.01", text).replace("data/fer2013", data)
    solver = caffe_nets.solver(tmp_path, text.replace("batch_size: 64", "batch_size: 8"), base_lr=0.01, momentum=0.5)
    assert losses
    values = {loss: [] for loss in losses}
    for _ in range(12):
        solver.step(1)
        for loss in losses:
            values[loss].append(float(solver.net.blobs[loss].data))
    for loss, course in values.items():
        assert np.isfinite(course).all() and 0 < course[-1] < course[0], (loss, course)


# ---------------------------------------------------------------- under another name

@pytest.fixture
def lab(tmp_path):
    """A folder with a lab's own package `layers`, and a copy of ours as `fer_layers`."""
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "__init__.py").write_text("raise RuntimeError('of the lab')\n")
    shutil.copytree(LAYERS, str(tmp_path / "fer_layers"), ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def in_lab(folder, command, *behind):
    """behind: folders on PYTHONPATH after the lab's."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(folder), *behind]), GLOG_minloglevel="0",
               GLOG_logtostderr="1")
    return subprocess.run(command, cwd=str(folder), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8")


def test_a_copy_under_another_name_trains(lab):
    """All losses in `caffe train`, without the rest of the project."""
    losses = [("center_loss", "CenterLossLayer", ["fc", "label"], [], dict(classes=3)),
              ("sparse_center_loss", "SparseCenterLossLayer", ["fc", "label"], ["lr_mult: 0 decay_mult: 0"],
               dict(classes=3)),
              ("feature_loss", "FeatureLossLayer", ["fc", "h"], ["lr_mult: 0 decay_mult: 0"], dict(epoch_size=9)),
              ("sparseness_loss", "SparsenessLossLayer", ["fc"], [], {}),
              ("tuplet_loss", "AdaptiveClustersLossLayer", ["fc"], [], dict(positives=3, negatives=2))]
    text = """
        layer { name: "data" type: "DummyData" top: "data" top: "h" top: "label" dummy_data_param {
            shape { dim: 10 dim: 4 } shape { dim: 10 dim: 6 } shape { dim: 10 }
            data_filler { type: "gaussian" std: 1 } data_filler { value: 0.4 } data_filler { value: 2 } } }
        layer { name: "in" type: "InnerProduct" bottom: "data" top: "in" inner_product_param { num_output: 6
            weight_filler { type: "xavier" } } }
        """ + caffe_nets.python_layer("pruning", "pruning", "PruningLayer", ["in"], 0, [
            'name: "V"', "lr_mult: 0 decay_mult: 0"], ["in"], outputs=6, share=0.3) + """
        layer { name: "fc" type: "InnerProduct" bottom: "in" top: "fc" param { name: "V" } inner_product_param {
            num_output: 6 weight_filler { type: "xavier" } } }
        """ + "\n".join(caffe_nets.python_layer(module, module, layer, bottoms, 0.1, params, **param)
                        for module, layer, bottoms, params, param in losses) + "\n" + caffe_nets.python_layer(
            "weights", "class_weights", "ClassWeightsLayer", [], counts=[1, 1, 1, 1, 1, 1]) + """
        layer { name: "infogain" type: "InfogainLoss" bottom: "fc" bottom: "label" bottom: "weights"
            top: "infogain" }"""
    (lab / "net.prototxt").write_text(text.replace('"layers.', '"fer_layers.'))
    (lab / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 5 display: 1 '
                                         'snapshot_prefix: "s" solver_mode: CPU random_seed: 1')
    trained = in_lab(lab, ["caffe", "train", "-solver", "solver.prototxt"])
    assert trained.returncode == 0 and "Optimization Done" in trained.stdout, trained.stdout[-2000:]
    for module, *_ in losses:
        course = [float(value) for value in re.findall(rf"{module} = (\S+)", trained.stdout)]
        assert len(course) >= 5 and np.isfinite(course).all() and course[0] > 0, module
    assert (lab / "s_iter_5.caffemodel").exists()


def test_data_layers_of_a_copy_take_the_rest_of_the_project_from_behind(lab, data):
    (lab / "net.prototxt").write_text(caffe_nets.python_layer(
        "data", "lmdb_data", "LmdbDataLayer", [], params=["lr_mult: 0 decay_mult: 0"], tops=["data", "label"],
        images=data + "/train/images", batch_size=2).replace('"layers.', '"fer_layers.'))
    program = "import caffe; net = caffe.Net('net.prototxt', caffe.TRAIN); print(net.forward()['label'].shape)"
    read = in_lab(lab, ["python3", "-c", program], ROOT)
    assert read.returncode == 0 and "(2,)" in read.stdout, read.stdout[-2000:]
