"""A user's own experiment file, from its settings to its report; the name of its data is one that no paper has."""
import os
import shutil

import pytest

from common import files
from tools.cli import main
from tools.training.run import Run

TEXT = """paper: xie2019a
title: my own net
data: faces of my lab
net: toy
losses:
  center: {weight: 0.5}
solver: {batch_size: 8, max_iter: 4, snapshot: 2, test_interval: 2, display: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data):
    """my.yml, and a run of it with another loss."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my.yml").write_text(TEXT)
    assert main.main(["train", str(folder / "my.yml"), "--data", data, "--out", str(folder / "run"), "--threads", "1",
                      "--set", "losses.gabor={}", "losses.gabor.weight=1e-3"]) == 0
    return folder


def test_its_settings_are_shown(folder, capsys):
    assert main.main(["experiments", "show", str(folder / "my.yml"), "--set", "losses.center=none"]) == 0
    lines = [line.split("#")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == ["xie2019a/my.yml", "title: my own net", "data: faces of my lab"]
    assert "solver.max_iter: 4" in lines and "solver.base_lr: 0.005" in lines
    assert not any(line.startswith("losses.") for line in lines)


def test_it_is_trained_as_its_file_and_the_command_say(folder):
    one = Run(str(folder / "run"))
    assert one.snapshots() == [2, 4]
    kept = one.info["experiment"]
    assert (kept["name"], kept["data"], kept["file"]) == ("xie2019a/my.yml", "faces of my lab", str(folder / "my.yml"))
    assert (kept["losses"]["center"]["weight"], kept["losses"]["gabor"]["weight"]) == (0.5, 1e-3)
    with open(one.path("train_val.prototxt")) as stream:
        text = stream.read()
    assert "CenterLossLayer" in text and "FeatureLossLayer" in text


def test_it_continues_without_its_file_and_with_the_file_elsewhere(folder, data, tmp_path, capsys):
    one = Run(shutil.copytree(str(folder / "run"), str(tmp_path / "run")))
    os.unlink(one.weights_of(4))
    os.rename(str(folder / "my.yml"), str(tmp_path / "my.yml"))
    try:
        assert main.main(["train", one.folder]) == 0
        assert one.snapshots() == [2, 4]
        words = ["train", str(tmp_path / "my.yml"), "--data", data, "--out", one.folder, "--threads", "1", "--set",
                 "losses.gabor={}", "losses.gabor.weight=1e-3"]
        assert main.main(words) == 0
        assert main.main([*words, "losses.gabor.weight=2e-3"]) == 1
        assert "belongs to another run" in capsys.readouterr().err
    finally:
        os.rename(str(tmp_path / "my.yml"), str(folder / "my.yml"))


def test_it_is_evaluated_without_a_published_value(folder, capsys):
    for word, name in (("", "metrics.json"), ("@2", "metrics@2.json")):
        assert main.main(["evaluate", str(folder / "run") + word]) == 0
        metrics = files.read_json(str(folder / "run" / name))
        assert (metrics["experiment"], metrics["published"], metrics["total"]) == ("xie2019a/my.yml", None, 12)
        # The name of its data does not say which they are.
        assert metrics["dataset"] == "fer2013-plain"


def test_it_is_reported_with_the_command_that_makes_it(folder, tmp_path):
    assert main.main(["evaluate", str(folder / "run")]) == 0
    assert main.main(["report", str(folder / "run"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "my own net" in page and f"./fer train {folder}/my.yml --data" in page
    assert "--set &#39;losses.gabor={}&#39; --set losses.gabor.weight=0.001" in page


def test_its_net_may_be_one_that_is_not_there(folder, data, tmp_path, capsys):
    assert main.main(["train", str(folder / "my.yml"), "--data", data, "--out", str(tmp_path / "run"), "--set",
                      "net=resnet1001"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fer: there is no net 'resnet1001'") and len(said) < 200
    assert os.listdir(str(tmp_path)) == []
