"""The rows of `bench/gpu.sh`: what they say of programs that end in all ways. The programs are made up, also those on a
card; tests/host_oracles/test_gpu_script.py runs the real ones on the processor."""
import json
import os
import subprocess
import tempfile
import time

import pytest

from bench import gpu_nets, gpu_rows, gpu_training

SPEED = {"iterations": 20, "iterations_per_second": 2.5, "waiting_for_data": 0.125, "peak_memory_bytes": 1500000000}
LOG = "I1129 23:05:00.000000   123 solver.cpp:239] Iteration %d (%g iter/s, 0.04s/1 iters), loss = 2\n"


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """What the programs do, in turn: (status, stdout, stderr, files to write), or None for one that has no time. The
    commands are kept."""
    ends, commands = [], []

    def run(command, seconds):
        assert 0 < seconds <= 60
        commands.append(command)
        end = ends.pop(0)
        if end is None:
            return None
        status, out, errors, made = end
        for name, content in made.items():
            (tmp_path / name).write_bytes(content)
        return subprocess.CompletedProcess(command, status, out, errors)
    monkeypatch.setattr(gpu_rows, "finished", run)
    run.ends, run.commands = ends, commands
    run.definitions = gpu_nets.Definitions(str(tmp_path), "straight.prototxt", "resumed.prototxt", 20, 64)
    return run


def row(programs, *ends, precision="bf16", device="cuda", seconds=60.0):
    programs.ends[:] = ends
    left = gpu_rows.Budget(seconds)
    return gpu_rows.training("toy", programs.definitions, device, precision, 5.0, left), left


def trained(weights):
    return 0, "a line\n" + json.dumps(SPEED) + "\n", "a warning\n", {"straight_iter_20.caffemodel": weights}


def resumed(weights):
    return 0, "", "", {"resumed_iter_20.caffemodel": weights}


@pytest.mark.parametrize("second, same, said", [(b"abc", True, "yes"), (b"abd", False, "no")])
def test_speed_and_bytes(programs, tmp_path, second, same, said):
    found, left = row(programs, trained(b"abc"), resumed(second))
    assert found == dict(SPEED, net="toy", batch=64, precision="bf16", images_per_second=160, deterministic_resume=same)
    assert gpu_rows.line(found).split() == ["toy", "64", "bf16", "160.0", "12.5%", "1500", said]
    first, second = programs.commands
    assert first[1:] == ["-m", "bench.gpu_training", "straight.prototxt", "cuda:0", "bf16", "5.0"]
    assert second[1:] == ["-m", "engine", "train", "-solver", "resumed.prototxt", "-snapshot",
                          f"{tmp_path}/straight_iter_10.solverstate", "-precision", "bf16", "-gpu", "0"]
    assert left.left_out == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("end, note", [
    ((0, '{"note": "CUDA out of memory."}', "", {}), "CUDA out of memory."),
    ((1, "", "Traceback\n  x\nAttributeError: y\n", {}), "AttributeError: y"),
    ((-11, "", "", {}), "it said nothing")])
def test_a_training_that_fails(programs, end, note):
    found, left = row(programs, end)
    assert found == {"net": "toy", "batch": 64, "precision": "bf16", "note": note} and left.left_out == []
    assert gpu_rows.line(found).endswith(f"bf16      {note}")


def test_a_resumed_training_that_fails(programs):
    log = "I1129 23:05:00.000000   1 x] y\nF1129 23:05:00.000000   123 engine] the reason\nafter it\n"
    found, _ = row(programs, trained(b""), (1, "", log, {}))
    assert found["note"] == "resumed: the reason" and "deterministic_resume" not in found
    assert found["images_per_second"] == 160 and gpu_rows.line(found).endswith("1500 resumed: the reason")


def test_time_that_is_over(programs):
    found, left = row(programs, None)
    assert found["note"] == "left out: the time was over" and left.left_out == ["toy, bf16"]
    found, left = row(programs, trained(b""), None)
    assert found["note"] == "left out: the time was over" and left.left_out == ["toy, bf16, resumed"]
    count = len(programs.commands)
    found, left = row(programs, seconds=-1.0)
    assert left.left_out == ["toy, bf16"] and len(programs.commands) == count


CHECKED = {"cases": 3, "checked": 3, "different": ["b-1"], "largest_output_difference": 0.5, "warnings": ["slow"],
           "largest_gradient_difference": 0.25, "each": [
               {"name": "a-1", "output": 0.0, "gradient": 0.0, "error": None},
               {"name": "b-1", "output": 0.5, "gradient": 0.25, "error": "no"}]}


def checked(programs, end, seconds=60.0):
    programs.ends[:] = [end]
    left = gpu_rows.Budget(seconds)
    found = gpu_rows.layers("cuda", left)
    return found, gpu_rows.text_of_layers(found), left.left_out


def test_layers(programs):
    found, text, left_out = checked(programs, (0, "x\n" + json.dumps(CHECKED), "", {}))
    assert (found, left_out) == (CHECKED, []) and text.splitlines() == [
        "layers: 2 of 3 cases are as in Caffe",
        "  largest difference of an output 5.0e-01, of a gradient 2.5e-01, as parts of the largest value",
        "  b-1: output 5.0e-01, gradient 2.5e-01, no", "  warning: slow"]
    assert programs.commands[0][1:4] == ["-m", "bench.layer_check", "cuda:0"]
    assert 56 < float(programs.commands[0][4]) < 57


def test_layers_that_are_not_all_checked(programs):
    few = dict(CHECKED, checked=0, different=[], each=[], largest_output_difference=None, warnings=[])
    _, text, left_out = checked(programs, (0, json.dumps(few), "", {}))
    assert (text, left_out) == ("layers: 0 of 3 cases are as in Caffe", ["3 cases of layers"])
    assert checked(programs, None)[1:] == ("layers: left out: the time was over", ["layers"])
    assert checked(programs, (-6, "", "Traceback\nCUDA error\n", {}))[1:] == ("layers: CUDA error", [])


def test_tf32_needs_a_card(programs):
    assert row(programs, precision="tf32", device="cpu")[0]["note"] == "not on the processor"
    assert programs.commands == []


def all_cards(programs, cards, *ends):
    programs.ends[:] = ends
    return gpu_rows.all_cards({"a": None, "toy": programs.definitions}, cards, gpu_rows.Budget(60))


def test_several_cards(programs):
    """The median of the second half: 5, 4 and 6."""
    log = "".join(LOG % (number, speed) for number, speed in enumerate([0, 1, 2, 5, 4, 6]))
    assert all_cards(programs, 2, (0, "", log, {})) == {"net": "toy", "batch": 64, "cards": 2, "images_per_second": 320}
    assert programs.commands[0][-2:] == ["-gpu", "0,1"]


def test_cards_that_the_engine_does_not_use_together(programs):
    refusal = "engine: -gpu 0,1,2: the engine computes on one card, expected its number, such as 0; see --help\n"
    assert all_cards(programs, 3, (2, "", refusal, {})) == {"note": refusal[len("engine: "):-1]}
    assert all_cards(programs, 1) == {"note": "1 card, expected 2 or more"}
    assert all_cards(programs, 0) == {"note": "no card, expected 2 or more"}


def test_a_program_that_takes_too_long_is_killed_with_all_that_it_started():
    """The inner program has the outer one's output, whose end would be waited for, and says which process it is."""
    began = time.monotonic()
    done = gpu_rows.finished(["sh", "-c", "echo out; echo error >&2; exit 3"], 60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "error\n")
    with tempfile.NamedTemporaryFile("r") as stream:
        assert gpu_rows.finished(["sh", "-c", f"(exec sleep 60) & echo $! >{stream.name}; wait"], 0.5) is None
        number = int(stream.read())
    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until whoever is its parent now has noticed
            os.kill(number, 0)
            time.sleep(0.05)


def test_what_is_waited_for():
    """Layers without a bottom that read images; not class weights, say."""
    class Layer:
        def __init__(self, bottom, text):
            self.param = self
            self.bottom, self.python_param, self.param_str = bottom, self, text

        def forward(self, bottoms):
            gpu_training.time.sleep(0.02)
            return [7]
    reads, others = Layer([], '{"images": "x"}'), [Layer(["a"], '{"images": "x"}'), Layer([], '{"counts": [1]}')]
    net = type("Net", (), {"layers": [reads, *others]})
    waited = gpu_training.Waited(net)
    for layer in net.layers:
        assert layer.forward([]) == [7]
    assert 0.02 <= waited.seconds < 0.04
