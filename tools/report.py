"""One self-contained HTML page on one or several runs."""
import base64
import io
import itertools
import os
from typing import Dict, List, NamedTuple, Optional, Sequence

import cv2
import jinja2
import numpy as np
from matplotlib.figure import Figure

from data_prep import files, lmdb_io, prepare, records
from tools import caffe_log, decisions, evaluate, segments
from tools.run import Run

FACES = 14
FACE_PIXELS = 96
COLORS = ("#1f77b4", "#d95f02", "#2ca02c", "#7b4fa3", "#8c564b", "#666666")


class Sample(NamedTuple):
    """A face as shown. picture: PNG as a data URI."""

    picture: str
    unit: str
    label: str
    predicted: str
    probability: float


class Section(NamedTuple):
    """What the page says of one run."""

    title: str
    folder: str
    info: Dict
    metrics: Dict[str, Optional[Dict]]
    confusion: Optional[str]
    right: List[Sample]
    wrong: List[Sample]
    definition: str
    solver: str
    final: Dict[str, float]


def page(runs: Sequence[Run]) -> str:
    """The page as text; what a run has not yet (no evaluation, no test pass) is left out and named."""
    sections = [_section(run) for run in runs]
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
        autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template("report.html.j2")
    return template.render(sections=sections, curves=curves(runs),
                           percent=lambda value: "{:.2f}%".format(100 * value))


def _section(run: Run) -> Section:
    info, last = run.info, segments.chain(run)[-1].segment
    metrics = {split: _metrics(run, split) for split in ("val", "test")}
    shown = next((split for split in ("test", "val") if metrics[split]), None)
    right, wrong = _samples(run, shown) if shown else ([], [])
    return Section(info["experiment"]["title"], run.folder, info, metrics,
                   confusion_matrix(metrics[shown]) if shown else None, right, wrong,
                   *(_text(last.path(name)) for name in ("train_val.prototxt", "solver.prototxt")),
                   {name: points[-1][1] for name, points in _curves(run).items()})


def _metrics(run: Run, split: str) -> Optional[Dict]:
    path = evaluate.metrics_path(run, split)
    return files.read_json(path) if os.path.exists(path) else None


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _curves(run: Run) -> Dict:
    """Of all its segments, over the run's iterations; see `caffe_log.curves`."""
    found: Dict[str, List] = {}
    for segment, start, _ in segments.chain(run):
        path = segment.path("caffe.log")
        for name, points in (caffe_log.curves(path) if os.path.exists(path) else {}).items():
            found.setdefault(name, []).extend((start + iteration, value) for iteration, value in points)
    return found


def _over_branches(found: Dict, name: str) -> List:
    """[(iteration, value)] of an output; where a net of several branches has it with suffixes, their mean."""
    if name in found:
        return found[name]
    branches = [points for key, points in found.items() if key.startswith(name + "_")]
    return [(same[0][0], sum(value for _, value in same) / len(same)) for same in zip(*branches)]


def _samples(run: Run, split: str):
    """The surest right decisions and the surest wrong ones, one after the other class."""
    note = prepare.read_note(run.info["data"])
    images = lmdb_io.Reader(os.path.join(run.info["data"], split, "images"))
    record_of = {record.row: record.key for record in records.read(run.info["data"], split) if record.crop == 0}
    decided = decisions.read(run.path("decisions-{}.csv".format(split)))

    def sample(decision):
        image = lmdb_io.decode(images[record_of[decision.rows[-1]]])[0].transpose(1, 2, 0)
        return Sample(_png(image), decision.unit, note["classes"][decision.label],
                      note["classes"][decision.predicted], decision.probabilities[decision.predicted])
    return [[sample(decision) for decision in _spread([d for d in decided if d.right == right])]
            for right in (True, False)]


def _spread(decisions: List) -> List:
    """FACES decisions, the surest of each true class first."""
    ranks: Dict[int, int] = {}
    keyed = []
    for decision in sorted(decisions, key=lambda d: -d.probabilities[d.predicted]):
        rank = ranks[decision.label] = ranks.get(decision.label, -1) + 1
        keyed.append((rank, decision.label, len(keyed), decision))
    return [entry[-1] for entry in sorted(keyed)[:FACES]]


def _png(image: np.ndarray) -> str:
    enlarged = cv2.resize(image, (FACE_PIXELS, FACE_PIXELS), interpolation=cv2.INTER_CUBIC)
    return _uri(cv2.imencode(".png", enlarged)[1].tobytes(), "image/png")


def _uri(data: bytes, kind: str) -> str:
    return "data:{};base64,{}".format(kind, base64.b64encode(data).decode())


def _svg(figure) -> str:
    stream = io.BytesIO()
    # Without the date the same runs give the same page.
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return _uri(stream.getvalue(), "image/svg+xml")


def curves(runs: Sequence[Run]) -> str:
    """Training and validation loss, and validation accuracy, over the iterations: SVG as a data URI."""
    figure = Figure(figsize=(11, 3.6))
    loss, accuracy = figure.subplots(1, 2)
    for run, color in zip(runs, itertools.cycle(COLORS)):
        found, title = _curves(run), run.info["experiment"]["title"]
        for axes, name, style, label in (
                (loss, "train softmax_loss", dict(linewidth=0.9, alpha=0.55), title + ", training batch"),
                (loss, "val softmax_loss", dict(marker="o", markersize=3), title + ", validation"),
                (accuracy, "val accuracy", dict(marker="o", markersize=3), title)):
            points = _over_branches(found, name)
            if points:
                iterations, values = zip(*points)
                axes.plot(iterations, np.array(values) * (100 if axes is accuracy else 1),
                          color=color, label=label, **style)
    for axes, what in ((loss, "softmax loss"), (accuracy, "validation accuracy of single images, %")):
        axes.set(xlabel="iteration", ylabel=what)
        axes.grid(alpha=0.3)
        axes.spines["top"].set_visible(False)
        axes.spines["right"].set_visible(False)
        if axes.lines:
            axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncol=2)
    return _svg(figure)


def confusion_matrix(metrics: Dict) -> str:
    """Row: true class, in % of it; counts below: SVG as a data URI."""
    counts = np.array(metrics["confusion"])
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(4.8, 4.4))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, "{:.0f}\n({})".format(shares[row, column], count), ha="center", va="center",
                      fontsize=7, color="white" if shares[row, column] > 55 else "black")
    ticks = range(len(metrics["classes"]))
    axes.set(xticks=ticks, yticks=ticks, xlabel="decision", ylabel="true class")
    axes.set_xticklabels(metrics["classes"], rotation=40, ha="right")
    axes.set_yticklabels(metrics["classes"])
    axes.tick_params(length=0)
    return _svg(figure)
