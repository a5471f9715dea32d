"""Start weights are those that `caffe train` begins with, byte for byte."""
import glob
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from google.protobuf import text_format

from common.errors import UserError
from engine import messages, start
from tests import caffe_nets, small_data
from tests.engine.test_data import data, images, raws, write_lmdb

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

LAYERS = """
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
        convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
        convolution_param { num_output: 6 kernel_size: 2 weight_filler { type: "msra" variance_norm: AVERAGE } } }
DROPOUT
layer { name: "c" type: "InnerProduct" bottom: "b" top: "c"
        inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.01 sparse: 3 }
                              bias_filler { type: "uniform" } } }
layer { name: "d" type: "PReLU" bottom: "c" top: "c" prelu_param { filler { value: 0.2 } } }
layer { name: "loss" type: "Reduction" bottom: "c" top: "loss" loss_weight: 1 }
"""
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "b" top: "b" }'


def write(folder, text, **more):
    """The SolverParameter and the paths of solver and net."""
    net, solver = folder / "net.prototxt", folder / "solver.prototxt"
    net.write_text(text)
    settings = dict({"net": f'"{net}"', "base_lr": 0, "lr_policy": '"fixed"', "max_iter": 0, "random_seed": 7,
                     "snapshot_prefix": f'"{folder}/snapshot"', "solver_mode": "CPU"}, **more)
    solver.write_text("\n".join(f"{key}: {value}" for key, value in settings.items() if value is not None))
    return text_format.Parse(solver.read_text(), messages.SolverParameter()), str(solver), str(net)


def trained(solver):
    """The caffemodel that `caffe train` writes."""
    done = subprocess.run(["caffe", "train", "-solver", solver], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, PYTHONPATH=ROOT), encoding="utf-8")
    assert done.returncode == 0, done.stdout
    made, = glob.glob(os.path.join(glob.escape(os.path.dirname(solver)), "*.caffemodel"))
    return messages.read_binary(made, "NetParameter")


def weights(net):
    """Shape and values of each parameter, as bytes, by layer."""
    return [(layer.name, [(list(blob.shape.dim), blob.SerializeToString()) for blob in layer.blobs])
            for layer in net.layer if layer.blobs]


def assert_same(solver_param, solver, net):
    ours, theirs = weights(start.weights(solver_param, net)), weights(trained(solver))
    assert ours and ours == theirs
    return ours


def inputs(*shape):
    return caffe_nets.inputs(data=shape or (4, 3, 6, 7))


class TestSameAsCaffeTrain:
    @pytest.mark.parametrize("dropout", ("", DROPOUT))
    @pytest.mark.parametrize("iterations", (0, 1))
    def test_fillers_and_dropout(self, tmp_path, dropout, iterations):
        made = write(tmp_path, inputs() + LAYERS.replace("DROPOUT", dropout), max_iter=iterations)
        assert [name for name, _ in assert_same(*made)] == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("transform", ("", "crop_size: 5 mirror: true"))
    def test_data_layer_whose_thread_draws_a_seed(self, tmp_path, transform):
        source = write_lmdb(tmp_path / "db", raws(images(5, (3, 8, 8))))
        assert_same(*write(tmp_path, data(source, transform=transform, tops='top: "data" top: "label"')
                           + LAYERS.replace("DROPOUT", DROPOUT)
                           + 'layer { name: "silence" type: "Silence" bottom: "label" }'))

    def test_our_data_layer_in_python(self, tmp_path):
        folder = os.path.join(small_data.prepared(tmp_path), "train")
        text = caffe_nets.python_layer("data", "lmdb_data", "LmdbDataLayer", [], tops=["data", "label", "gabor"],
                                       params=["lr_mult: 0 decay_mult: 0"], images=os.path.join(folder, "images"),
                                       features=[os.path.join(folder, "gabor")], batch_size=3)
        text += LAYERS.replace("DROPOUT", DROPOUT)
        text += 'layer { name: "silence" type: "Silence" bottom: "label" bottom: "gabor" }'
        ours = dict(assert_same(*write(tmp_path, text)))
        assert [shape for shape, _ in ours["data"]] == [[2]]

    def test_stages_and_layers_of_the_test_net(self, tmp_path):
        stage = 'layer { name: "more" type: "InnerProduct" bottom: "data" top: "more" include { stage: "deep" ' \
                '} inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }' \
                'layer { name: "none" type: "Python" top: "none" include { phase: TEST } }'
        made = write(tmp_path, inputs() + stage + LAYERS.replace("DROPOUT", ""),
                     train_state='{ stage: "deep" }')
        ours = weights(start.weights(*made[::2]))
        assert [name for name, _ in ours] == ["more", "a", "b", "c", "d"]
        assert ours == weights(trained(made[1]))

    def test_net_in_the_solver(self, tmp_path):
        text = inputs() + LAYERS.replace("DROPOUT", "")
        for field in ("net_param", "train_net_param"):
            folder = tmp_path / field
            folder.mkdir()
            assert_same(*write(folder, text, net=None, **{field: "{" + text + "}"}))

    def test_another_seed_is_another_net_and_no_seed_is_drawn(self, tmp_path):
        text, made = inputs() + LAYERS.replace("DROPOUT", ""), []
        for seed in (7, 7, 8, -1, -1):
            solver, _, net = write(tmp_path, text, random_seed=seed)
            made.append(weights(start.weights(solver, net)))
        assert made[0] == made[1]
        assert all(made[first] != made[second] for first, second in ((0, 2), (0, 3), (3, 4)))

    def test_relative_paths_are_those_of_this_process(self, tmp_path, monkeypatch):
        solver, _, _ = write(tmp_path, inputs() + LAYERS.replace("DROPOUT", ""))
        monkeypatch.chdir(tmp_path)
        assert start.weights(solver, "net.prototxt").layer


STARTS = """
import signal
from engine import messages, start
signal.signal(signal.SIGINT, lambda *_: None)
start.CHILD = "import os, time; print(os.getpid(), file=open('child', 'w')); os.rename('child', 'pid'); time.sleep(60)"
start.weights(messages.SolverParameter(), "net.prototxt")
"""


def test_the_child_gets_no_ctrl_c_and_ends_with_its_parent(tmp_path):
    """A terminal sends Ctrl-C to the whole group of processes."""
    def until(happened):
        end = time.monotonic() + 30
        while not happened() and time.monotonic() < end:
            time.sleep(0.05)
        assert happened()

    def lives(number):
        if not os.path.exists(f"/proc/{number}"):
            return False
        with open(f"/proc/{number}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in "ZX"
    engine = subprocess.Popen([sys.executable, "-c", STARTS], cwd=tmp_path, start_new_session=True,
                              env=dict(os.environ, PYTHONPATH=ROOT))
    try:
        until((tmp_path / "pid").exists)
        child = int((tmp_path / "pid").read_text())
        os.killpg(engine.pid, signal.SIGINT)
        time.sleep(0.5)
        assert lives(engine.pid) and lives(child)
    finally:
        engine.kill()
        engine.wait()
    until(lambda: not lives(child))


class TestErrors:
    def refused(self, tmp_path, text, *words):
        solver, _, net = write(tmp_path, text)
        with pytest.raises(UserError) as error:
            start.weights(solver, net)
        message = str(error.value)
        assert message.startswith(f"{net}: real Caffe") and "\n" not in message and "***" not in message
        for word in words:
            assert word in message

    def test_check_of_caffe(self, tmp_path):
        self.refused(tmp_path, inputs(4, 3, 1, 1) + LAYERS.replace("DROPOUT", ""), "Check failed")

    def test_missing_file(self, tmp_path):
        self.refused(tmp_path, data(tmp_path / "none"), "mdb_status", "No such file or directory")

    def test_layer_in_python(self, tmp_path):
        self.refused(tmp_path, caffe_nets.python_layer("data", "lmdb_data", "LmdbDataLayer", [], images="/nowhere",
                                                       batch_size=3, tops=["data", "label"]),
                     "layer data (LmdbDataLayer)", "/nowhere")


class TestHasCaffe:
    def test_real_one(self):
        assert start.has_caffe()

    def test_a_stand_in_does_not_count(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "caffe", types.ModuleType("caffe"))
        assert start.has_caffe()
        folders = [one for one in sys.path if not os.path.exists(os.path.join(one, "caffe", "__init__.py"))]
        # A folder of Caffe's sources is a namespace for Python, and no module.
        (tmp_path / "caffe").mkdir()
        monkeypatch.setattr(sys, "path", [*folders, str(tmp_path)])
        assert not start.has_caffe()
        assert start.weights(messages.SolverParameter(), "net.prototxt") is None

    def test_the_child_has_the_real_one(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "caffe", types.ModuleType("caffe"))
        solver, _, net = write(tmp_path, inputs() + LAYERS.replace("DROPOUT", ""))
        assert start.weights(solver, net).layer
