"""What the papers print of their settings, written by hand, against every experiment and every committed definition.

The expected values come from the papers and from an experiment's name, which says its table row; nothing is read from
the defaults. Where a paper leaves a value open, that of the project is written down here as well, so that it does not
change unseen.
"""
import json
import os
import re

import caffe
import pytest

from common import experiment
from common.experiment import ROOT
from prototxt import build
from prototxt.builders import parts

# [xie2019a] Table I; [xie2019b] Section 3; [liu2017] 5.2, first stage and the others; [farzaneh2021] 4.2; [wu2023] 4.2.
SOLVERS = {
    "xie2019a": dict(base_lr=5e-3, momentum=0.8, batch_size=64, lr_policy="fixed"),
    "xie2019b": dict(base_lr=1e-2, momentum=0.9, weight_decay=5e-4, batch_size=64, lr_policy="step", stepsize=4000),
    "liu2017": dict(type="Adam", base_lr=1e-4, momentum=0.9, weight_decay=1e-4, batch_size=12, lr_policy="fixed"),
    "farzaneh2021": dict(base_lr=0.01, momentum=0.9, weight_decay=5e-4, batch_size=128, lr_policy="step"),
    "wu2023": dict(type="Adam", base_lr=0.001, momentum=0.9, momentum2=0.999, batch_size=128, lr_policy="fixed")}
FIRST_STAGE = dict(type="SGD", base_lr=0.1, momentum=0.9, weight_decay=1e-4, batch_size=128, lr_policy="fixed")
# Images of a training split, and passes over it: one in so many of training, and one in so many at each rate.
RAF_DB, AFFECT_NET = 12271, 283901
PAPERS = {name: experiment.load(name) for name in experiment.names()}
# Synthetic faces have settings of their own.
PRINTED = [name for name in PAPERS if "/synthetic" not in name]
COMMITTED = [name for name in PRINTED if os.path.exists(os.path.join(ROOT, "prototxt", name))]


def expected_solver(name):
    paper, _, row = name.partition("/")
    if name == "liu2017/fer2013-softmax":
        return FIRST_STAGE
    if paper == "farzaneh2021":
        # Tenfold less every 20 of 60 epochs, or fivefold less every 5 of 20.
        images, each, passes, gamma = (RAF_DB, 20, 60, 0.1) if row.startswith("raf_db") else (AFFECT_NET, 5, 20, 0.2)
        return dict(SOLVERS[paper], gamma=gamma, stepsize=each * images / 128, max_iter=passes * images / 128)
    return SOLVERS[paper]


def expected_losses(name):
    """Loss -> weight, and p, rho, tau, alpha and others where it has them."""
    paper, _, row = name.partition("/")
    words = row.split("-")[1:]
    if paper == "xie2019a":
        both = {"alfw", "alaw", "blfw", "blaw"} & set(words)
        found = {"center": dict(weight=8e-3)} if both or "center" in words else {}
        for feature in ("gabor", "gsf", "sift"):
            if feature in words or (both and feature != "gabor"):
                found[feature] = dict(weight=1e-7 if row.endswith("-1e-7") else 1e-6, rho=0.98,
                                      p=1 if words[-1] == "l1" else 2)
        return found
    if paper == "xie2019b":
        found = {"center": dict(weight=8e-3)} if "center" in words else {}
        norm = next((word for word in words if re.fullmatch("(l[12])+", word)), None)
        if norm:
            before = words[words.index(norm) - 1] if words.index(norm) else ""
            places = {"v": "v", "w": "w", "vw": "vw"}.get(before, "zx" if len(norm) == 4 else "x")
            if before == "hidden":
                return {"sparse_hidden": dict(weight=1e-5, p=int(norm[1]), normalization="batch",
                                              coefficient="divided" if words[-1] == "divided" else "same")}
            for place in places:
                found["sparse_" + place] = dict(weight=1e-5, p=int(norm[1]))
                if place in "zx":
                    found["sparse_" + place]["normalization"] = "batch"
        return found
    if paper == "liu2017":
        # tau / 2 is 1 in Eq. (10).
        return {"n1": {"tuplet": dict(weight=1, tau=2)}, "nm": {"clusters": dict(weight=1)}, "softmax": {}}[words[-1]]
    if paper == "farzaneh2021":
        return {} if words == ["softmax"] else {"sparse_center": dict(weight=0.01, alpha=0.5)}
    return {}


def close(found, wanted):
    """Whole numbers of iterations are rounded passes."""
    return found == wanted if isinstance(wanted, str) else found == pytest.approx(wanted, rel=1e-6, abs=0.51 * (
        wanted > 1000))


@pytest.mark.parametrize("name", PRINTED)
def test_experiments_have_the_printed_settings(name):
    chosen = PAPERS[name]
    for key, value in expected_solver(name).items():
        assert close(chosen.solver[key], value), key
    wanted = expected_losses(name)
    assert set(chosen.losses) == set(wanted)
    for loss, settings in wanted.items():
        for key, value in settings.items():
            assert close(chosen.losses[loss][key], value), (loss, key)
    if chosen.paper == "xie2019a" and chosen.weighting:
        assert chosen.weighting["gamma"] == (1.2 if "/fer2013" in name else 1.05)
        kappa = name.partition("-kappa-")[2]
        assert chosen.weighting["kappa"] == pytest.approx(float(kappa) if kappa else 1e-5)
    if chosen.paper == "wu2023" and chosen.pacing:
        assert (chosen.pacing["paces"], chosen.pacing["first"], chosen.pacing["more"]) == (6, 50, 10)
        assert chosen.pacing["epochs"] == (150 if "raf_db" in name else 250)
    if chosen.paper == "liu2017" and chosen.losses:
        size = {"ckplus": 6, "sfew": 6, "mmi": 5, "multi_pie": 3}[name.split("/")[1].split("-")[0]]
        assert chosen.tuplets == {"positives": size, "negatives": size}
    if name == "liu2017/fer2013-softmax":
        assert chosen.halving == {"loss_rise": 0.25, "patience": 10}


@pytest.mark.parametrize("data, decision", (
    # "the highest possibility of the three images", and of MMI "the highest average score of the three images".
    ("ckplus-liu2017", "highest"), ("mmi-liu2017", "mean"), ("sfew-liu2017", "mean")))
def test_decisions_of_liu2017(data, decision):
    found = [one.decision for one in PAPERS.values() if one.data == data]
    assert len(found) == 4 and set(found) == {decision}


@pytest.mark.parametrize("name", [name for name in PRINTED if not name.startswith("liu2017/")])
def test_all_other_papers_average(name):
    assert PAPERS[name].decision == "mean"


def read(name, file, message):
    with open(os.path.join(ROOT, "prototxt", name, file), encoding="utf-8") as stream:
        return build.parse(stream.read(), message)


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_definitions_have_the_printed_settings(name):
    solver = read(name, "solver.prototxt", caffe.proto.caffe_pb2.SolverParameter())
    wanted = dict(expected_solver(name))
    batch = wanted.pop("batch_size")
    for key, value in wanted.items():
        assert close(getattr(solver, key), value), key
    layers = [layer for layer in read(name, "train_val.prototxt", parts.NetParameter()).layer
              if not any(rule.phase == caffe.TEST for rule in layer.include)]
    params = {layer.name: json.loads(layer.python_param.param_str) for layer in layers if layer.type == "Python"}
    assert [one["batch_size"] for one in params.values() if "batch_size" in one] == [batch]
    losses = {layer.name: layer for layer in layers if layer.loss_weight}
    expected = expected_losses(name)
    branched = "blfw" in name
    known = {loss + "_loss" if not loss.startswith("sparse_") or loss == "sparse_center" else loss: settings
             for loss, settings in expected.items()}
    found = {re.sub("_(gsf|sift)$", "", loss) if branched else loss for loss in losses}
    assert found - {"softmax_loss"} == set(known)
    for loss, layer in losses.items():
        loss = re.sub("_loss_(gsf|sift)$", "_loss", loss)
        settings = dict(known.get(loss) or {"weight": layer.loss_weight[0]})
        assert layer.loss_weight[0] == pytest.approx(settings.pop("weight"), rel=1e-6), loss
        if layer.type == "Python":
            for key, value in settings.items():
                assert close(params[layer.name][key], value), (loss, key)
