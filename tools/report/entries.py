"""What a page is given: runs and groups of runs, with the titles that they have on it."""
import os
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

from common import files
from tools.evaluation.evaluate import metrics_path
from tools.training import groups
from tools.training.groups import Group
from tools.training.run import Run


class Entry(NamedTuple):
    one: Union[Run, Group]
    title: str

    @property
    def run(self) -> Run:
        """Itself, or the first run of the group."""
        return groups.runs(self.one)[0]

    @property
    def kind(self) -> str:
        """"run", "folds" or "seeds"."""
        return "run" if isinstance(self.one, Run) else self.one.kind

    @property
    def first(self) -> str:
        """The name of a group's first run in it, "" of a run."""
        return "" if self.kind == "run" else os.path.relpath(self.run.folder, self.one.folder)

    @property
    def paper(self) -> str:
        return self.run.experiment.paper

    def metrics(self, split: str) -> Optional[dict]:
        """None where it is not evaluated."""
        path = metrics_path(self.one, split)
        return files.read_json(path) if os.path.exists(path) else None

    @property
    def shown_split(self) -> Optional[str]:
        """The part whose decisions are shown: the test part, else the validation part, if either is evaluated."""
        return next((split for split in ("test", "val") if os.path.exists(metrics_path(self.one, split))), None)


def entries(given: Sequence[Union[Run, Group]]) -> list[Entry]:
    """With the experiments' titles; with the folder's name where several have the same."""
    titles = [groups.runs(one)[0].info["experiment"]["title"] for one in given]
    return [Entry(one, f"{title} ({os.path.basename(one.folder)})" if titles.count(title) > 1 else title)
            for one, title in zip(given, titles)]
