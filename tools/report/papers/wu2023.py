"""[wu2023]: accuracy and loss over the paces of self-paced learning, the features at two paces, and the samples that
the paces leave out (Fig. 5 to 8)."""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from tools.report.paper_report import (
    Face,
    PaperFigure,
    Report,
    Row,
    Table,
    Target,
    confusion_matrices,
    uses,
)

if TYPE_CHECKING:
    from tools.report.entries import Entry

# As many as Fig. 8 has of each pace.
EXCLUDED = 8
# Fig. 7: classes and paces; of data without these classes the first two.
CLASSES = ("fear", "disgust")
PACES = (2, 5)
SPLITS = {"val": "validation split", "test": "test split"}


def sections(entries: Sequence[Entry]) -> list[PaperFigure]:
    """Of runs with paces that are trained; Fig. 5 is of the validation split where there is one."""
    paced = [entry for entry in _paced(entries) if entry.run.is_finished]
    if not paced:
        return []
    split = "val" if "val" in paced[0].note["records"] else "test"
    why = (", since nobody should choose by the test split. The paper has it on the test split" if split == "val"
           else ", since there is no validation split")
    # Fig. 7 and 8 are of disentangled features.
    first = min(paced, key=lambda entry: entry.experiment.head["subtracted"] == "none")
    shown = [_accuracy_per_pace(paced, entries, split, why), _loss_with_paces(paced, entries), _distribution(first),
             _excluded(first)]
    return [figure for figure in shown if figure]


def _paced(entries: Sequence[Entry]) -> list[Entry]:
    from tools.training import schedules
    return [entry for entry in entries if isinstance(schedules.of(entry.experiment), schedules.SelfPaced)]


def accuracy_per_pace(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    """On the test split, as the paper has it."""
    return _accuracy_per_pace(_paced(entries), entries, "test")


def loss_with_paces(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    return _loss_with_paces(_paced(entries), entries)


def distribution(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    return _distribution(entries[0])


def excluded(entries: Sequence[Entry]) -> Optional[PaperFigure]:
    return _excluded(entries[0])


def _accuracy_per_pace(paced: Sequence[Entry], entries: Sequence[Entry], split: str, why: str = ""
                       ) -> Optional[PaperFigure]:
    from tools.report import faces
    from tools.report.papers import wu2023_paces
    if not paced:
        return None
    levels = {}
    for entry in entries:
        predictions = [] if entry in paced else faces.predicted(entry.run, split)
        if predictions:
            levels[entry.label] = sum(prediction.right for prediction in predictions) / len(predictions)
    accuracies = {entry.label: wu2023_paces.accuracies(entry.run, split) for entry in paced
                  if split in entry.note["records"]}
    table: Table = [("run", "pace", "accuracy, %")]
    table += [(name, pace, 100 * accuracy) for name, values in accuracies.items()
              for pace, accuracy in enumerate(values, start=1)]
    table += [(name, "", 100 * accuracy) for name, accuracy in levels.items()]
    return PaperFigure(
        "Accuracy after each pace ([wu2023] Fig. 5)",
        f"On the {SPLITS[split]}{why}. Runs without paces that are evaluated on it are levels.", table,
        [functools.partial(wu2023_paces.accuracy_per_pace, accuracies, levels)], "accuracy after each pace")


def _loss_with_paces(paced: Sequence[Entry], entries: Sequence[Entry]) -> Optional[PaperFigure]:
    from tools.report.papers import wu2023_paces
    from tools.training import chain
    table: Table = [("run", "epoch", "training loss")]
    draw, all_paced = [], _paced(entries)
    for entry in paced:
        without = next((other for other in entries if other not in all_paced
                        and other.experiment.head == entry.experiment.head
                        and other.info["data"] == entry.info["data"] and chain.spans(other.run)), None)
        if not without:
            continue
        curves = [(each.label, wu2023_paces.by_epoch(each.run, wu2023_paces.losses(each.run)))
                  for each in (entry, without)]
        draw.append(functools.partial(wu2023_paces.loss_curves, curves, wu2023_paces.pace_epochs(entry.run)))
        table += [(name, *point) for name, curve in curves for point in curve]
    return PaperFigure(
        "Training loss with and without self-paced learning ([wu2023] Fig. 6)",
        "Of runs with the same net and data, from Caffe's logs. A line is the end of a pace, after which more samples "
        "are trained with. An epoch of a pace has the pace's own samples.", table, draw,
        "training loss with and without self-paced learning") if draw else None


def _distribution(entry: Entry) -> Optional[PaperFigure]:
    from tools.report.papers import wu2023_paces
    names = entry.note["classes"]
    last = wu2023_paces.paces(entry.run)
    paces = sorted({min(pace, last) for pace in PACES if last > 1})
    if not paces:
        return None
    labels = [names.index(name) for name in (CLASSES if set(CLASSES) <= set(names) else names[:2])]
    features = {pace: wu2023_paces.features(entry.run, pace, labels) for pace in paces}
    table: Table = [("pace", "class", "x", "y", "left out")]
    table += [(pace, names[label], *place, int(not selected)) for pace, samples in features.items()
              for place, label, selected in zip(samples.places, samples.labels, samples.selected)]
    return PaperFigure(
        "Features of two classes at two paces ([wu2023] Fig. 7)",
        f"Of {entry.label}: t-SNE of the features that are classified, of the training samples, by the weights with "
        "which the pace begins. The paper does not print its settings: here perplexity 30, scikit-learn's others, "
        "starting from the first two principal components.", table,
        [functools.partial(wu2023_paces.distribution, samples, f"pace {pace}", names)
         for pace, samples in features.items()], "t-SNE of the features", columns=2, size=(4.6, 4.3))


def _excluded(entry: Entry) -> Optional[PaperFigure]:
    from data_prep.pictures import as_picture
    from tools.report.papers import wu2023_paces
    table: Table = [("pace", "training record", "class", "loss")]
    rows = []
    for pace in range(1, wu2023_paces.paces(entry.run) + 1):
        samples = wu2023_paces.excluded(entry.run, pace, EXCLUDED)
        if samples:
            rows.append(Row(f"pace {pace}", [Face(as_picture(sample.image), sample.text) for sample in samples]))
        table += [(pace, sample.record, sample.label, sample.loss) for sample in samples]
    return PaperFigure(
        "Training samples that the paces leave out ([wu2023] Fig. 8)",
        f"Of {entry.label}, drawn at random. Below each is its label and its loss before the pace.", table,
        rows=rows) if rows else None


REPORT = Report(
    targets={
        "wu2023-fig4": Target("Confusion matrices of SPNDL on CK+, Oulu-CASIA and RAF-DB",
                              uses("wu2023", "ckplus-spndl oulu_casia-spndl raf_db-spndl-without-neutral"),
                              confusion_matrices),
        "wu2023-fig5": Target("Accuracy after each pace, with and without the neutral face, on Oulu-CASIA",
                              uses("wu2023", "oulu_casia-spl oulu_casia-spndl oulu_casia-baseline oulu_casia-ndf"),
                              accuracy_per_pace),
        "wu2023-fig6": Target("Training loss with and without self-paced learning on RAF-DB",
                              uses("wu2023", "raf_db-spndl-without-neutral raf_db-without-neutral"), loss_with_paces),
        "wu2023-fig7": Target("Features of fear and disgust at two paces on Oulu-CASIA",
                              uses("wu2023", "oulu_casia-spndl"), distribution),
        "wu2023-fig8": Target("Training samples that the paces leave out on RAF-DB",
                              uses("wu2023", "raf_db-spndl-without-neutral"), excluded)},
    sections=sections,
    printed_in={"confusion": "Fig. 4"})
