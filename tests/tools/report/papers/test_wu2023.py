"""What the page takes from the runs of [wu2023]."""
import re

import numpy as np
import pytest

from common import experiment, files
from tests.tools import small_pairs
from tools.evaluation import evaluate
from tools.report import html_page
from tools.report.entries import Entry
from tools.report.papers import wu2023, wu2023_paces
from tools.training import run
from tools.training.caffe_process import Engine
from tools.training.schedules import self_paced

STEPS = ["solver.max_iter=4", "solver.test_interval=2", "solver.display=1", "solver.batch_size=6"]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    pairs = small_pairs.prepared(folder)

    def trained(name, *changes):
        settings = experiment.load("wu2023/" + name, STEPS + list(changes))
        return Entry(run.train(settings, pairs, str(folder / name), None, Engine(1)), settings.title)
    return trained


@pytest.fixture(scope="module")
def paced(train):
    return train("synthetic-spndl", "pacing.paces=3", "pacing.more=25", "pacing.epochs=3")


@pytest.fixture(scope="module")
def ndf(train):
    return train("synthetic-ndf")


def numbers(entries):
    return [re.search(r"\[wu2023\] Fig. (\d)", figure.title)[1] for figure in wu2023.sections(entries)]


def lines(figure):
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}


def test_figures_of_self_paced_learning_need_a_run_of_it(paced, ndf):
    assert numbers([ndf]) == []
    assert numbers([paced]) == ["5", "7", "8"]
    assert numbers([ndf, paced]) == ["5", "6", "7", "8"]


def test_accuracy_per_pace_is_of_the_validation_split(paced, ndf):
    evaluate.evaluate(ndf.run, "test")
    without, *_ = wu2023.sections([paced, ndf])
    assert without.note.startswith("On the validation split, since nobody should choose by the test split")
    accuracies = wu2023_paces.accuracies(paced.run, "val")
    assert without.table[1:] == [("SPNDL", pace, 100 * accuracy) for pace, accuracy in enumerate(accuracies, start=1)]
    drawn = lines(without.draw[0]())
    np.testing.assert_allclose(drawn["SPNDL"][:, 1], 100 * np.array(accuracies))
    assert list(drawn) == ["SPNDL"]
    level = evaluate.evaluate(ndf.run, "val")["accuracy"]
    drawn = lines(wu2023.sections([paced, ndf])[0].draw[0]())
    np.testing.assert_allclose(drawn[ndf.title][:, 1], 100 * level)


def test_loss_is_compared_with_the_run_of_the_same_net(train, paced, ndf):
    baseline = train("synthetic-baseline")
    assert wu2023.loss_with_paces([paced, baseline]) is None
    figure = wu2023.loss_with_paces([baseline, paced, ndf])
    drawn = lines(figure.draw[0]())
    for entry in (paced, ndf):
        np.testing.assert_allclose(drawn[entry.title], wu2023_paces.by_epoch(entry.run, wu2023_paces.losses(entry.run)))
    assert baseline.title not in drawn


def test_rows_of_excluded_samples_are_those_of_paces_that_leave_some_out(paced):
    rows = wu2023.excluded([paced]).rows
    assert [row.title for row in rows] == ["pace 1", "pace 2"]
    for number, row in enumerate(rows, start=1):
        left_out = (~self_paced.selection(paced.run, number)["selected"]).sum()
        assert len(row.faces) == min(left_out, wu2023.EXCLUDED)
    page = html_page.render([paced.run])
    assert "pace 1\n" in page and page.count("data:image/jpeg") == sum(len(row.faces) for row in rows)


def test_a_run_that_is_not_finished_is_left_out(tmp_path, paced):
    files.write_json(str(tmp_path / "run.json"), dict(paced.run.info, iterations=10 ** 6))
    begun = run.Run(str(tmp_path))
    assert numbers([Entry(begun, "t")]) == []
    page = html_page.render([begun])
    assert page.count("not evaluated") == 2 and "<details>" not in page
