"""The engine's program: its exit status, and errors in one line."""
import os
import re
import signal
import subprocess
import sys

import pytest

from common.errors import UserError
from engine import cli, commands

from . import programs

TINY = """layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "f" type: "InnerProduct" bottom: "d" top: "f" inner_product_param { num_output: 2 } }
layer { name: "r" type: "Reduction" bottom: "f" top: "r" loss_weight: 1 }"""


@pytest.fixture
def folder(tmp_path):
    programs.write(tmp_path, net=TINY, solver='net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2 '
                   'snapshot_prefix: "snap" solver_mode: CPU random_seed: 1')
    return tmp_path


def failure(folder, *words, **options):
    """The one line of an error, without its beginning."""
    status, out, log = programs.run("engine", folder, *words, **options)
    assert (status, out) == (1, ""), log
    fatal = [line for line in log.splitlines() if not line.startswith("I") and programs.LINE.fullmatch(line)]
    assert len(fatal) == 1 and log.endswith(fatal[0] + "\n") and fatal[0].startswith("F"), log
    assert "Traceback" not in log and "terminate" not in log
    place, text = programs.LINE.fullmatch(fatal[0]).groups()
    assert place == "engine"
    return text


def test_the_end_is_clean(folder):
    """PyTorch 1.7 aborts or hangs after a backward pass, but for engine/ending.py."""
    for _ in range(3):
        status, out, log = programs.run("engine", folder, "train", "-solver", "solver.prototxt")
        assert (status, out) == (0, "")
        assert log.splitlines()[-1].endswith("caffe.cpp:250] Optimization Done.")


@pytest.mark.parametrize("words", [["--help"], ["train", "-h"], ["help"], ["-help"]])
def test_help(tmp_path, words):
    status, out, log = programs.run("engine", tmp_path, *words)
    assert (status, log) == (0, "") and out.startswith("usage: python3 -m engine COMMAND [flags]\n")


def test_wrong_usage(tmp_path):
    assert programs.run("engine", tmp_path, "trian") == (
        2, "", "engine: there is no command 'trian'; did you mean train? See --help\n")
    assert programs.run("engine", tmp_path)[:2] == (2, "")
    assert programs.run("engine", tmp_path, "train")[2] == (
        "engine: train needs -solver, the solver's prototxt; see --help\n")


def test_files(folder):
    (folder / "damaged").write_bytes(b"\x0a\xff\xff\x01")
    assert failure(folder, "train", "-solver", "no") == "no: cannot be read: No such file or directory"
    assert failure(folder, "train", "-solver", "net.prototxt").startswith("net.prototxt: line 1:1 : ")
    solver = ["train", "-solver", "solver.prototxt"]
    assert failure(folder, *solver, "-snapshot", "damaged") == "damaged: not a SolverState of Caffe, or damaged"
    assert failure(folder, *solver, "-weights", "damaged") == "damaged: not a NetParameter of Caffe, or damaged"
    assert failure(folder, "test", "-model", "net.prototxt", "-weights", "no").startswith("no: cannot be read")
    (folder / "net.prototxt").unlink()
    assert failure(folder, *solver) == "net.prototxt: cannot be read: No such file or directory"


def test_cards(folder):
    """This PyTorch has no CUDA, or this machine no card of number 99."""
    mode = r"solver.prototxt: solver_mode is GPU, which is Caffe's default \(.*\): "
    said = r"PyTorch \S+ (is built for the processor only|sees \w+ graphics cards? of NVIDIA)"
    for words, start in ((["train", "-solver", "solver.prototxt", "-gpu", "99"], "-gpu 99: "),
                         (["time", "-model", "net.prototxt", "-gpu=99"], "-gpu 99: "),
                         (["device_query", "-gpu", "99"], "device_query: ")):
        assert re.fullmatch(start + said, failure(folder, *words))
    text = (folder / "solver.prototxt").read_text()
    (folder / "solver.prototxt").write_text(text.replace("CPU", "GPU device_id: 99"))
    assert re.fullmatch(mode + said, failure(folder, "train", "-solver", "solver.prototxt"))


def test_out_of_memory(folder):
    text = (folder / "net.prototxt").read_text()
    # 480 TB, more than a process can address.
    (folder / "net.prototxt").write_text(text.replace("dim: 3", "dim: 60000").replace("num_output: 2",
                                                                                      "num_output: 2000000000"))
    for words in (["train", "-solver", "solver.prototxt"], ["time", "-model", "net.prototxt"]):
        said = failure(folder, *words)
        assert said.startswith("there is not enough memory; a smaller batch_size needs less: ")


@pytest.mark.parametrize("error, said", [
    (UserError("layer x: wrong"), "layer x: wrong"),
    (UserError("layer c: CUDA out of memory. Tried"),
     "there is not enough memory; a smaller batch_size needs less: layer c: CUDA out of memory. Tried"),
    (MemoryError(), "there is not enough memory; a smaller batch_size needs less: out of memory"),
    (RuntimeError("CUDA out of memory.\nmore"),
     "there is not enough memory; a smaller batch_size needs less: CUDA out of memory."),
    (OSError(28, "No space left on device", "x.h5"), "x.h5: No space left on device"),
    (ModuleNotFoundError("x", name="google.protobuf2"),
     "the Python package protobuf is not installed, which the engine needs")])
def test_errors(monkeypatch, capfd, error, said):
    def fail(options):
        raise error
    monkeypatch.setattr(commands, "device_query", fail)
    if isinstance(error, ImportError):
        monkeypatch.delitem(sys.modules, "google")
    assert cli.main(["device_query"]) == 1
    assert programs.LINE.fullmatch(capfd.readouterr().err.strip()).groups() == ("engine", said)


@pytest.mark.parametrize("error", [
    ZeroDivisionError("x"), RuntimeError("x"), ModuleNotFoundError("x", name="engine.x")])
def test_mistakes_in_the_program_have_a_traceback(monkeypatch, error):
    def fail(options):
        raise error
    monkeypatch.setattr(commands, "device_query", fail)
    with pytest.raises(type(error)):
        cli.main(["device_query"])


def test_threads():
    run = "from engine import cli; cli.main(['time', '-model', 'no']); import torch; print(torch.get_num_threads())"
    for variables, expected in ((dict(OPENBLAS_NUM_THREADS="3"), 3), ({}, len(os.sched_getaffinity(0))),
                                (dict(OPENBLAS_NUM_THREADS="3", OMP_NUM_THREADS="4"), 4)):
        rest = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
        out = subprocess.run([sys.executable, "-c", run], cwd=programs.ROOT, env=dict(rest, **variables),
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True).stdout
        assert out == f"{expected}\n"


def test_ctrl_c_ends_what_is_no_training_without_a_word(folder):
    process = programs.start("engine", folder, "time", "-model", "net.prototxt", "-iterations", "100000000")
    for line in process.stderr:
        if "Iteration: 3 " in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGINT and "Traceback" not in rest
