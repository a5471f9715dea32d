"""The file of a study, and what is refused in it."""
import os

import pytest

from common.errors import UserError
from common.experiment import ROOT
from tools.studies import definition

GOOD = """
title: T
seeds: [1, 2]
baseline: a
set: [solver.max_iter=8, losses.gabor.weight=0.5]
rows:
  a: {experiment: xie2019a/fer2013-toy-softmax}
  b + c: {experiment: xie2019a/fer2013-toy-center-gabor, set: [solver.base_lr=0.5], seeds: [3], weights: none}
"""


def read(tmp_path, text):
    path = tmp_path / "study.yml"
    path.write_text(text)
    return definition.read(str(path))


def test_rows(tmp_path):
    study = read(tmp_path, GOOD)
    assert (study.title, study.baseline, study.tests, study.prepare) == ("T", "a", True, None)
    first, second = study.rows
    assert (first.name, list(first.seeds), first.takes_weights) == ("a", [1, 2], True)
    # Only the second one has the loss whose weight is changed for all.
    assert first.changes == ["solver.max_iter=8"] and first.experiment.solver["max_iter"] == 8
    assert (second.name, list(second.seeds), second.takes_weights) == ("b + c", [3], False)
    assert second.changes == ["solver.max_iter=8", "losses.gabor.weight=0.5", "solver.base_lr=0.5"]
    assert second.experiment.losses["gabor"]["weight"] == 0.5 and second.experiment.solver["base_lr"] == 0.5


def test_experiments_of_ones_own_lie_beside_the_study(tmp_path):
    (tmp_path / "mine.yml").write_text("paper: xie2019a\ndata: mine\nnet: toy\nsolver: {max_iter: 5}\n")
    text = GOOD.replace("xie2019a/fer2013-toy-softmax", "mine.yml").replace(", losses.gabor.weight=0.5", "")
    row = read(tmp_path, text).rows[0]
    assert row.experiment.file == str(tmp_path / "mine.yml") and row.experiment.solver["max_iter"] == 8


@pytest.mark.parametrize("old, new, said", [
    ("title: T", "titel: T", "study.yml: (missing title|unknown key 'titel')"),
    ("baseline: a", "baseline: x", "study.yml: baseline: .*'?x'?"),
    (GOOD, GOOD.replace("baseline: a", "baseline: 0.2").replace("b + c:", "0.1:"),
     "study.yml: baseline: there is no row '0.2'; .*0.1"),
    ("seeds: [1, 2]", "seeds: [2, 1]", "study.yml: seeds is .*expected whole numbers in rising order"),
    ("[solver.max_iter=8, losses.gabor.weight=0.5]", "solver.max_iter=8", "study.yml: set is .*list of KEY=VALUE"),
    ("solver.max_iter=8", "solver.max_itre=8", "study.yml: set: solver.max_itre=8: no row has"),
    ("[solver.base_lr=0.5]", "[base_lr]", "rows: b \\+ c: set is .*list of KEY=VALUE"),
    ("toy-softmax", "toy-sotfmax", "rows: a: .*sotfmax"),
    ("seeds: [3]", "seed: [3]", "rows: b \\+ c: unknown key 'seed'"),
    ("weights: none", "weights: some", "rows: b \\+ c: weights is 'some', expected one of given, none"),
    ("b + c:", "b/c:", "rows: b/c: expected a name of letters"),
    ("b + c:", "..:", "rows: ..: expected a name of letters"),
    ("a: {experiment: xie2019a/fer2013-toy-softmax}", "a: xie2019a/fer2013-toy-softmax", "rows: a is 'xie.*expected"),
    (GOOD, "- a\n", "study.yml: expected lines such as `title: TEXT`"),
    (GOOD, "title: [", "study.yml.*is not YAML"),
    # Of two rows of one name, PyYAML takes the last one without a word.
    ("b + c:", "a:", "study.yml:8: is not YAML: the key 'a' is there twice"),
    ("title: T", "title: T\nseeds: [5]", "study.yml:4: is not YAML: the key 'seeds' is there twice"),
    ("title: T", "title: 2026-13-45", "study.yml: has a value that cannot be read .month must be .*write texts in quo"),
    ("title: T", "1: T", "study.yml: unknown key 1, expected one of baseline, prepare, "),
    ("seeds: [3]", "3: [3]", "rows: b \\+ c: unknown key 3, expected one of experiment"),
    ("b + c:", "yes:", "rows: True: expected a text; write it in quotes"),
    ("b + c:", "study.md:", "rows: study.md: is the name of a file of the study; give another name"),
    ("b + c:", "times.json:", "rows: times.json: is the name of a file of the study"),
])
def test_what_is_wrong_is_named(tmp_path, old, new, said):
    assert old in GOOD
    with pytest.raises(UserError, match=said) as error:
        read(tmp_path, GOOD.replace(old, new))
    assert "\n" not in str(error.value)


def test_the_projects_own_studies_can_be_read():
    folder = os.path.join(ROOT, "experiments", "studies")
    assert [definition.read(os.path.join(folder, name)).rows for name in sorted(os.listdir(folder))]
