"""The memory of the machine, and what computes nets."""
import os

import pytest

from common import machine
from common.machine import Device


@pytest.mark.parametrize("text, limited", (("1000000000", True), ("max", False), ("9223372036854771712", False)))
def test_memory_of_a_container(tmp_path, monkeypatch, text, limited):
    (tmp_path / "limit").write_text(text + "\n")
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(tmp_path / "limit"), str(tmp_path / "not there")))
    there, free = machine.memory()
    if limited:
        assert there == 10 ** 9 and free <= there
    else:
        assert there == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") and 0 < free < there


def test_the_device_is_handed_on_to_children_and_forgotten_without_the_options(monkeypatch):
    for name, value in (("FER_ENGINE", "other"), ("FER_GPU", "7"), ("FER_PRECISION", "other")):
        monkeypatch.setenv(name, value)  # which also restores them at the end
    machine.use(Device("torch", "0,1", "bf16"))
    assert [os.environ[name] for name in ("FER_ENGINE", "FER_GPU", "FER_PRECISION")] == ["torch", "0,1", "bf16"]
    assert machine.device() == Device(engine="torch", gpu="0,1", precision="bf16")
    machine.use(machine.DEFAULT)
    assert machine.device() == Device("caffe", None, "float32") and "FER_GPU" not in os.environ


def test_a_process_that_was_told_nothing_computes_on_caffe_and_the_processor(monkeypatch):
    for name in ("FER_ENGINE", "FER_GPU", "FER_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    assert machine.device() == Device("caffe", None, "float32")


@pytest.mark.parametrize("device, words, options", [
    (Device(), "caffe", ""), (Device(gpu="0"), "caffe on card 0", "--gpu 0"),
    (Device("torch"), "torch", "--engine torch"),
    (Device("torch", "0,1"), "torch on cards 0,1", "--engine torch --gpu 0,1"),
    (Device("torch", "10", "bf16"), "torch on card 10 in bf16", "--engine torch --gpu 10 --precision bf16"),
    (Device("torch", None, "tf32"), "torch in tf32", "--engine torch --precision tf32")])
def test_a_device_in_words_and_as_options(device, words, options):
    assert str(device) == words and device.options() == options.split()


def test_a_device_for_each_card():
    assert Device("torch", "0,3", "bf16").each() == [Device("torch", "0", "bf16"), Device("torch", "3", "bf16")]
    for one in (Device(), Device("torch", None, "bf16"), Device("caffe", "2")):
        assert one.each() == [one]
