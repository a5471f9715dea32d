"""Modules of Python layers: beside a loaded Caffe, where it is only installed, and where there is none."""
import importlib
import json
import os
import subprocess
import sys
import threading

import caffe
import numpy as np
import pytest
from google.protobuf import text_format

import layers.center_loss
from engine import caffe_module, hosting, messages
from engine.net import Net
from tests import caffe_nets

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lab")


@pytest.fixture(autouse=True)
def lab(monkeypatch):
    monkeypatch.syspath_prepend(LAB)


def loaded():
    return dict(sys.modules), dict(vars(sys.modules["layers"]))


def test_both_kinds_of_a_module_live_side_by_side():
    before = loaded()
    hosted = hosting.load("layers.center_loss")
    assert loaded() == before
    assert hosted is not layers.center_loss and hosting.load("layers.center_loss") is hosted
    assert issubclass(hosted.CenterLossLayer, caffe_module.Layer)
    assert not issubclass(hosted.CenterLossLayer, caffe.Layer)
    assert issubclass(layers.center_loss.CenterLossLayer, caffe.Layer)
    assert hosted.base is hosting.load("layers.base") is not layers.base


def test_a_helper_that_uses_caffe_is_hosted_too_and_others_are_kept(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "host_layer.py").write_text("import caffe\nimport host_plain, host_of_layer, host_pack.inner\n"
                                            "import host_new.inner, host_new.other\n")
    (tmp_path / "host_plain.py").write_text("X = 1\n")
    (tmp_path / "host_caffe.py").write_text("from caffe.proto.caffe_pb2 import Datum\n\ndef f():\n    pass\n")
    (tmp_path / "host_of_layer.py").write_text("from host_caffe import f\n")
    for package in ("host_pack", "host_new"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "inner.py").write_text("from caffe import io\n")
        (tmp_path / package / "other.py").write_text("")
    import host_pack
    hosted = hosting.load("host_layer")
    assert {name for name in sys.modules if name.startswith("host_")} == {"host_plain", "host_pack"}
    assert not hasattr(sys.modules["host_pack"], "inner")
    import host_caffe
    import host_new.other
    import host_pack.inner
    assert host_new.other is not hosted.host_new.other
    assert host_caffe.Datum is caffe.proto.caffe_pb2.Datum and host_pack.inner.io is caffe.io
    with hosting.hosting():
        assert sys.modules["host_caffe"].Datum is messages.Datum
        assert sys.modules["host_pack"].inner is hosted.host_pack.inner is sys.modules["host_pack.inner"]
        assert host_pack.inner.io is caffe_module.MODULES["caffe.io"]
    assert host_pack.inner.io is caffe.io


def test_imports_inside_functions(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "late.py").write_text("def run():\n    import caffe, caffe.io\n    import late_helper\n"
                                      "    from layers import base\n    return caffe, late_helper.caffe, base\n")
    (tmp_path / "late_helper.py").write_text("import caffe\n")
    hosting.load("layers.base")
    late = hosting.load("late")
    for _ in range(2):
        with hosting.hosting():
            found = late.run()
        assert found[0] is found[1] is caffe_module.MODULES["caffe"] and found[2] is hosting.load("layers.base")
        assert "late_helper" not in sys.modules and sys.modules["caffe"] is caffe


def test_a_failed_import_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fails.py").write_text("import caffe, fails_helper\n1 / 0\n")
    (tmp_path / "fails_helper.py").write_text("import caffe\n")
    before = loaded()
    with pytest.raises(ZeroDivisionError):
        hosting.load("fails")
    assert loaded() == before


def test_two_threads(tmp_path, monkeypatch):
    """The second one opens it before the first one has closed it, and closes it later."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "second.py").write_text("import caffe\n")
    import second
    opened, closed, found = threading.Event(), threading.Event(), []

    def first():
        with hosting.hosting():
            opened.wait()
        closed.set()
    thread = threading.Thread(target=first)
    thread.start()
    with hosting.hosting():
        opened.set()
        closed.wait()
        found = [sys.modules["caffe"], hosting.load("second").caffe]
    thread.join()
    assert found == [caffe_module.MODULES["caffe"]] * 2 and sys.modules["caffe"] is caffe
    assert sys.modules["second"] is second and second.caffe is caffe


def test_another_thread_imports_meanwhile(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for number in range(300):
        (tmp_path / f"meanwhile_{number}.py").write_text(f"import json\nX = {number}\n")
    hosting.load("layers.base")
    before, done, failed, interval = set(sys.modules), threading.Event(), [], sys.getswitchinterval()

    def opens():
        try:
            while not done.is_set():
                with hosting.hosting():
                    importlib.import_module("layers.base")
        except Exception as error:
            failed.append(error)
    thread = threading.Thread(target=opens)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for number in range(300):
            assert importlib.import_module(f"meanwhile_{number}").X == number
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    assert not failed
    assert set(sys.modules) - before == {f"meanwhile_{number}" for number in range(300)}
    assert sys.modules["caffe"] is caffe and sys.modules["layers.base"] is layers.base


def test_the_current_folder_is_searched(tmp_path, monkeypatch):
    (tmp_path / "here.py").write_text("import caffe\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert hosting.load("here").caffe is caffe_module.MODULES["caffe"]


# ---------------------------------------------------------------- processes without Caffe

NO_CAFFE = """
class NoCaffe:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "caffe":
            raise ModuleNotFoundError("No module named 'caffe'", name="caffe")
sys.meta_path.insert(0, NoCaffe())
"""
CHILD = """
import json, os, sys
{block}
import numpy as np
from google.protobuf import text_format
from engine import messages
from engine.net import Net
net = Net(text_format.Parse(open({path!r}).read(), messages.NetParameter()), messages.TRAIN)
found = []
for _ in range(2):
    np.random.seed(1)
    outputs = {{name: blob.tolist() for name, blob in net.forward().items()}}
    net.backward()
    found.append([outputs, [one.blob.tolist() for one in net.parameters]])
{after}
print(json.dumps([found, sorted(name for name in sys.modules if name.partition(".")[0] in ("caffe", "layers"))]))
sys.stdout.flush()
os._exit(0)  # some versions of torch do not end cleanly
"""
TEXT = "\n".join([
    'layer { name: "d" type: "Python" top: "data" top: "label" top: "c" '
    'python_param { module: "lab_layers" layer: "CropData" param_str: "5,4" } }',
    caffe_nets.python_layer("loss", "sparse_center_loss", "SparseCenterLossLayer", ["data", "label"], 1,
                            ["lr_mult: 0 decay_mult: 0"], classes=8)])


def child(tmp_path, block="", after="", path=""):
    (tmp_path / "child.prototxt").write_text(TEXT)
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(block=block, after=after, path=str(tmp_path / "child.prototxt"))], cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [path, ROOT, LAB]))), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expected(tmp_path):
    """The same in real Caffe."""
    net = caffe_nets.net(tmp_path, TEXT)
    found = []
    for _ in range(2):
        np.random.seed(1)
        outputs = {name: blob.tolist() for name, blob in net.forward().items()}
        net.backward()
        found.append([outputs, [net.params["loss"][0].data.tolist()]])
    return found


def test_where_there_is_no_caffe(tmp_path):
    after = "from data_prep import lmdb_io; import caffe; assert caffe.proto.caffe_pb2 is messages"
    found, modules = child(tmp_path, NO_CAFFE, after)
    assert found == expected(tmp_path)
    assert {"caffe", "caffe.io", "layers.base", "layers.sparse_center_loss"} < set(modules)


def test_where_caffe_is_installed_it_is_not_loaded(tmp_path):
    """Also where it cannot be loaded."""
    (tmp_path / "caffe.py").write_text("raise ImportError('broken')")
    for path in ("", str(tmp_path)):
        found, modules = child(tmp_path, path=path)
        assert found == expected(tmp_path) and modules == []


def test_a_folder_of_this_name_is_no_caffe(tmp_path):
    (tmp_path / "place" / "caffe" / "python").mkdir(parents=True)
    after = "import caffe; assert caffe.proto.caffe_pb2 is messages"
    # Debian has Caffe in the same folder as NumPy, so it is hidden, not removed from the path.
    block = ("import importlib.machinery\nfind = importlib.machinery.PathFinder.find_spec\n"
             "def hidden(name, path=None, target=None):\n"
             f"    return find(name, [{str(tmp_path / 'place')!r}] if name == 'caffe' else path, target)\n"
             "importlib.machinery.PathFinder.find_spec = hidden\n")
    found, modules = child(tmp_path, block, after)
    assert found == expected(tmp_path) and "caffe" in modules


def test_layers_of_the_test_net_are_the_same_classes():
    text = "\n".join([caffe_nets.inputs(x=(4, 2), label=(4,)), caffe_nets.python_layer(
        "loss", "center_loss", "CenterLossLayer", ["x", "label"], classes=3)])
    kinds = [type(Net(text_format.Parse(text, messages.NetParameter()), phase).layer("loss").hosted)
             for phase in (messages.TRAIN, messages.TEST)]
    assert kinds[0] is kinds[1]
