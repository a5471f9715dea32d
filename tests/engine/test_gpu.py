"""`python3 -m bench.gpu`: what it found is kept, whatever happens. tests/host_oracles runs it with a real PyTorch."""
import json

import pytest

from bench import gpu, gpu_rows


@pytest.fixture
def out(tmp_path, monkeypatch):
    """The JSON file, for a measurement whose parts are made up."""
    monkeypatch.setattr(gpu_rows, "layers", lambda device, left: {"note": "stopped"})
    monkeypatch.setattr(gpu_rows, "training", lambda name, *_: {"net": name, "batch": 1, "precision": "", "note": "x"})
    monkeypatch.setattr(gpu.gpu_nets, "write", lambda *_: None)
    return tmp_path / "found.json"


def run(out):
    return gpu.main(["--device", "cpu", "--quick", "--out", str(out)]), json.loads(out.read_text())


@pytest.mark.parametrize("layers, status", [
    ({"note": "stopped"}, 1), ({"different": []}, 0), ({"different": ["a-1"]}, 1)])
def test_only_layers_that_are_as_in_caffe_end_with_0(out, monkeypatch, layers, status):
    monkeypatch.setattr(gpu_rows, "layers", lambda device, left: layers)
    monkeypatch.setattr(gpu_rows, "text_of_layers", str)
    ended, found = run(out)
    assert (ended, found["layers"]) == (status, layers) and len(found["trainings"]) == 9 and "error" not in found


def test_what_was_found_before_an_error_is_kept(out, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("of the card")
    monkeypatch.setattr(gpu_rows, "layers", lambda device, left: {"different": [], "note": "fine"})
    monkeypatch.setattr(gpu_rows, "training", fail)
    ended, found = run(out)
    assert ended == 1 and found["layers"]["note"] == "fine" and found["seconds"] >= 0
    assert found["error"].endswith("RuntimeError: of the card\n") and found["error"] in capsys.readouterr().out
