"""What a page shows: runs and groups of runs, with their titles on it."""
import functools
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

from common import experiment, files
from common.errors import UserError
from common.experiment import Experiment
from data_prep import prepared_folder
from tools.evaluation.evaluate import metrics_path
from tools.training import groups, snapshots
from tools.training.groups import Group
from tools.training.run import Run
from tools.training.snapshots import Snapshot

# What the title of an entry says of its snapshot, but of that of an iteration.
SNAPSHOTS: dict[Snapshot, str] = {None: "", snapshots.BEST: ", best snapshot"}


@dataclass(frozen=True)
class Entry:
    """A run or a group of runs on a page. Its files are read once."""

    run_or_group: Union[Run, Group]
    title: str
    # Of the runs, whose results are shown; None for the last one.
    snapshot: Snapshot = None
    # Split -> its metrics, as far as they were read.
    _metrics: dict[str, Optional[dict]] = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def runs(self) -> list[Run]:
        return groups.runs(self.run_or_group)

    @property
    def run(self) -> Run:
        """The run itself, or the first run of the group."""
        return self.runs[0]

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """run.json of `run`."""
        return self.run.info

    @functools.cached_property
    def experiment(self) -> Experiment:
        return self.run.experiment

    @functools.cached_property
    def note(self) -> dict[str, Any]:
        """prepare.json of the data of `run`."""
        return prepared_folder.read_note(self.info["data"])

    @property
    def folder(self) -> str:
        return self.run_or_group.folder

    @property
    def argument(self) -> str:
        """What names it on a command line, such as RUN@best."""
        return self.folder + snapshots.text(self.snapshot)

    @functools.cached_property
    def iterations(self) -> list[int]:
        """That of the snapshot, of each run."""
        return [snapshots.iteration(run, self.snapshot) for run in self.runs]

    @property
    def kind(self) -> str:
        """"run", "folds" or "seeds"."""
        return "run" if isinstance(self.run_or_group, Run) else self.run_or_group.kind

    @property
    def first(self) -> str:
        """Of a group, the name of its first run in it; "" of a run."""
        return "" if self.kind == "run" else os.path.relpath(self.run.folder, self.folder)

    @property
    def label(self) -> str:
        """The title, of a group with its first run: for what is drawn from that one alone."""
        return f"{self.title}, {self.first}" if self.first else self.title

    @property
    def paper(self) -> str:
        return self.experiment.paper

    def metrics(self, split: str) -> Optional[dict]:
        """Of the snapshot; None where the split is not evaluated."""
        if split not in self._metrics:
            path = metrics_path(self.run_or_group, split, self.snapshot)
            self._metrics[split] = files.read_json(path) if os.path.exists(path) else None
        return self._metrics[split]

    @property
    def test_metrics(self) -> dict:
        """Of an entry that is evaluated on the test split."""
        metrics = self.metrics("test")
        assert metrics is not None, f"{self.folder}: not evaluated on the test split"
        return metrics

    @property
    def shown_split(self) -> Optional[str]:
        """The split whose predictions are shown: test, else val, None where neither is evaluated."""
        return next((split for split in ("test", "val") if self.metrics(split)), None)

    @property
    def tested_on(self) -> str:
        """The data set that it is tested on, and which one of the experiment it stands in for."""
        dataset, expected = self.test_metrics["dataset"], self.experiment.data
        return dataset if dataset == expected else f"{dataset} for {expected}"


def entries(runs_and_groups: Sequence[Union[Run, Group]], chosen: Sequence[Snapshot] = ()) -> list[Entry]:
    """With the experiments' titles, and the losses and sections that --set added and removed; with the folder's name
    where several have the same.

    chosen: the snapshot of each, see `snapshots`; where it is shorter, the last one. Raises UserError if a run has no
    such snapshot, or its results are those of what was the best one before.
    """
    untitled = [Entry(run_or_group, "", snapshot) for run_or_group, snapshot in itertools.zip_longest(
        runs_and_groups, chosen)]
    for entry in untitled:
        if entry.snapshot is not None:
            _require_same_snapshot(entry)
    titles = [_title(entry.experiment) + SNAPSHOTS.get(entry.snapshot, f", iteration {entry.snapshot}")
              for entry in untitled]
    return [replace(entry, title=f"{title} ({os.path.basename(entry.folder)})" if titles.count(title) > 1 else title)
            for entry, title in zip(untitled, titles)]


def of_last(page: Sequence[Entry]) -> list[Entry]:
    """Those that are shown with their last snapshot."""
    return [entry for entry in page if entry.snapshot is None]


def _require_same_snapshot(entry: Entry) -> None:
    for run, iteration in zip(entry.runs, entry.iterations):
        run.caffemodel(iteration)
    for split in ("val", "test"):
        metrics = entry.metrics(split)
        if metrics and metrics["iterations"] != entry.iterations:
            raise UserError("{}: is of iteration {}, but the best snapshot is now that of iteration {}; evaluate {} "
                            "anew".format(metrics_path(entry.run_or_group, split, entry.snapshot), *(", ".join(
                                map(str, iterations)) for iterations in (metrics["iterations"], entry.iterations)),
                                entry.argument))


def _title(ran: Experiment) -> str:
    """Such as "softmax, losses.center={}"; an experiment's title names the losses that its file has."""
    try:
        now = experiment.opened(ran.origin, [f"{experiment.NET}={ran.net}"])
    except UserError:  # it is not there any more
        return ran.title
    return ", ".join([ran.title, *experiment.added_and_removed(now, ran)])
