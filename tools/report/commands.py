"""How to run it again: the commands that make the data and a run, read from prepare.json and run.json."""
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional, Union

from common import experiment
from common.errors import UserError
from common.experiment import Experiment
from common.machine import Device
from data_prep import prepared_folder
from data_prep.settings import LARGEST, Settings, completed, of_note, protocol_of
from tools.evaluation import departures
from tools.report.entries import Entry
from tools.training import groups
from tools.training.groups import Group
from tools.training.run import FRESH_HEAD, Run

# Of an experiment, but no setting of it.
NAMES = ("name", "title", "source", "file")
MODEL = "MODEL.caffemodel"


@dataclass(frozen=True)
class Commands:
    """How to run an entry again."""

    # In their order.
    commands: list[str]
    # What the commands do not say, or cannot.
    notes: list[str]


def again(entry: Entry) -> Commands:
    run = entry.run
    changes, unlike = changed(run)
    info = entry.info
    words = ["train", run.experiment.origin, "--data", _data(entry), "--out", entry.folder]
    notes = []
    if info["weights"]:
        words += ["--weights", MODEL]
        notes.append(f"{MODEL} is the caffemodel whose SHA-256 is {info['weights']}.")
    if FRESH_HEAD in info:
        words.append("--fresh-head")
    if entry.kind == "seeds":
        changes = [change for change in changes if not change.startswith("solver.random_seed=")]
        words += ["--seeds"] + [str(groups.runs(member)[0].experiment.solver["random_seed"])
                                for member in _members(entry)]
    words += ["--threads", str(info["threads"])]
    words += run.device.options()
    trained_on = sorted({one.trained_on for one in entry.runs if one.has_begun})
    if trained_on != [str(run.device)]:
        notes.append(f"It was trained on {'; or on '.join(trained_on)}; the command trains all on {run.device}.")
    for change in changes:
        words += ["--set", change]
    if unlike:
        notes.append("These settings differ from those of the experiment as it is defined now, and --set cannot change "
                     "them: {}.".format(", ".join(unlike)))
    measured = [(split, entry.metrics(split)) for split in ("val", "test")]
    tests = [["evaluate", entry.argument] + (["--split", "val"] if split == "val" else [])
             + Device(departures.engine_of(metrics)).options() for split, metrics in measured if metrics]
    return Commands([_line(words) for words in [_prepare(info["data"]), words] + tests], notes)


def report(entries: Sequence[Entry], out: Optional[str] = None) -> str:
    """The command that makes the page. out: its path, if that was given."""
    return _line(["report"] + [entry.argument for entry in entries] + (["--out", os.path.abspath(out)] if out else []))


def changed(run: Run) -> tuple[list[str], list[str]]:
    """What `--set` takes to make what was run from the experiment as it is defined now, and the names of the settings
    that it cannot change."""
    ran = run.experiment
    try:
        now = experiment.opened(ran.origin)
        # First of all, because other settings' defaults depend on it.
        wholes = [f"{experiment.NET}={ran.net}"] if ran.net != now.net else []
        wholes += experiment.added_and_removed(experiment.opened(ran.origin, wholes), ran)
        now = experiment.opened(ran.origin, wholes)
    except UserError:
        return [], ["there is no experiment of that name"]
    before, after = _settings(now), _settings(ran)
    different = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    settable = [key for key in different if "." in key and key in before and key in after]
    return wholes + [f"{key}={after[key]}" for key in settable], [key for key in different if key not in settable]


def _settings(defined: Experiment) -> dict[str, Any]:
    """"solver.max_iter" -> its value, and so on."""
    def flat(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for key, inner in values.items() for name, value in (
            flat(prefix + key + ".", inner) if isinstance(inner, dict) else {prefix + key: inner}).items()}
    return flat("", {key: value for key, value in asdict(defined).items() if key not in NAMES})


def _members(entry: Entry) -> list[Union[Run, Group]]:
    return [] if isinstance(entry.run_or_group, Run) else groups.members(entry.run_or_group)


def _data(entry: Entry) -> str:
    """Of a group over folds the folder that holds them."""
    data = entry.info["data"]
    folds = entry.kind == "folds" or entry.kind == "seeds" and any(
        not isinstance(member, Run) for member in _members(entry))
    return os.path.dirname(data) if folds else data


def _prepare(data: str) -> list[str]:
    """The command that makes the folder; of a fold, the folder that holds the folds."""
    asked = of_note(prepared_folder.any_note(data))
    words = ["prepare", asked.dataset] + ([asked.source] if asked.source else [])
    words += ["--protocol", asked.protocol or ""]
    default = completed(Settings(asked.dataset, None, asked.protocol))
    if list(asked.features or []) != sorted(default.features or []):
        words += ["--features", *(asked.features or [])]
    for key in ("crops", "geometry", "features_of", "encoding", "validation", "hold_out", "subjects", "template",
                "frames", "subject_pattern", "seed"):
        if getattr(asked, key) not in (getattr(default, key), None):
            words += ["--" + key.replace("_", "-"), str(getattr(asked, key))]
    if asked.detect:
        words += ["--detect"] + ["--faces", asked.detect] * (asked.detect != LARGEST)
    if asked.fold_count:
        words += ["--folds", str(asked.fold_count)]
    if asked.folds:
        words += ["--fold", *map(str, asked.folds)]
    return words + ["--out", os.path.dirname(data) if protocol_of(asked).folds else data]


def _line(words: Sequence[str]) -> str:
    return "./fer " + " ".join(map(shlex.quote, words))
