"""Figures as targets: the jobs that they take."""
import os

import pytest

from common import experiment, files
from common.errors import UserError
from tests.tools.reproduce.test_plan import planned, prepared, titles
from tools.cli import main
from tools.reproduce import plan, targets
from tools.reproduce.estimate import Estimate, Estimator

# Every figure of the papers with results.
FIGURES = {"xie2019a": range(8, 14), "xie2019b": range(7, 10), "liu2017": (5, 6), "farzaneh2021": range(3, 6),
           "wu2023": range(4, 9)}


def test_every_figure_with_results_is_a_target():
    assert targets.names() == [f"{paper}-fig{number}" for paper, numbers in FIGURES.items() for number in numbers]
    for name in targets.names():
        for use in targets.get(name).uses:
            assert not use.experiment or experiment.load(use.experiment).paper == targets.paper_of(name)


def test_an_unknown_name_has_close_matches(tmp_path):
    with pytest.raises(UserError, match="no table or figure 'xie2019a-fig14'; did you mean .*xie2019a-fig1"):
        planned(tmp_path, "xie2019a-fig14")


def test_ten_seeds_of_each_are_jobs_of_their_own(tmp_path):
    prepared(tmp_path / "data", "fer2013")
    made = planned(tmp_path, "xie2019a-fig11", changes=["solver.max_iter=20", "solver.snapshot=20"])
    trained = [job for job in made.jobs if job.title.startswith("train")]
    runs = str(tmp_path / "out" / "runs" / "xie2019a")
    assert [os.path.relpath(job.command[job.command.index("--out") + 1], runs) for job in trained] == [
        f"{name}-seeds/seed{seed:02d}"
        for name in ("fer2013-toy-norm", "fer2013-toy-center-norm-gabor") for seed in range(1, 11)]
    assert [job.command[-1] for job in trained] == 2 * [f"solver.random_seed={seed}" for seed in range(1, 11)]
    assert [(group.kind, len(group.members)) for group in made.groups] == [("seeds", 10)] * 2
    evaluated = [job for job in made.jobs if job.command[1] == "evaluate"]
    assert [len(job.needs) for job in evaluated] == [10, 10]
    assert evaluated[0].makes == [runs + "/fer2013-toy-norm-seeds/metrics.json"]
    plan.write(made, str(tmp_path / "out"))
    assert len(files.read_json(runs + "/fer2013-toy-norm-seeds/group.json")["members"]) == 10


def test_tables_and_figures_share_their_jobs(tmp_path):
    prepared(tmp_path / "data", "fer2013-xie2019a")
    table = planned(tmp_path, "xie2019b-table4")
    both = planned(tmp_path, "xie2019b-table4", "xie2019b-fig8")
    assert titles(both) == titles(table) and [len(cells) for cells in both.drawn.values()] == [2]
    with_snapshots = planned(tmp_path, "xie2019b-fig9")
    snapshots = [job for job in with_snapshots.jobs if "--every-snapshot" in job.command]
    assert len(snapshots) == 4 and all(
        job.makes == [os.path.join(job.command[-1], "metrics-every-snapshot.json")] for job in snapshots)


def test_only_and_missing_data(tmp_path):
    prepared(tmp_path / "data", "ckplus-xie2019a", folds=("fold01", "fold02"))
    made = planned(tmp_path, "xie2019a-fig13", changes=())
    assert [bool(cell.folder) for cell in made.drawn["xie2019a-fig13"]] == [False, False, True, False]
    assert set(made.missing) == {"fer2013-xie2019a", "oulu_casia-xie2019a", "mmi-xie2019a"}
    assert "--frames deformation --features gsf sift" in made.missing["mmi-xie2019a"]
    assert "--frames" not in made.missing["oulu_casia-xie2019a"]
    assert len(planned(tmp_path, "xie2019a-fig13", changes=(), only=["ckplus-xie2019a"]).drawn["xie2019a-fig13"]) == 1
    with pytest.raises(UserError, match="xie2019a-fig11 shows nothing of ckplus-xie2019a; it shows fer2013"):
        planned(tmp_path, "xie2019a-fig11", only=["ckplus-xie2019a"])


@pytest.mark.parametrize("name", targets.names())
def test_each_is_planned_without_data(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(Estimator, "expected_training", lambda *_: Estimate(3600, 0, 10 ** 9))
    out = tmp_path / "out"

    def said(option):
        assert main.main(["reproduce", name, "--data", str(tmp_path), "--out", str(out), option]) == 0
        return capsys.readouterr()
    experiments = {use.experiment for use in targets.get(name).uses if use.experiment}
    dry = said("--dry-run")
    lines = dry.out.splitlines()
    assert experiments <= {line.split()[3].rstrip(":") for line in lines[:-1] if line.startswith("no data  train ")}
    assert all("about 1:00 h, 1.0 GB of memory" in line for line in lines[:-1]) and lines[-1].startswith("0 of 0 jobs")
    for one in experiments:
        assert f"note: {experiment.load(one).data} is missing; to make it: ./fer prepare " in dry.err
    assert said("--show").out.splitlines()[0] == name and not out.exists()
    assert files.read_json(said("--plan").out.strip()) == []
    with pytest.raises(SystemExit):
        main.main(["reproduce", "--help"])
    assert name in capsys.readouterr().out.replace(",", "").replace(".", "").split()
