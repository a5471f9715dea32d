"""Experiments, listed and shown."""
import os
import re
import shutil

import pytest
import yaml

from common import experiment, files
from data_prep import prepare
from tests import small_data
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
    (["show", "xie2019a/fer2013-gsf", "--for", "data"], "--for lists experiments; use it without show"),
    (["--for", "/nowhere"], "/nowhere: no prepared data here; `./fer prepare"),
    (["a", "b"], "a b: expected one pattern"), (["mmi", "--set", "a=1"], "--set needs show"),
    (["mmi-one_map-l2x"], "there is no experiment 'mmi-one_map-l2x'; did you mean xie2019b/mmi-one_map-l2")))
def test_mistakes(capsys, words, said):
    assert main.main(["experiments", *words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]


def named(capsys, *words):
    return {row.split()[0] for row in listed(capsys, *words)}


def test_those_that_a_folder_fits(tmp_path, capsys):
    """48x48 grey images with GABOR and GSF, which `toy` takes; the windows of liu2017 are cut out of larger ones."""
    data = small_data.prepared(tmp_path, ("gabor", "gsf"))
    toys = {name for name in experiment.names() if "-toy-" in name}
    without_sift = {name for name in toys if not re.search("sift|[ab]l[af]w", name)}
    assert len(without_sift) == 34 and named(capsys, "--for", data) == without_sift
    assert named(capsys, "toy-norm", "--for", data) == {name for name in without_sift if name.endswith("toy-norm")}
    # Whatever the classes are.
    note = files.read_json(data + "/prepare.json")
    files.write_json(data + "/prepare.json", {**note, "classes": note["classes"][:3]})
    assert named(capsys, "--for", data, "xie2019b") == {name for name in without_sift if "xie2019b" in name}
    files.write_json(data + "/prepare.json", {**note, "shape": [3, 48, 48]})
    assert main.main(["experiments", "--for", data]) == 1
    assert re.fullmatch(r"fer: .*prepared: none of \d+ experiments fits; for the first one: .*prepared: the images are "
                        "3x48x48, but the net .* takes .*\n", capsys.readouterr().err)


def test_larger_images_for_windows_and_subjects_for_tuplets(tmp_path, capsys):
    data = small_data.with_subjects(tmp_path)
    liu2017 = {name for name in experiment.names() if name.startswith("liu2017/")}
    assert named(capsys, "--for", data) == liu2017 and len(liu2017) == 23
    source = str(tmp_path / "fer2013.csv")
    prepare.prepare(prepare.Settings("fer2013", source, "liu2017", features=()), str(tmp_path / "none"), processes=1)
    assert named(capsys, "--for", str(tmp_path / "none")) == {name for name in liu2017 if "softmax" in name}


def test_a_folder_of_folds(tmp_path, capsys):
    """All of them count: the second one has no GSF."""
    data = small_data.prepared(tmp_path, ("gsf",))
    for fold in ("fold01", "fold02"):
        shutil.copytree(data, str(tmp_path / "folds" / fold))
    files.write_json(str(tmp_path / "folds" / "prepare.json"), {"folds": ["fold01", "fold02"]})
    folds = str(tmp_path / "folds")
    assert "xie2019a/fer2013-toy-center-norm-gsf" in named(capsys, "--for", folds)
    files.write_json(folds + "/fold02/prepare.json", {**files.read_json(data + "/prepare.json"), "features": []})
    assert main.main(["experiments", "--for", folds, "fer2013-toy-center-norm-gsf"]) == 1
    assert capsys.readouterr().err == (f"fer: {folds}/fold02: has no gsf features, which "
                                       "xie2019a/fer2013-toy-center-norm-gsf needs; it has none\n")
