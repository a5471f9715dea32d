"""What runs ahead of the net: order, threads, errors, the end of the program. Python layers give the same as in Caffe,
which runs nothing ahead, also when they are stopped, resumed and loaded."""
import gc
import os
import subprocess
import sys
import threading
import time

import caffe
import numpy as np
import pytest
import torch
from google.protobuf import text_format

from common.errors import UserError
from data_prep import lmdb_io
from engine import ahead, hosting, messages, snapshot
from engine.net import Net
from tests import caffe_nets, small_data

from . import training
from .test_data import wait_for

LAB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lab")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STATE = "lr_mult: 0 decay_mult: 0"


@pytest.fixture(autouse=True)
def lab(monkeypatch):
    """The engine runs ahead as in a process without Caffe. So nothing may be imported while it does: in these tests
    Caffe comes first."""
    monkeypatch.syspath_prepend(LAB)
    monkeypatch.setattr(hosting, "beside_caffe", lambda: False)
    yield
    gc.collect()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "ahead"])


def engine(text, phase=messages.TRAIN, share=None):
    return Net(text_format.Parse(text, messages.NetParameter()), phase, share=share)


def counted(param_str="", rest=f"param {{ {STATE} }}", name="data"):
    return (f'layer {{ name: "{name}" type: "Python" top: "data" {rest} python_param {{ module: "lab_layers" '
            f'layer: "Counted" param_str: "{param_str}" }} }}')


def made_ahead(net):
    """How many batches the layer has made, once it makes no more for now."""
    hosted = net.layer("data").hosted
    seen = -1
    while seen != len(hosted.runs):
        seen = len(hosted.runs)
        time.sleep(0.05)
    return seen


# ---------------------------------------------------------------- chains

def test_a_chain_makes_the_next_ones_in_one_other_thread():
    made, threads = [], set()

    def make(state):
        threads.add(threading.current_thread())
        made.append(state)
        return -state, state + 1
    chain, state = ahead.Chain(), 0
    for expected in range(5):
        value, state = chain.get(make, state)
        assert (value, state) == (-expected, expected + 1)
    wait_for(lambda: len(made) == 5 + ahead.DEPTH)
    assert made == list(range(7)) and len(threads) == 1 and threading.current_thread() not in threads
    assert chain.get(make, 20) == (-20, 21)
    assert chain.get(make, 21) == (-21, 22)
    wait_for(lambda: len(made) == 7 + 4)
    assert made[7:] == [20, 21, 22, 23] and len(threads) == 1


def test_a_chain_without_depth_makes_what_is_asked_for():
    made = []
    chain, state = ahead.Chain(), 0
    for _ in range(4):
        _, state = chain.get(lambda state: (made.append(state), state + 1), state, depth=0)
        time.sleep(0.02)
        assert len(made) == state


def test_after_an_error_a_chain_makes_nothing_until_it_is_asked():
    made = []

    def make(state):
        made.append(state)
        if state == 1 and made.count(1) == 1:
            raise UserError("the second one")
        return state, state + 1
    chain = ahead.Chain()
    assert chain.get(make, 0) == (0, 1)
    with pytest.raises(UserError, match="the second one"):
        chain.get(make, 1)
    time.sleep(0.1)
    assert made == [0, 1]
    assert chain.get(make, 1) == (1, 2)


def test_what_is_thrown_away_before_it_began_is_not_made():
    made, gate = [], threading.Event()

    def make(state):
        made.append(state)
        if state == 1:
            gate.wait()
        return state, state + 1
    chain = ahead.Chain()
    chain.get(make, 0)
    threading.Timer(0.1, gate.set).start()
    assert chain.get(make, 20, depth=0) == (20, 21)
    assert made == [0, 1, 20]


def test_an_error_of_what_was_thrown_away_is_not_raised():
    def make(state):
        if state == 1:
            raise UserError("not used")
        return state, state + 1
    chain = ahead.Chain()
    chain.get(make, 0)
    assert chain.get(make, 5) == (5, 6)


# ---------------------------------------------------------------- our data layers, against Caffe

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An LMDB of ten small images, one of vectors, and a folder with subjects."""
    made = tmp_path_factory.mktemp("data")
    random = np.random.RandomState(1)
    for name in ("images", "references", "vectors"):
        writer = lmdb_io.Writer(str(made / name), 1 << 20, {"manifest": "m", "crops": "c", "seed": 0, "split": "train"})
        for number in range(10):
            writer.put(number, lmdb_io.encode_floats(random.rand(6).astype(np.float32), number) if name == "vectors"
                       else lmdb_io.encode_image(random.randint(0, 256, (8, 8, 3)).astype(np.uint8), number))
        writer.close()
    (made / "subjects").mkdir()
    small_data.with_subjects(made / "subjects", (28, 14, 14))
    return made


def layer(kind, folder):
    """The text of a data layer."""
    images, subjects = str(folder / "images"), str(folder / "subjects" / "prepared")
    pairs = ("augmented_data", "AugmentedDataLayer", ["data", "label", "reference"], dict(
        images=images, references=str(folder / "references"), augmentation="mirror_or_noise", deviation=3, seed=[4]))
    module, name, tops, param = {
        "lmdb": ("lmdb_data", "LmdbDataLayer", ["data", "label", "vectors"], dict(
            images=images, features=[str(folder / "vectors")], mean=[1, 2, 3.5], scale=0.01)),
        "crops": ("augmented_data", "AugmentedDataLayer", ["data", "label"], dict(
            images=images, augmentation="five_crops", side=5, mean=127.5, scale=[1, 0.3, 2], seed=[3])),
        "pairs": pairs,
        "windows": ("window_data", "WindowDataLayer", ["data", "label"], dict(data=subjects, seed=1)),
        "tuplets": ("window_data", "TupletDataLayer", ["data", "label"], dict(
            data=subjects, seed=1, positives=3, negatives=6))}[kind]
    return caffe_nets.python_layer("data", module, name, [], None, [STATE], tops, batch_size=4, **param)


KINDS = ("lmdb", "crops", "pairs", "windows", "tuplets")


def caffes(net, count):
    """Tops and states of so many passes of Caffe."""
    made = []
    for _ in range(count):
        net.forward()
        made.append(({name: blob.data.copy() for name, blob in net.blobs.items()}, net.params["data"][0].data.copy()))
    return made


def assert_same(net, expected):
    """The engine gives the same in the next passes."""
    for tops, state in expected:
        blobs = net.forward(keep=list(net.shapes))
        assert set(blobs) == set(tops)
        for name, blob in blobs.items():
            np.testing.assert_array_equal(blob.numpy(), tops[name], err_msg=name)
        np.testing.assert_array_equal(net.layer("data").blobs[0].numpy(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_in_caffe_over_30_passes_also_when_weights_are_loaded(tmp_path, folder, kind):
    text = layer(kind, folder)
    theirs = caffe_nets.net(tmp_path, text)
    first = caffes(theirs, 11)
    theirs.save(str(tmp_path / "eleven"))
    second = caffes(theirs, 19)
    ours = engine(text)
    assert_same(ours, first + second)
    for count in (3, 7):
        snapshot.load_weights(ours, str(tmp_path / "eleven"))
        assert_same(ours, second[:count])
    # What the engine writes is the position of the batch that was used, though more were made.
    time.sleep(0.05)
    snapshot.write_weights(ours, str(tmp_path / "eighteen"))
    assert_same(ours, second[7:])
    del ours
    gc.collect()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "ahead"])
    theirs.copy_from(str(tmp_path / "eighteen"))
    for (tops, _), (expected, _) in zip(caffes(theirs, 12), second[7:]):
        for name in expected:
            np.testing.assert_array_equal(tops[name], expected[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_is_stopped_and_resumed_writes_the_same_bytes(tmp_path, folder, kind):
    net = layer(kind, folder) + """
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
                loss_param { ignore_label: -1 } }"""
    path = training.write(tmp_path, 'base_lr: 1e-6 momentum: 0.9 weight_decay: 0.01 iter_size: 2', net)
    theirs = caffe.get_solver(path)
    theirs.step(15)
    written = []
    for stops in ((15,), (4, 5, 15)):
        done = 0
        for stop in stops:
            ours = training.in_engine(path)
            if done:
                ours.restore(f"{tmp_path}/solver_iter_{done}.solverstate")
            ours.step(stop - done)
            ours.snapshot()
            done = stop
        written.append([(tmp_path / f"solver_iter_15.{end}").read_bytes() for end in ("caffemodel", "solverstate")])
    assert written[0] == written[1]
    assert ours.net.layer("data").blobs[0].tolist() == theirs.net.params["data"][0].data.tolist()


# ---------------------------------------------------------------- a lab's layer

def test_it_runs_each_batch_once_in_order_in_one_other_thread():
    net = engine(counted())
    values = [net.forward()["data"].tolist()[:2] for _ in range(6)]
    assert values == [[number, number] for number in range(6)]
    assert made_ahead(net) == 6 + ahead.DEPTH
    numbers, threads = zip(*net.layer("data").hosted.runs)
    assert list(numbers) == list(range(8))
    assert len(set(threads)) == 1 and threading.current_thread() not in threads
    assert net.layer("data").blobs[0].tolist() == [0, 6]


def test_after_a_load_it_goes_on_from_there_and_runs_no_batch_again():
    net = engine(counted())
    net.forward()
    made = made_ahead(net)
    with torch.no_grad():
        net.layer("data").blobs[0].copy_(torch.tensor([7, 40]))
    values = [net.forward()["data"].tolist()[:2] for _ in range(3)]
    assert values == [[40 + number, made + number] for number in range(3)]
    assert net.layer("data").blobs[0].tolist() == [7, 43]
    net.seek(100)  # the position is in the state
    assert net.forward()["data"].tolist()[0] == 43


@pytest.mark.parametrize("param_str, rest", [
    ("no blob", ""), ("", ""), ("", "param { lr_mult: 1 }"), ("", 'param { name: "x" lr_mult: 0 }'),
    ("", f'param {{ {STATE} }} bottom: "x"')])
def test_others_run_when_they_are_needed(param_str, rest):
    net = engine("\n".join([caffe_nets.inputs(x=(2,)) if "bottom" in rest else "", counted(param_str, rest)]))
    for _ in range(3):
        net.forward()
    assert made_ahead(net) == 3
    assert {thread for _, thread in net.layer("data").hosted.runs} == {threading.current_thread()}


def test_a_position_that_a_test_net_shares():
    train = engine(counted())
    test = engine(counted(), messages.TEST, train)
    values = [net.forward()["data"].tolist()[0] for net in (train, train, test, test, train, test)]
    assert values == list(range(6))
    assert [made_ahead(net) for net in (train, test)] == [3, 3]


def test_an_error_comes_with_its_own_batch():
    net = engine(counted("fail 2"))
    for number in range(2):
        assert net.forward()["data"][0] == number
    with pytest.raises(UserError) as error:
        net.forward()
    assert str(error.value) == "layer data (Python): lab_layers.Counted.forward: KeyError: 'in two\\nlines'"
    assert isinstance(error.value.__cause__, KeyError)
    assert made_ahead(net) == 3


def test_the_thread_ends_with_the_net():
    before = set(threading.enumerate())
    net = engine(counted())
    net.forward()
    threads = set(threading.enumerate()) - before
    assert len(threads) == 1
    del net
    wait_for(lambda: not threads & set(threading.enumerate()))


def test_nothing_runs_ahead_beside_caffe(monkeypatch):
    monkeypatch.undo()
    monkeypatch.syspath_prepend(LAB)
    assert hosting.beside_caffe()
    with hosting.hosting():
        assert hosting.beside_caffe()
    net = engine(counted())
    for number in range(3):
        assert net.forward()["data"][0] == number
    assert made_ahead(net) == 3


# ---------------------------------------------------------------- the end of the program

CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
from google.protobuf import text_format
from engine import ahead, messages
from engine.net import Net
ahead.PATIENCE = 0.2
net = Net(text_format.Parse(sys.argv[1], messages.NetParameter()), messages.TRAIN)
for _ in range(3):
    net.forward()
{end}
"""


@pytest.mark.parametrize("param_str, end, status, said", [
    ("", "", 0, ""), ("wait 3", "", 0, ""), ("wait 4", "raise SystemExit(3)", 3, ""), ("fail 3", "", 0, ""),
    ("", "1 / 0", 1, "ZeroDivisionError: division by zero"),
    ("wait 3", "import os; os.kill(os.getpid(), signal.SIGINT)", -2, "KeyboardInterrupt")])
def test_the_end_does_not_wait(param_str, end, status, said):
    done = subprocess.run([sys.executable, "-c", CHILD.format(end=end), counted(param_str)], cwd=ROOT, timeout=60,
                          env=dict(os.environ, PYTHONPATH=os.pathsep.join([ROOT, LAB, os.environ["PYTHONPATH"]])),
                          stderr=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == status
    assert (done.stderr.strip().splitlines() or [""])[-1] == said


def test_calls_that_have_not_begun_are_not_made_at_the_end():
    code = ("import time\nfrom engine import ahead\nworker = ahead.Worker()\n"
            "for number in range(3):\n"
            "    worker.submit(lambda one: (print(one, flush=True), time.sleep(0.5)), number)\ntime.sleep(0.1)\n")
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, universal_newlines=True,
                         check=True).stdout
    assert out == "0\n"
