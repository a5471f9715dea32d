"""What a study has found: a table as text, Markdown and CSV, and a picture."""
import csv
import io
import os
import shlex
from collections.abc import Sequence

import numpy as np
import tabulate

from common import files
from tools.evaluation import departures
from tools.report import figures, pictures
from tools.studies import results
from tools.studies.definition import CSV, MARKDOWN, PICTURE, Row, Study
from tools.studies.results import Measured, mean

HEADER = ("row", "seeds", "validation, %", "test, %", "without copies, %", "minus {baseline}", "better with",
          "p over seeds", "p for each seed", "hours")
COLUMNS = ("row", "experiment", "changes", "seed", "validation", "test", "test_without_copies", "gained", "lost", "p")
DPI = 150


def cells(study: Study, rows: Sequence[Measured]) -> list[list[str]]:
    """The cells of the table with HEADER."""
    baseline = next(one for one in rows if one.row.name == study.baseline)
    return [_cells(one, baseline) for one in rows]


def _cells(one: Measured, baseline: Measured) -> list[str]:
    value_of = dict(zip(baseline.seeds, baseline.test))
    differences = [value - value_of[seed] for seed, value in zip(one.seeds, one.test) if seed in value_of]
    compared = bool(differences) and one is not baseline
    return [one.row.name, " ".join(map(str, one.seeds)), mean(one.val), mean(one.test), mean(one.without_copies),
            _signed(differences) if compared else "",
            f"{sum(one > 0 for one in differences)} of {len(differences)}" if compared else "",
            f"{p:.2g}" if compared and (p := results.paired_p(differences)) is not None else "",
            " ".join(f"{versus.p:.2g}" for versus in one.versus), "" if one.hours is None else f"{one.hours:.1f}"]


def _signed(differences: Sequence[float]) -> str:
    return ("" if np.mean(differences) < 0 else "+") + mean(differences)


def header(study: Study) -> list[str]:
    return [name.format(baseline=study.baseline) for name in HEADER]


def as_text(study: Study, rows: Sequence[Measured]) -> str:
    return "\n".join([tabulate.tabulate(cells(study, rows), header(study), "plain", disable_numparse=True),
                      *engines(rows)])


def engines(rows: Sequence[Measured]) -> list[str]:
    """What computed the rows, in a line for all of them or for each of those that share it."""
    sharing: dict[str, list[str]] = {}
    for one in rows:
        if one.trained_on:
            sharing.setdefault(departures.computed(one.trained_on, one.evaluated_by), []).append(one.row.name)
    return [words if len(sharing) == 1 else f"{', '.join(names)}: {words}" for words, names in sharing.items()]


def as_markdown(study: Study, rows: Sequence[Measured], options: Sequence[str]) -> str:
    """options: the words of the command line behind the file."""
    table = tabulate.tabulate(cells(study, rows), header(study), "github", disable_numparse=True)
    commands = [shlex.join(["./fer", "study", study.path, *options])]
    if study.prepare:
        commands.insert(0, "./fer prepare " + study.prepare)
    return "\n".join([
        f"# {study.title}", "", table, "",
        "Accuracies: mean and standard deviation over the seeds. `p over seeds`: the paired t test of the test "
        "accuracies, two-sided. `p for each seed`: McNemar's exact test of the units of the test split that only one "
        f"of the two predicts correctly. Both compare with `{study.baseline}`, seed by seed.",
        *(f"{line[0].upper()}{line[1:]}." for line in engines(rows)), "",
        "The table is made by", "", "```", *commands, "```", "", "The experiments, with what is changed:", "",
        *(f"- {one.row.name}: {described(one.row)}" for one in rows), ""])


def described(row: Row) -> str:
    """The experiment and the changes of a row."""
    changes = f", `{shlex.join(row.changes)}`" if row.changes else ""
    return f"`{row.experiment.origin}`{changes}{'' if row.takes_weights else ', from random weights'}"


def as_csv(rows: Sequence[Measured]) -> str:
    """A line for each row and seed that is measured."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    for one in rows:
        versus = {against.seed: against for against in one.versus}
        for number, seed in enumerate(one.seeds):
            against = versus.get(seed)
            out.writerow([one.row.name, one.row.experiment.origin, " ".join(one.row.changes), seed, *(
                f"{values[number]:.4f}" if values else "" for values in (one.val, one.test, one.without_copies)), *(
                    (against.gained, against.lost, f"{against.p:.4g}") if against else ("", "", ""))])
    return text.getvalue()


def write(study: Study, rows: Sequence[Measured], out: str, options: Sequence[str]) -> list[str]:
    """Writes all of it into the folder of the study, and returns the paths."""
    page, table, picture = (os.path.join(out, name) for name in (MARKDOWN, CSV, PICTURE))
    files.write_text(page, as_markdown(study, rows, options))
    files.write_text(table, as_csv(rows))
    split = "test" if study.tests else "val"
    shown = [(one.row.name, getattr(one, split)) for one in rows if getattr(one, split)]
    if not shown:
        return [page, table]
    figure = figures.accuracies(shown, f"accuracy on the {'test' if study.tests else 'validation'} split, %")
    pictures.write(figure, picture, dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return [page, table, picture]
