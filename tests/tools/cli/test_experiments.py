"""Experiments, listed and shown."""
import os
import re

import pytest
import yaml

from common import experiment
from tools.cli import main

EXPERIMENTS = os.path.join(experiment.ROOT, "experiments")


def listed(capsys, *words):
    assert main.main(["experiments", *words]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["experiment", "title", "data", "net"]
    return rows


@pytest.mark.parametrize("pattern, count", ((None, None), ("mmi-one", 2), ("*-alaw", None), ("*/mmi-one_map-l[12]", 1),
                                            ("MMI-one", 2), ("2b(N+m)softmax", 5), ("*-ALAW", None)))
def test_list(capsys, pattern, count):
    rows = listed(capsys, *[pattern] * (pattern is not None))
    names = [row.split()[0] for row in rows]
    files = [os.path.join(folder, name) for folder, _, names in os.walk(EXPERIMENTS) for name in names
             if name.endswith(".yml") and name != "defaults.yml" and os.path.basename(folder) != "studies"]
    assert len(names) == (count or {None: len(files)}.get(pattern, sum(name.endswith("-alaw.yml") for name in files)))
    for name, row in zip(names, rows):
        with open(os.path.join(EXPERIMENTS, name + ".yml"), encoding="utf-8") as stream:
            own = yaml.safe_load(stream)
        assert own["title"] in row and row.split()[-2:] == [own["data"], own["net"]]


def test_show_prints_the_settings_in_force(capsys):
    assert main.main(["experiments", "show", "xie2019b/mmi-one_map-l2", "--set", "solver.max_iter=7",
                      "solver.base_lr=0.5", "--set", "solver.display=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "xie2019b/mmi-one_map-l2"
    # With what each does, from the schema.
    assert re.search(r"(?m)^  head.dropout: 0 +# Share of the inputs of FC1 and of FC2 that dropout sets to 0\.$",
                     "\n".join(lines))
    assert all(re.match(r"  (title|source|data): |  [\w.]+: .*  # [A-Z].*\.$", line) for line in lines[1:]), lines
    for wanted in ("net: one_map", "solver.max_iter: 7", "solver.base_lr: 0.5", "solver.display: 3"):
        assert [line for line in lines if line.strip().startswith(wanted)], wanted


@pytest.mark.parametrize("words, said", (
    (["show"], "name the experiment: ./fer experiments show PAPER/EXPERIMENT"),
    (["show", "mmi-one_map-l2x"], "there is no experiment 'mmi-one_map-l2x'; did you mean xie2019b/mmi-one_map-l2"),
    (["a", "b"], "a b: expected one pattern"), (["mmi", "--set", "a=1"], "--set needs show"),
    (["mmi-one_map-l2x"], "there is no experiment 'mmi-one_map-l2x'; did you mean xie2019b/mmi-one_map-l2")))
def test_mistakes(capsys, words, said):
    assert main.main(["experiments", *words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]
