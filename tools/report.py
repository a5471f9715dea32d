"""One self-contained HTML page on one or several runs."""
import base64
import io
import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import jinja2
import matplotlib
import numpy as np

from data_prep import files, prepare
from published import figures as printed_figures
from tools import (
    adaptive_weights,
    caffe_log,
    comparison,
    decisions,
    deep_features,
    features,
    figures,
    groups,
    respond_ratio,
    roc,
    segments,
)
from tools.comparison import Pair
from tools.decisions import Decision
from tools.evaluate import metrics_path
from tools.groups import Group
from tools.run import Run

FACES = 14
# A smaller face is enlarged by who shows the page.
FACE_PIXELS = 96
# As many as [xie2019a] Fig. 9 and 10 have.
COMPARED_FACES = 5
# Runs whose maps are shown, so that the page stays small.
COMPARED_RUNS = 4
# Ten folds.
SHOWN_WEIGHTS = 10
TILE_PIXELS = 56


class Sample(NamedTuple):
    """A face as shown. picture: PNG as a data URI."""

    picture: str
    unit: str
    label: str
    predicted: str
    probability: float


class Section(NamedTuple):
    """What the page says of one run or group. kind: "run", or the group's; info, definition, solver: of a group's
    first run; weights: how loss weights went, of each run that adapted them."""

    title: str
    kind: str
    folder: str
    info: Dict
    metrics: Dict[str, Optional[Dict]]
    confusion: Optional[str]
    weights: List[str]
    right: List[Sample]
    wrong: List[Sample]
    definition: str
    solver: str
    final: Dict[str, float]


class Kappa(NamedTuple):
    """Row of [xie2019a] Table VIII. printed: the paper's figure for a part, in %, where it has the experiment."""

    value: float
    section: Section
    printed: Dict[str, str]


class Strip(NamedTuple):
    title: str
    pictures: List[str]


class Maps(NamedTuple):
    """Of one face, in a mosaic each. first: of the first convolution; z: FC1's input."""

    title: str
    first: str
    z: str


class ComparedFace(NamedTuple):
    """others: who decided on which other class."""

    picture: str
    label: str
    others: List[str]


class FaceComparison(NamedTuple):
    """heat: a strip for each run, of the same faces; face: the first one; gabor, maps: of it."""

    pair: Optional[Pair]
    faces: List[ComparedFace]
    heat: List[Strip]
    face: str
    gabor: str
    maps: List[Maps]


def page(given: Sequence[Union[Run, Group]]) -> str:
    """The page as text; what a run has not yet (no evaluation, no test pass) is left out and named."""
    singles = [groups.runs(one)[0] for one in given]
    titles = dict(zip(singles, _titles(given)))
    sections = [_section(one, title) for one, title in zip(given, _titles(given))]
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
        autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template("report.html.j2")
    return template.render(sections=sections, curves=_curve_figures(titles), repetitions=_repetitions(sections),
                           svms=_svms(titles), compared=_compared(titles), titles=titles, kappas=_kappas(sections),
                           roc=_roc(given), **_respond_ratios(titles),
                           percent=lambda value: "{:.2f}%".format(100 * value), counts=features.percent)


def _titles(given: Sequence[Union[Run, Group]]) -> List[str]:
    """The experiments' titles, with the folder's name where several have the same."""
    titles = [groups.runs(one)[0].info["experiment"]["title"] for one in given]
    return ["{} ({})".format(title, os.path.basename(one.folder)) if titles.count(title) > 1 else title
            for one, title in zip(given, titles)]


def _section(one: Union[Run, Group], title: str) -> Section:
    run = groups.runs(one)[0]
    single = one == run
    last = segments.chain(run)[-1].segment
    metrics = {split: _metrics(one, split) for split in ("val", "test")}
    shown = next((split for split in ("test", "val") if metrics[split]), None)
    right, wrong = _samples(run, shown) if shown and single else ([], [])
    return Section(title, "run" if single else one.kind, one.folder, run.info, metrics,
                   _svg(figures.confusion_matrix(metrics[shown])) if shown else None, _weights(one), right, wrong,
                   *(_text(last.path(name)) for name in ("train_val.prototxt", "solver.prototxt")),
                   {name: points[-1][1] for name, points in _curves(run).items()} if single else {})


def _metrics(one: Union[Run, Group], split: str) -> Optional[Dict]:
    path = metrics_path(one, split)
    return files.read_json(path) if os.path.exists(path) else None


def _repetitions(sections: Sequence[Section]) -> Optional[str]:
    found = [(section.title, [seed["correct"] / seed["total"] for seed in section.metrics["test"]["seeds"]])
             for section in sections if section.kind == "seeds" and section.metrics["test"]]
    return _svg(figures.repetitions(found)) if found else None


def _weights(one: Union[Run, Group]) -> List[str]:
    """Of a single run its objectives too."""
    pictures = []
    for run in groups.runs(one):
        rounds = adaptive_weights.history(run)
        if not rounds:
            continue
        name = "loss weights" if one == run else os.path.relpath(run.folder, one.folder)
        alone = (_metrics(run, "test") or {}).get("alone", {})
        pictures.append(_svg(figures.loss_weights(rounds, name, alone)))
        if one == run:
            pictures.append(_svg(figures.objectives(rounds, "objectives, Eq. (11)")))
    return pictures[:SHOWN_WEIGHTS]


def _kappas(sections: Sequence[Section]) -> List[Kappa]:
    """Of sections that differ in kappa, the largest first; none where there are not several."""
    rows = [Kappa(section.info["experiment"]["weighting"]["kappa"], section, {
        figure.split: figure.value for figure in printed_figures.read("xie2019a")
        if (figure.table, figure.experiment) == ("VIII", section.info["experiment"]["name"])})
        for section in sections if "kappa" in section.info["experiment"]["weighting"]]
    rows.sort(key=lambda row: -row.value)
    return rows if len({row.value for row in rows}) > 1 else []


def _roc(given: Sequence[Union[Run, Group]]) -> Optional[str]:
    """[xie2019b] Fig. 8, of those that are evaluated on the test part."""
    averages = {}
    for one, title in zip(given, _titles(given)):
        path = one.path("decisions-test.csv")
        found = roc.curves(*decisions.scores(decisions.read(path))) if os.path.exists(path) else {}
        if found:
            averages[title] = roc.mean(list(found.values()))
    return _svg(figures.roc_curves(averages)) if averages else None


def _respond_ratios(titles: Dict[Run, str]) -> Dict:
    """Of runs that have been measured: [xie2019b] Table 2, title -> expression -> part of the face -> ratio, and
    Fig. 7 (b), which is on fear."""
    ratios = {title: respond_ratio.read(run) for run, title in titles.items()
              if os.path.exists(run.path(respond_ratio.FILE))}
    fear = {title: rows["fear"] for title, rows in ratios.items() if "fear" in rows}
    return {"respond_ratios": ratios,
            "respond_ratio_bars": _svg(figures.respond_ratios(fear, "fear")) if fear else None}


def _svms(titles: Dict[Run, str]) -> List[Tuple[str, features.Saved]]:
    """Rows of Table II: handcrafted features of the runs' data, then the runs' deep ones."""
    rows = {}
    for run in titles:
        for name, kept in features.handcrafted(run).items():
            rows.setdefault((run.info["manifest"], name), (name.upper(), kept))
    deep = [(title, features.saved(features.run_prefix(run), run.info["manifest"])) for run, title in titles.items()]
    return list(rows.values()) + [(title, kept) for title, kept in deep if kept]


def _compared(titles: Dict[Run, str]) -> Optional[FaceComparison]:
    """Of the runs of [xie2019a] that have decided on the test part of the same images."""
    ready = [run for run in titles if run.experiment.paper == "xie2019a" and comparison.decided(run, "test")]
    found = comparison.pair(ready, "test")
    if found:
        ready = [found.ours, found.baseline] + [run for run in ready if run not in (found.ours, found.baseline)]
    candidates = found and (found.gained_from_both or found.gained) or [
        one for run in ready[:1] for one in comparison.decided(run, "test") if one.right]
    chosen = comparison.spread(candidates, COMPARED_FACES)
    if not chosen:
        return None
    data, images_of = ready[0].info["data"], ready[0].info["manifest"]
    ready = [run for run in ready if run.info["manifest"] == images_of][:COMPARED_RUNS]
    ready.sort(key=list(titles).index)
    classes = prepare.read_note(data)["classes"]
    images = comparison.faces(data, "test", [comparison.shown(decision) for decision in chosen])
    made = [(titles[run], comparison.face_maps(run, images)) for run in ready]
    return FaceComparison(
        found, [_compared_face(image, decision, found, classes, titles) for image, decision in zip(images, chosen)],
        [_heat(title, images, maps) for title, maps in made], _png(comparison.grey(images[0])),
        _mosaic(comparison.gabor_responses(images[0], data)),
        [Maps(title, *(_mosaic(deep_features.most_varied(blob[0], comparison.MAPS))
                       for blob in (maps.first, maps.z))) for title, maps in made])


def _compared_face(image: np.ndarray, decision: Decision, pair: Optional[Pair], classes: Sequence[str],
                   titles: Dict[Run, str]) -> ComparedFace:
    others = []
    if pair:
        others.append("{}: {}".format(titles[pair.baseline], classes[pair.before[decision.unit]]))
        if pair.svm:
            others.append("GABOR, SVM: {}".format(classes[pair.svm[comparison.shown(decision)]]))
    return ComparedFace(_png(comparison.grey(image)), classes[decision.label], others)


def _heat(title: str, images: Sequence[np.ndarray], maps: comparison.FaceMaps) -> Strip:
    pictures = []
    for image, z in zip(images, maps.z):
        response = deep_features.average_over_face(z, maps.place, image.shape[1:])
        pictures.append(_jpeg(_shrunk(figures.heat_map(
            comparison.grey(image), response, deep_features.largest(response, comparison.SHARE)))))
    return Strip(title, pictures)


def _mosaic(maps: np.ndarray) -> str:
    return _encoded(figures.mosaic(maps, comparison.MAPS // 3, TILE_PIXELS))


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


def _curve_figures(titles: Dict[Run, str]) -> Dict[str, str]:
    """`loss` of training and validation, and validation `accuracy` over the iterations; without what is not
    known."""
    loss, accuracy = [], []
    for number, (run, title) in enumerate(titles.items()):
        found = _curves(run)
        training, validation, right = (_over_branches(found, name) for name in (
            "train softmax_loss", "val softmax_loss", "val accuracy"))
        loss += [figures.Curve(title + ", training batch", training, number, thin=True),
                 figures.Curve(title + ", validation", validation, number)]
        accuracy.append(figures.Curve(title, [(at, 100 * value) for at, value in right], number))
    known = {name: [curve for curve in drawn if curve.points] for name, drawn in (
        ("loss", loss), ("accuracy", accuracy))}
    labels = {"loss": "softmax loss", "accuracy": "validation accuracy of single images, %"}
    return {name: _svg(figures.curves(drawn, labels[name])) for name, drawn in known.items() if drawn}


def _samples(run: Run, split: str) -> List[List[Sample]]:
    """The surest right decisions and the surest wrong ones, one after the other class."""
    data = run.info["data"]
    classes = prepare.read_note(data)["classes"]
    found = []
    for right in (True, False):
        chosen = comparison.spread([one for one in comparison.decided(run, split) if one.right == right], FACES)
        images = comparison.faces(data, split, [comparison.shown(decision) for decision in chosen])
        found.append([_sample(image, decision, classes) for image, decision in zip(images, chosen)])
    return found


def _sample(image: np.ndarray, decision: Decision, classes: Sequence[str]) -> Sample:
    return Sample(_png(image.transpose(1, 2, 0)), decision.unit, classes[decision.label],
                  classes[decision.predicted], decision.probabilities[decision.predicted])


def _png(image: np.ndarray) -> str:
    if image.dtype != np.uint8:
        image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    return _encoded(_shrunk(image))


def _shrunk(image: np.ndarray) -> np.ndarray:
    if max(image.shape[:2]) <= FACE_PIXELS:
        return image
    return cv2.resize(image, (FACE_PIXELS, FACE_PIXELS), interpolation=cv2.INTER_AREA)


def _encoded(image: np.ndarray) -> str:
    return _uri(cv2.imencode(".png", image)[1].tobytes(), "image/png")


def _jpeg(image: np.ndarray) -> str:
    return _uri(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(), "image/jpeg")


def _uri(data: bytes, kind: str) -> str:
    return "data:{};base64,{}".format(kind, base64.b64encode(data).decode())


def _svg(figure) -> str:
    stream = io.BytesIO()
    # Without the date and random ids the same runs give the same page.
    with matplotlib.rc_context({"svg.hashsalt": "caffe-fer"}):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return _uri(stream.getvalue(), "image/svg+xml")
