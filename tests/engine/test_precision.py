"""-precision: what is refused, and the settings for a card, which none of these tests has. That bf16 computes what it
says is tested with a PyTorch of today, in tests/host_oracles/test_engine.py."""
import subprocess
import sys

import pytest
import torch

from common.errors import UserError
from engine import ending, precision

from . import programs

ending.make_clean()  # a test runs a backward pass
OLD = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (1, 10)


@pytest.fixture(autouse=True)
def restored():
    yield
    precision.use("float32", "cpu")


@pytest.mark.parametrize("words", [["train", "-solver=solver.prototxt"], ["time", "-model", "net.prototxt"]])
@pytest.mark.parametrize("name, said", [
    ("tf32", "-precision tf32 is for graphics cards (-gpu); on the processor, expected float32 or bf16"),
    pytest.param("bf16", f"-precision bf16 needs PyTorch 1.10 or later, found {torch.__version__}",
                 marks=pytest.mark.skipif(not OLD, reason="this PyTorch can do it"))])
def test_refused_on_the_processor(tmp_path, words, name, said):
    programs.write(tmp_path)
    status, out, log = programs.run("engine", tmp_path, *words, "-precision", name)
    assert (status, out) == (1, "") and log.splitlines()[-1].endswith(f"engine] {said}"), log
    assert log.count("\nF") == 1


def test_float32_is_the_default_and_not_mentioned(tmp_path):
    programs.write(tmp_path)
    logs = [programs.run("engine", tmp_path, "train", "-solver=solver.prototxt", *more)
            for more in ([], ["-precision", "float32"])]
    assert [status for status, _, _ in logs] == [0, 0] and "computed in" not in logs[0][2]
    texts = [programs.lines(log, "Starting Optimization") for _, _, log in logs]
    assert texts[0] == texts[1] and len(texts[0]) > 10


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_refused_on_an_old_card(monkeypatch, name):
    monkeypatch.setattr(torch, "__version__", "2.8.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(UserError, match=f"^-precision {name}: the card Tesla T4 cannot compute so"):
        precision.use(name, "cuda:1")


CARD = """
import os, sys
from engine import tuning
tuning.before_torch()
import torch
torch.cuda.get_device_capability = lambda device: (9, 0)
from engine import precision
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
print(precision.use(sys.argv[1], "cuda:0"))
print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark,
      torch.backends.cudnn.deterministic, os.environ["CUBLAS_WORKSPACE_CONFIG"])
print(getattr(torch, "are_deterministic_algorithms_enabled", lambda: "old")())
"""


@pytest.mark.parametrize("name, tf32, said", [("float32", "False", ""), ("tf32", "True", "computed in TF32")])
def test_settings_for_a_card(name, tf32, said):
    """In a process of its own, since they hold for the whole process."""
    done = subprocess.run([sys.executable, "-c", CARD, name], cwd=programs.ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    first, settings, deterministic = done.stdout.splitlines()
    assert settings == f"{tf32} {tf32} False True :4096:8" and done.stderr == ""
    assert first == "" if not said else said in first
    assert deterministic in (("old", "False") if OLD else ("True",))


def test_factors_are_rounded_to_the_precision(monkeypatch):
    """1 + 2^-9 has more digits than bfloat16, which rounds it to 1."""
    seen = []

    def product(first, second, third):
        seen.append((first.dtype, second.dtype, third))
        return first * second
    x = torch.tensor([1 + 2 ** -9, 3.0], requires_grad=True)
    assert precision.multiply(product, x, torch.ones(2), None).tolist() == [1 + 2 ** -9, 3]
    monkeypatch.setattr(precision, "_factors", torch.bfloat16)
    found = precision.multiply(product, x, torch.ones(2), None)
    assert found.tolist() == [1, 3] and found.dtype == torch.float32
    found.sum().backward()
    assert x.grad.dtype == torch.float32 and x.grad.tolist() == [1, 1]
    assert seen == [(torch.float32, torch.float32, None), (torch.bfloat16, torch.bfloat16, None)]
