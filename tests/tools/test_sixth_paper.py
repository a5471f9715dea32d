"""A paper of somebody's own, from a folder outside the project: one line registers it, and nothing else changes."""
import csv
import dataclasses
import json
import os
import sys

import pytest

from common import experiment, papers
from common.errors import UserError
from prototxt import build
from tools.cli import main

NAME = "tiny2026"
EXPERIMENT = NAME + "/fer2013-wide"

SCHEMA = '''
from common.settings import Count, Section, Settings as Base, setting


class Head(Section):
    width: Count = setting("Outputs of the hidden layer.")


class Settings(Base):
    losses: Section = setting("None: the softmax loss is alone.")
    head: Head = setting("The hidden layer.")
'''

BUILDER = '''
import caffe
from caffe import layers as L

from prototxt.builders.parts import MEAN, PLAIN, SCALE, merge, python_layer, validation_net


def body(net, experiment):
    net.hidden = L.InnerProduct(net.data, num_output=experiment.head["width"], weight_filler=dict(type="xavier"))
    net.relu = L.ReLU(net.hidden, in_place=True)
    net.fc = L.InnerProduct(net.relu, num_output=7, weight_filler=dict(type="xavier"))


def train_val(experiment, data):
    train = caffe.NetSpec()
    train.data, train.label = python_layer(
        "train_data", "lmdb_data", "LmdbDataLayer", ntop=2, stateful=True, images=data.lmdb("train", "images"),
        features=[], batch_size=experiment.solver["batch_size"], mean=MEAN, scale=SCALE)
    body(train, experiment)
    train.softmax_loss = L.SoftmaxWithLoss(train.fc, train.label)
    return merge(experiment.name, train.to_proto(), validation_net(data, PLAIN, lambda net: body(net, experiment)))


def deploy(experiment, data):
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1] + list(data.shape)))
    body(net, experiment)
    net.prob = L.Softmax(net.fc)
    proto = net.to_proto()
    proto.name = experiment.name
    return proto


def classified(experiment):
    return "relu"
'''

REPORT = '''
from tools.report.paper_report import PaperFigure, Report, Target, uses


def widths(entries):
    rows = [(entry.title, entry.experiment.head["width"]) for entry in entries]
    return PaperFigure("Width of the hidden layer ([tiny2026] Fig. 1)", "As the experiment says.",
                       [("run", "width"), *rows], is_table=True)


REPORT = Report({"tiny2026-fig1": Target("Width", uses("tiny2026", "fer2013-wide"), widths)},
                lambda entries: [widths(entries)])
'''

DEFAULTS = """
head: {width: 8}
solver: {base_lr: 0.01, lr_policy: fixed, batch_size: 8, max_iter: 6, test_interval: 3, snapshot: 3, display: 1,
         random_seed: 1}
"""
OWN = "title: a wide net\nsource: Table 1\ndata: fer2013\nnet: toy\nhead: {width: 12}\n"


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("somewhere")
    for name, text in (("schema", SCHEMA), ("builder", BUILDER), ("report", REPORT)):
        (folder / f"{NAME}_{name}.py").write_text(text)
    (folder / "experiments").mkdir()
    (folder / "experiments" / "defaults.yml").write_text(DEFAULTS)
    (folder / "experiments" / "fer2013-wide.yml").write_text(OWN)
    with open(papers.get("wu2023").published, encoding="utf-8") as stream:
        row = dict.fromkeys(next(csv.reader(stream)), "")
    row.update(table="1", row="wide", column="FER2013", system="own", data="fer2013", split="test", value="50.00",
               kind="count", unit="image", correct="6", total="12", measure="accuracy",
               experiment=EXPERIMENT)
    with open(str(folder / "values.csv"), "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([list(row), list(row.values())])
    sys.path.insert(0, str(folder))
    papers.register(NAME, str(folder / "experiments"), str(folder / "values.csv"), NAME + "_schema",
                    NAME + "_builder", NAME + "_report")
    yield folder
    papers.unregister(NAME)
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def run_folder(paper, data, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("runs") / "wide")
    assert main.main(["train", EXPERIMENT, "--data", data, "--out", out, "--threads", "1"]) == 0
    return out


def test_its_experiments_are_listed_and_shown(paper, capsys):
    assert main.main(["experiments", NAME]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [EXPERIMENT, "a", "wide", "net", "fer2013", "toy"]
    assert main.main(["experiments", "show", EXPERIMENT]) == 0
    assert "# Outputs of the hidden layer." in capsys.readouterr().out


def test_its_schema_refuses_what_its_nets_do_not_use(paper):
    (paper / "experiments" / "wrong.yml").write_text(OWN + "weighting: {rounds: 3}\n")
    with pytest.raises(UserError, match="wrong.yml: unknown key 'weighting'"):
        experiment.load(NAME + "/wrong")
    (paper / "experiments" / "wrong.yml").unlink()
    with pytest.raises(UserError, match="head: width is 0, expected a whole number of at least 1"):
        experiment.load(EXPERIMENT, ["head.width=0"])


def test_it_has_a_definition_for_plain_caffe(paper):
    texts = build.committed(EXPERIMENT)
    assert "num_output: 12" in texts[f"prototxt/{EXPERIMENT}/train_val.prototxt"]


def test_it_is_trained_and_evaluated(run_folder, capsys):
    assert os.path.exists(run_folder + "/snapshots/iter_6.caffemodel")
    assert main.main(["evaluate", run_folder]) == 0
    assert capsys.readouterr().out.startswith("test: ")
    with open(run_folder + "/metrics.json") as stream:
        metrics = json.load(stream)
    assert metrics["paper"] == NAME and metrics["total"] == 12
    # The printed value stands beside it.
    assert (metrics["published"]["value"], metrics["published"]["correct"]) == ("50.00", 6)


def test_it_is_reported_with_its_own_section(run_folder, capsys, tmp_path):
    assert main.main(["report", run_folder, "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Width of the hidden layer ([tiny2026] Fig. 1)" in page and "a wide net" in page


def test_its_table_and_its_figure_are_targets(run_folder, data, capsys, tmp_path):
    assert main.main(["reproduce", NAME + "-table1", NAME + "-fig1", "--data", "fer2013=" + data, "--out",
                      str(tmp_path / "out"), "--show"]) == 0
    shown = capsys.readouterr().out
    assert "50.00 (6/12)" in shown and "wide" in shown


def test_without_a_report_module_it_has_the_page_of_all(run_folder, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(papers._papers, NAME, dataclasses.replace(papers.get(NAME), report=None))
    assert main.main(["report", run_folder, "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Width of the hidden layer" not in page and "a wide net" in page
