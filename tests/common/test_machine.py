"""The memory of the machine, and the card that is used."""
import os

import pytest

from common import machine


@pytest.mark.parametrize("text, limited", (("1000000000", True), ("max", False), ("9223372036854771712", False)))
def test_memory_of_a_container(tmp_path, monkeypatch, text, limited):
    (tmp_path / "limit").write_text(text + "\n")
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(tmp_path / "limit"), str(tmp_path / "not there")))
    there, free = machine.memory()
    if limited:
        assert there == 10 ** 9 and free <= there
    else:
        assert there == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") and 0 < free < there


def test_the_card_is_handed_on_to_children_and_forgotten_without_the_option(monkeypatch):
    monkeypatch.setenv(machine.CARD, "7")
    machine.use_card("0")
    assert machine.card() == "0" and os.environ["FER_GPU"] == "0"
    machine.use_card(None)
    assert machine.card() is None and "FER_GPU" not in os.environ
