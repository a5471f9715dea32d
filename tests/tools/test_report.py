"""The page: complete, self-contained, the same twice."""
import html.parser
import re

import numpy as np
import pytest

from tools import decisions, evaluate, report, run
from tools.segments import Engine


@pytest.fixture(scope="module")
def page(trained):
    for split in ("val", "test"):
        evaluate.evaluate(trained, split)
    return report.page([trained])


def test_it_needs_nothing_from_outside(page):
    targets = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert targets and all(target.startswith("data:") for target in targets)
    assert "<script" not in page and "@import" not in page and "url(" not in page


def test_it_shows_what_was_measured(page, trained):
    metrics = evaluate.evaluate(trained, "test")
    assert "({}/{})".format(metrics["correct"], metrics["total"]) in page
    for text in ("softmax + center + GABOR", "Surest right decisions", "weight 0.001", "OpenBLAS", "max_iter: 12",
                 'alt="confusion matrix"', 'alt="loss and accuracy over the iterations"', "val accuracy"):
        assert text in page
    assert page.count("<figure>") == 12


def test_it_is_well_formed(page):
    class Checker(html.parser.HTMLParser):
        open_tags = []

        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "img", "br"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag
    checker = Checker()
    checker.feed(page)
    assert not checker.open_tags


def test_run_without_evaluation(tmp_path, data, small):
    bare = report.page([run.train(small, data, str(tmp_path / "bare"), None, Engine(1))])
    assert bare.count("not evaluated") == 2 and "confusion matrix" not in bare


def test_samples_take_turns_among_classes():
    def decision(label, probability):
        return decisions.Decision("u", label, 0, (probability, 0, 0), ())
    decided = [decision(0, p) for p in np.linspace(0.9, 1, 20)] + [decision(1, 0.5), decision(2, 0.4)]
    chosen = report._spread(decided)
    assert len(chosen) == report.FACES
    assert [d.label for d in chosen[:4]] == [0, 1, 2, 0]
    assert chosen[0].probabilities[0] == 1


def test_branches_are_drawn_as_their_mean():
    found = {"train softmax_loss_gsf": [(0, 2.0), (20, 1.0)], "train softmax_loss_sift": [(0, 4.0), (20, 2.0)],
             "val accuracy": [(20, 0.5)], "val accuracy_gsf": [(20, 0.1)]}
    assert report._over_branches(found, "train softmax_loss") == [(0, 3.0), (20, 1.5)]
    assert report._over_branches(found, "val accuracy") == [(20, 0.5)]
    assert report._over_branches(found, "val softmax_loss") == []
