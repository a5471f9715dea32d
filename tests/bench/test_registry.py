"""`./fer bench`: every benchmark is there, and what is printed and kept is what was measured."""
import ast
import dataclasses
import json
import os
import time

import pytest

import bench
from bench import layers, registry, timing
from common import files
from tools.cli import main


def test_each_module_is_registered():
    folder = os.path.dirname(bench.__file__)
    measured = []
    for name in os.listdir(folder):
        if name.endswith(".py"):
            with open(os.path.join(folder, name)) as stream:
                functions = [one.name for one in ast.parse(stream.read()).body if isinstance(one, ast.FunctionDef)]
            if "measure" in functions and name not in ("registry.py", "sparseness.py"):
                measured.append(name[:-3])
    assert sorted(measured) == sorted(registry.BENCHMARKS)


def test_table_by_hand():
    assert registry.table([{"what": "a", "n/s": 12345.6, "of": 1}, {"what": "long", "n/s": 0.01234, "of": None}]) == (
        "what     n/s  of\n"
        "a      12346   1\n"
        "long  0.0123   -")


def test_works_are_done_in_turn_and_compared_turn_by_turn():
    order = []

    def work(name, seconds, amount):
        order.append(name)
        time.sleep(seconds)
        return amount
    took = timing.in_turn({"a": lambda: work("a", 0.04, 1), "b": lambda: work("b", 0.02, 5)}, 3)
    assert order == ["a", "b"] * 3
    assert all(turn.wall >= 0.02 and turn.cpu < 0.02 for turn in took["b"])
    took = {"a": [timing.Took(2, 1, 0.5), timing.Took(2, 2, 0.5), timing.Took(2, 4, 1)],
            "b": [timing.Took(1, 1, 1), timing.Took(1, 0.5, 1), timing.Took(1, 0.25, 1)]}
    first, second = timing.rows(took, "faces")
    assert first == {"what": "a", "faces/s": 1, "least": 0.5, "most": 2, "CPU ms each": 250, "times the first": 1}
    # 1/2, 2/1, 4/0.5
    assert (second["times the first"], second["faces/s"], second["CPU ms each"]) == (2, 2, 1000)


def test_time_of_child_processes_counts():
    def burn():
        import subprocess
        import sys
        subprocess.run([sys.executable, "-S", "-c", "for i in range(3000000): pass"], check=True)
        return 1
    assert timing.in_turn({"child": burn}, 1)["child"][0].cpu > 0.02


def test_each_row_is_shown_when_it_is_known(tmp_path, monkeypatch, capsys):
    said = []

    def measure(options):
        for number in range(2):
            yield {"net": "toy", "n/s": 12345.6 * number}
            said.append(capsys.readouterr().err)
    monkeypatch.setattr(layers, "measure", measure)
    made = registry.measure("layers", registry.Options(str(tmp_path / "data"), str(tmp_path / "out"), True, 1))
    assert said == ["layers: measures the time of each type of layer in an iteration, for six nets\n"
                    "layers: net toy, n/s 0\n", "layers: net toy, n/s 12346\n"]
    assert made["rows"] == [{"net": "toy", "n/s": 0}, {"net": "toy", "n/s": 12345.6}]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    assert main.main(["bench", "crops", "--quick", "--data", str(folder / "data"), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_results_are_kept_with_the_machine_and_nothing_else_stays(found):
    assert sorted(os.listdir(str(found))) == [files.MARK, "crops.json"]
    kept = json.loads((found / "crops.json").read_text())
    assert [row["what"] for row in kept["rows"]] == ["convert_imageset", "one crop", "ten crops"]
    assert kept["quick"] and kept["rows"][2]["times the first"] > 1
    assert {"processor", "cores", "load", "caffe", "blas", "numpy"} <= set(kept["machine"])


def test_layers_of_a_net_are_all_there(tmp_path):
    from bench import drawn
    net = dataclasses.replace(layers.NETS["toy, GABOR"], batch=4)
    data = drawn.prepared(str(tmp_path), 3, net.crops, net.features, 1)
    rows = {row["layers"]: row for row in layers.of_net("toy", net, data, str(tmp_path), 2)}
    assert {"Convolution", "PReLU", "InnerProduct", "SoftmaxWithLoss", "LmdbDataLayer", "FeatureLossLayer",
            "CenterLossLayer"} <= set(rows)
    assert rows["data"]["ms"] == rows["LmdbDataLayer"]["ms"] > 0
    assert rows["our layers"]["ms"] == pytest.approx(rows["FeatureLossLayer"]["ms"] + rows["CenterLossLayer"]["ms"])
    kinds = set(rows) - {"all", "data", "our layers"}
    assert sum(rows[kind]["%"] for kind in kinds) == pytest.approx(100)
