"""Writes reports on tiny runs of all kinds and a page of faces, to be opened in a browser:

    python3 -m tests.browser.pages FOLDER
"""
import os
import pathlib
import shutil
import sys

from common import experiment, files
from common.machine import DEFAULT
from data_prep import contact_sheet
from tests import small_data
from tests.tools import small_pairs
from tools.analysis import respond_ratio
from tools.evaluation.groups import evaluate_all
from tools.report import html_page
from tools.training import groups
from tools.training.run import Run

STEPS = ["solver.max_iter=4", "solver.test_interval=2", "solver.display=1"]
TOY = STEPS + ["solver.batch_size=8"]
WEIGHTED = ["solver.batch_size=8", "weighting.restart_iterations=2", "weighting.rounds=2"]
TUPLETS = STEPS + ["solver.batch_size=2", "head.fc1=32", "head.fc2=16", "head.fc4=16", "tuplets.positives=3",
                   "tuplets.negatives=3"]
RESNET = STEPS + ["solver.batch_size=6"]
# Until faces of two classes are right, which are shown.
DACL = RESNET + ["solver.max_iter=24", "solver.test_interval=12"]
PACES = RESNET + ["pacing.paces=3", "pacing.more=25", "pacing.epochs=3"]


def write(folder: pathlib.Path) -> None:
    for name in ("faces", "subjects", "pairs"):
        (folder / name).mkdir(parents=True)
    faces = small_data.prepared(folder / "faces", ("gabor", "gsf", "sift"))
    subjects = small_data.with_subjects(folder / "subjects")
    pairs = small_pairs.prepared(folder / "pairs")

    def trained(name, data, changes, seeds=()):
        out = str(folder / "runs" / name.replace("/", "-")) + "-seeds" * bool(seeds)
        run_or_group = groups.train(experiment.load(name, changes), data, out, None, seeds, 1, DEFAULT, 1)
        for split in ("val", "test"):
            evaluate_all(run_or_group, split)
        return run_or_group

    def page(name, *runs_and_groups):
        files.write_text(str(folder / "pages" / (name + ".html")), html_page.render(runs_and_groups))
    (folder / "pages").mkdir()
    shutil.copy(os.path.join(faces, contact_sheet.FILE), str(folder / "pages" / "faces.html"))
    page("pair", *(trained("xie2019a/fer2013-toy-" + name, faces, TOY) for name in ("softmax", "center-gabor")))
    sparse = trained("xie2019b/fer2013-toy-l2", faces, TOY)
    files.write_json(sparse.path(respond_ratio.FILE), {"respond_ratio": {
        expression: {part: 1.25 for part in respond_ratio.PARTS} for expression in ("fear", "happy")}})
    page("xie2019b", sparse, trained("xie2019b/fer2013-toy-softmax", faces, TOY))
    page("groups", trained("xie2019a/fer2013-toy-softmax", faces, TOY, (1, 2)),
         folds(folder / "runs" / "folds", trained("xie2019a/fer2013-toy-alaw", faces, WEIGHTED)))
    page("liu2017", *(trained("liu2017/synthetic-" + name, subjects, TUPLETS)
                      for name in ("1b-n1", "2b-n1", "1b-nm", "2b-nm")))
    page("farzaneh2021", *(trained("farzaneh2021/synthetic-" + name, pairs, DACL)
                           for name in ("softmax", "center", "dacl")))
    page("wu2023", *(trained("wu2023/synthetic-" + name, pairs, RESNET) for name in ("baseline", "ndf")),
         trained("wu2023/synthetic-spndl", pairs, PACES))


def folds(folder: pathlib.Path, fold: Run) -> groups.Group:
    """Three times the same fold."""
    names = ["fold01", "fold02", "fold03"]
    for name in names:
        shutil.copytree(fold.folder, str(folder / name))
    files.write_json(str(folder / groups.NOTE), {"kind": "folds", "members": names})
    group = groups.open_(str(folder))
    evaluate_all(group, "test")
    return group


if __name__ == "__main__":
    write(pathlib.Path(os.path.abspath(sys.argv[1])))
