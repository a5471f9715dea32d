"""The command line inside the environment: `./fer COMMAND`."""
import argparse
import json
import os
import re
import sys
import time
from typing import Optional

# Caffe's own chatter; a training run's goes into its log.
os.environ.setdefault("GLOG_minloglevel", "2")

import lmdb  # noqa: E402

from bench import registry  # noqa: E402
from common import (
    experiment,  # noqa: E402
    files,  # noqa: E402
    signals,  # noqa: E402
)
from common.errors import UserError  # noqa: E402
from data_prep import crops, datasets, features, images, manifest, prepare, template  # noqa: E402
from published import values  # noqa: E402
from tools.reproduce import targets  # noqa: E402

# Of BLAS: what Debian's OpenBLAS is built for.
MOST_THREADS = 128
# Of images without a face, on the screen.
NAMED = 10


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    with signals.handled(signals.interrupt):
        return options.command(options) if options.debug else _without_traceback(options)


def _without_traceback(options) -> int:
    try:
        return options.command(options)
    except UserError as error:
        message = str(error)
    except lmdb.Error as error:
        message = f"LMDB: {error}"
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except signals.Interrupted as error:
        print("fer: stopped; the same command goes on", file=sys.stderr)
        return 128 + error.number
    print("fer: " + message, file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fer", description="Facial expression recognition on the real Caffe.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name, command, summary, example):
        sub = commands.add_parser(name, help=summary, description=summary, epilog="example:\n  ./fer " + example,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(command=command)
        return sub

    sub = add("prepare", _prepare, "Make the manifest and the LMDBs of a data set.",
              "prepare fer2013 fer2013.csv --out data/fer2013")
    sub.add_argument("dataset", choices=datasets.NAMES)
    sub.add_argument("source", type=path, nargs="?", help="the data set's file or folder (synthetic draws its own)")
    sub.add_argument("--out", type=path, help="folder to make (default: data/DATASET)")
    sub.add_argument("--protocol", help="how a paper uses the set, e.g. xie2019a (default: the set's first one)")
    sub.add_argument("--crops", choices=sorted(crops.SETS), help="(default: the protocol's)")
    sub.add_argument("--features", nargs="*", choices=features.NAMES,
                     help="handcrafted features (default: what the protocol's experiments take)")
    sub.add_argument("--geometry", choices=sorted(features.GEOMETRIES),
                     help="of the features: literal as the paper has it, compact is better and faster (default: the "
                          "protocol's; literal of xie2019a)")
    sub.add_argument("--features-of", choices=("crop", "face"), default="crop",
                     help="each crop its own features, or all crops those of their face (default: crop)")
    sub.add_argument("--encoding", choices=("raw", "png"), default="raw",
                     help="of images; png is smaller and slower to read (default: raw)")
    sub.add_argument("--fold", type=int, nargs="+", help="of a set that is cross-validated (default: all)")
    sub.add_argument("--validation", choices=("fold", "none"),
                     help="of a set that is cross-validated: one fold is the validation part, or all but the test fold "
                          "train (default: as the protocol's paper has it)")
    sub.add_argument("--hold-out", type=float, metavar="SHARE",
                     help="of a set without folds: make the validation part of this share of the training images "
                          "(default: the protocol's; 0 but for multi_pie)")
    sub.add_argument("--frames", choices=datasets.FRAMES,
                     help="of mmi, which three of a sequence are its peak: those in the middle, or those whose "
                          "landmarks are farthest from the first frame's, for which faces are looked for in every "
                          "frame (default: middle)")
    sub.add_argument("--subjects", type=path, metavar="CSV",
                     help="path,subject of each image, where the data set has no subjects")
    sub.add_argument("--template", type=path, metavar="FILE",
                     help="of a protocol that aligns faces: align them to this template, which `./fer template` has "
                          "measured (default: that of data_prep/template.json, measured on FER2013)")
    sub.add_argument("--seed", type=at_least(0), default=0, help="of the training order (default: 0)")
    sub.add_argument("--processes", type=at_least(1), default=_cores(), help="(default: one a core)")

    sub = add("template", _template, "Measure the template of the alignment on a data set: the mean triangle of eyes "
              "and lower face, and its distances from the borders. The borders are those of the image where the "
              "protocol takes registered faces as they are; else those of the square around the box in which MTCNN "
              "finds the face, turned with the face until the eyes are level. Of a set with parts of its own the "
              "training images are measured, of another one all.",
              "template ckplus CK+ --protocol xie2019a --out ckplus.json\n"
              "  ./fer prepare oulu_casia OULU --protocol xie2019a --template ckplus.json --out data/oulu-xie2019a")
    sub.add_argument("dataset", choices=datasets.NAMES)
    sub.add_argument("source", type=path, nargs="?", help="the data set's file or folder (synthetic draws its own)")
    sub.add_argument("--out", type=path, required=True, metavar="FILE", help="the template, JSON")
    sub.add_argument("--protocol", help="which images of the set (default: the set's first one)")
    sub.add_argument("--processes", type=at_least(1), default=_cores(), help="(default: one a core)")

    sub = add("features", _features, "Accuracy of handcrafted or of a run's deep features, beside the published one.",
              "features --svm --data data/fer2013\n  ./fer features --svm --run runs/softmax")
    sub.add_argument("--svm", action="store_true", required=True, help="by LIBSVM, untuned and tuned")
    whose = sub.add_mutually_exclusive_group(required=True)
    whose.add_argument("--data", type=path, help="folder that `./fer prepare` made; it keeps the results in svm/")
    whose.add_argument("--run", type=path, help="trained run; it keeps the results in svm.json")
    sub.add_argument("--features", nargs="+", choices=features.NAMES,
                     help="handcrafted ones (default: all that the folder has)")
    sub.add_argument("--limit", type=at_least(1), help="of training images")

    sub = add("train", _train, "Train an experiment (of data with folds: each fold), or go on where RUN stopped.",
              "train xie2019a/fer2013-toy-softmax --data data/fer2013 --out runs/softmax\n"
              "  ./fer train xie2019a/ckplus-alaw --data data/ckplus-xie2019a --out runs/alaw "
              "--weights models/face_model.caffemodel\n"
              "  ./fer train xie2019a/fer2013-toy-alaw --data data/fer2013 --out runs/ten --seeds 1 2 3 4 5 6 7 8 9 10")
    sub.add_argument("experiment", help="one of: " + ", ".join(experiment.names()))
    sub.add_argument("--data", type=path, required=True, help="folder that `./fer prepare` made")
    sub.add_argument("--out", type=path, required=True, metavar="RUN", help="the run's folder")
    sub.add_argument("--weights", metavar="CAFFEMODEL|RUN", help="to begin with: a caffemodel, or what a trained run "
                     "hands on")
    sub.add_argument("--stages", type=path, metavar="DATA",
                     help="first train the experiments that this one begins with, on the prepared folders in DATA, "
                          "each beside RUN; those without data are skipped")
    sub.add_argument("--seeds", type=at_least(0), nargs="+", default=[], metavar="SEED",
                     help="train once with each: RUN/seed01 ...")
    sub.add_argument("--processes", type=at_least(1), default=_cores(),
                     help="trainings side by side: folds, seeds, trials of adaptive weights (default: one a core)")
    sub.add_argument("--threads", type=at_least(1, MOST_THREADS),
                     help="of BLAS (default: the run's; of a new one, one a core, or 1 where several run)")
    sub.add_argument("--gpu", metavar="IDS", type=_gpus,
                     help="as `caffe train -gpu` has it; Debian's Caffe is CPU-only")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                     help="change a setting, e.g. solver.max_iter=3000, losses.gabor.weight=1e-3")

    sub = add("watch", _watch, "How far a training is: its folder's state until all is trained, or Ctrl-C. RUN may be "
              "at work elsewhere, on this machine or another one that sees its folder.",
              "watch runs/softmax\n  ./fer watch runs/ten --once")
    sub.add_argument("run", type=path, metavar="RUN",
                     help="run, group of folds or seeds, or folder of `./fer reproduce`")
    sub.add_argument("--once", action="store_true", help="show the state once")
    sub.add_argument("--every", type=at_least(1), metavar="SECONDS",
                     help="between two looks (default: 2 on a terminal, else 60)")

    sub = add("evaluate", _evaluate, "Evaluate a trained run by the vote over each unit; writes metrics.json.",
              "evaluate runs/softmax\n  ./fer evaluate runs/mmi --data data/fer2013-xie2019a --without neutral\n"
              "  ./fer evaluate runs/dacl --every-snapshot")
    sub.add_argument("run", type=path, metavar="RUN")
    sub.add_argument("--split", choices=manifest.SPLITS, help="(default: test; of DATA without a test part: all)")
    sub.add_argument("--data", type=path, help="another prepared folder to test on, its classes matched by name; "
                                               "writes metrics-on-<data set>.json")
    sub.add_argument("--without", nargs="+", default=[], metavar="CLASS", help="with --data: classes to leave out")
    sub.add_argument("--every-snapshot", action="store_true",
                     help="all snapshots that were kept, on the validation and the test part (or on SPLIT); writes "
                          "metrics-every-snapshot.json into each run's folder")

    sub = add("predict", _predict, "The expressions of the faces in photographs, by a run's net, or by the mean of a "
              "group's nets.",
              "predict runs/softmax holiday.jpg party.jpg\n"
              "  ./fer predict runs/softmax photos/*.jpg --json --draw marked > faces.json\n"
              "  ./fer predict runs/spndl angry.jpg --reference neutral.jpg")
    sub.add_argument("run", type=path, metavar="RUN", help="trained run, or group of folds or seeds")
    sub.add_argument("images", type=path, metavar="IMAGE", nargs="+")
    sub.add_argument("--whole", action="store_true",
                     help="the images are faces as the data set has them: none is looked for")
    sub.add_argument("--reference", type=path, metavar="IMAGE",
                     help="the same person's neutral face, which a net of wu2023's pairs compares with")
    sub.add_argument("--json", action="store_true", help="one JSON document in place of a line a face")
    sub.add_argument("--draw", type=path, metavar="DIR", help="write each image there with its faces marked")

    sub = add("respond-ratio", _respond_ratio, "Which parts of the face FC1 responds to, for each expression "
              "(xie2019b, Table 2); writes respond_ratio.json.", "respond-ratio runs/one_map-l2")
    sub.add_argument("run", type=path, metavar="RUN")
    sub.add_argument("--split", choices=manifest.SPLITS, default="test", help="(default: test)")

    sub = add("report", _report, "One self-contained HTML page on one or several runs, or groups of folds or seeds.",
              "report runs/softmax runs/gabor --out report.html")
    sub.add_argument("runs", type=path, metavar="RUN", nargs="+")
    sub.add_argument("--out", type=path, help="the page (default: report.html in the first RUN)")

    sub = add("reproduce", _reproduce, "Measure what a paper's table prints, or its figure shows: runs what is "
              "missing, and sets it beside the published table, or draws the figure (OUT/FIGURE.png, .svg, and the "
              "numbers as .csv).",
              "reproduce xie2019a-table7 --data data --weights models/face_model.caffemodel --out runs/table7\n"
              "  ./fer reproduce xie2019a-table7 --data data --out runs/table7 --dry-run\n"
              "  ./fer reproduce xie2019b-table4 xie2019b-fig8 --data fer2013-xie2019a=data/synthetic --set net=toy "
              "--out runs/small")
    sub.add_argument("tables", metavar="TABLE|FIGURE", nargs="+", help="tables: " + ", ".join(
        values.tables()) + "; figures: " + ", ".join(targets.TARGETS))
    sub.add_argument("--data", type=path, required=True, nargs="+", metavar="DIR|SET=FOLDER",
                     help="folder of prepared folders, named as the data sets of the experiments are "
                          "(fer2013-xie2019a); or one set by itself")
    sub.add_argument("--out", type=path, required=True, help="folder of runs, logs, tables and figures")
    sub.add_argument("--weights", nargs="+", default=[], metavar="FILE|NET=FILE|EXPERIMENT=FILE",
                     help="caffemodels to begin with: one for all nets, others for a net or an experiment, the most "
                          "specific wins; where a run of the table's own comes before, only an experiment's")
    sub.add_argument("--only", nargs="+", default=[], metavar="SET", help="data sets to do (default: all)")
    sub.add_argument("--cores", type=at_least(1), default=_cores(), help="(default: all)")
    sub.add_argument("--threads", type=at_least(1, MOST_THREADS), default=1,
                     help="of BLAS, of each training; another number gives other bytes (default: 1)")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                     help="change a setting of the experiments that have it, e.g. net=toy, solver.max_iter=3000")
    how = sub.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true",
                     help="show the jobs, and about what time, disk and memory they take")
    how.add_argument("--plan", action="store_true", help="write plan.json for Snakemake on a cluster, and no more")
    how.add_argument("--show", action="store_true", help="print the tables as far as they are")

    sub = add("bench", _bench, "Measure speed and memory on drawn faces, each against something else in the same run; "
              "prints tables and writes OUT/NAME.json.", "bench layers evaluation --quick")
    sub.add_argument("names", metavar="NAME", nargs="*", help="(default: all) " + "; ".join(
        "{}: {}".format(*one) for one in registry.BENCHMARKS.items()).replace("%", "%%"))
    sub.add_argument("--data", type=path, default=os.path.join(experiment.ROOT, "data", "bench"),
                     help="where drawn faces are kept for the next time (default: data/bench in the project)")
    sub.add_argument("--out", type=path, default=os.path.join(experiment.ROOT, "runs", "bench"),
                     help="folder of results (default: runs/bench in the project)")
    sub.add_argument("--quick", action="store_true", help="fewer repeats of less: to see that all works")
    sub.add_argument("--cores", type=at_least(1), default=_cores(), help="processes or threads (default: all)")

    sub = add("demo", _demo, "The main job on drawn faces: prepare, train twice, evaluate, report.", "demo")
    sub.add_argument("--out", type=path, default=os.path.join(experiment.ROOT, "runs", "demo"),
                     help="folder (default: runs/demo in the project)")
    return parser


def at_least(least: int, most: Optional[int] = None):
    def integer(text: str) -> int:
        value = int(text)
        if value < least or most is not None and value > most:
            raise argparse.ArgumentTypeError("{}, expected at least {}{}".format(
                value, least, "" if most is None else f" and at most {most}"))
        return value
    return integer


def path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("'', expected the name of a file or folder")
    if "\n" in text or "\r" in text:  # it would tear a line of Caffe's log in two
        raise argparse.ArgumentTypeError(f"{text!r}, expected a name without a line break")
    return text


def _gpus(text: str) -> str:
    if text != "all" and not all(re.fullmatch("[0-9]+", one) for one in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}, expected numbers such as 0 or 0,1, or all")
    return text


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _require_source(options, command: str, rest: str = "") -> None:
    if options.source is None and options.dataset != "synthetic":
        raise UserError(f"{options.dataset} needs its file or folder: ./fer {command} {options.dataset} SOURCE{rest}")


def _prepare(options) -> int:
    _require_source(options, "prepare")
    began = time.time()
    out = options.out or os.path.join(experiment.ROOT, "data", "-".join(
        filter(None, [options.dataset, options.protocol])))
    print(prepare.summary(out, prepare.prepare(settings(options), out, options.processes)))
    print(f"{files.amount(files.size(out))}, {time.time() - began:.0f} s")
    return 0


def settings(options) -> prepare.Settings:
    """What `prepare` is asked for."""
    return prepare.Settings(
        options.dataset, options.source and os.path.abspath(options.source), options.protocol, options.crops,
        options.features if options.features is None else sorted(set(options.features)), options.geometry,
        options.features_of, options.encoding, options.fold, options.validation, options.hold_out, options.seed,
        options.subjects and os.path.abspath(options.subjects), options.template and os.path.abspath(options.template),
        options.frames)


def _template(options) -> int:
    _require_source(options, "template", " --out FILE")
    files.require_replaceable(options.out, alone=True)
    prepare.require_apart(options.out, [options.source])
    found = template.measure(options.dataset, options.source, options.protocol, options.processes)
    files.write_json(options.out, found, alone=True)
    print("{}: {faces} faces of {dataset}-{protocol}, in sides of {region}".format(options.out, **found))
    for what in ("margins", "sides"):
        print("{}: {}".format(what, ", ".join("{} {:.4f}".format(*one) for one in found[what].items())))
    if found["no_face"]:
        print("note: no face found in {} images, left out: {}{}".format(
            len(found["no_face"]), ", ".join(found["no_face"][:NAMED]),
            f", and others (`no_face` in {options.out})" if len(found["no_face"]) > NAMED else ""))
    return 0


def _features(options) -> int:
    from tools.analysis import svm as evaluation
    from tools.training import run
    if options.run and options.features:
        raise UserError("--features chooses among handcrafted ones, and goes with --data, not with --run")
    if options.data:
        found = list(evaluation.svm(options.data, options.features, options.limit))
        print(evaluation.table(found, options.data, limit=options.limit))
        return 0
    trained = run.Run(os.path.abspath(options.run))
    deep = evaluation.svm_of_run(trained, options.limit)
    handcrafted = [result for kept in evaluation.handcrafted(trained).values() for result in kept.results]
    print(evaluation.table(handcrafted + deep, trained.info["data"], trained, options.limit))
    if not handcrafted:
        print("fer: to have handcrafted features beside them: ./fer features --svm --data {}".format(
            trained.info["data"]), file=sys.stderr)
    return 0


def _train(options) -> int:
    from tools.training import groups, pretraining, segments
    from tools.training.run import Run
    if options.weights and not os.path.exists(options.weights):
        raise UserError(f"{options.weights}: no such file")
    if options.weights and options.stages:
        raise UserError("--weights and --stages: give one of them")
    chosen, weights = experiment.load(options.experiment, options.set), options.weights
    if weights and os.path.isdir(weights):
        given = groups.open_(weights)
        if not isinstance(given, Run):
            raise UserError("--weights {}: holds several runs; give one of them: {}".format(
                weights, ", ".join(os.path.join(weights, name) for name in given.members)))
        weights = pretraining.handed_on(given)
    elif options.stages:
        prepare.require_prepared(options.data)
        weights = pretraining.train(chosen, options.stages, os.path.dirname(os.path.abspath(options.out)),
                               segments.Engine(options.threads or segments.all_cores().threads, options.gpu))
    elif chosen.begins_with and not weights:
        print("note: {} begins with random weights; --stages DATA trains {} before it".format(
            chosen.name, ", ".join(one.name for one in experiment.stages(chosen)[:-1])))
    trained = groups.train(chosen, options.data, options.out, weights, options.seeds, options.threads,
                           options.gpu, options.processes)
    for run in groups.runs(trained):
        print(f"trained: {run.caffemodel()}")
    return 0


def _watch(options) -> int:
    from tools.reproduce import plan
    from tools.training import groups, run_state
    is_plan = os.path.exists(os.path.join(options.run, plan.FILE))
    one = plan.runs(options.run) if is_plan else groups.open_(options.run)
    try:
        run_state.watch(one, options.every or (2 if sys.stdout.isatty() else 60), options.once, sys.stdout)
    except KeyboardInterrupt:
        pass
    return 0


def _evaluate(options) -> int:
    from tools.training import groups
    if options.every_snapshot and (options.data or options.without):
        raise UserError("--every-snapshot is of the run's own data, without --data and --without")
    if options.data:
        return _evaluate_on(options)
    if options.without:
        raise UserError("--without goes with --data")
    if options.every_snapshot:
        return _evaluate_snapshots(options)
    split = options.split or "test"
    metrics = groups.evaluate_all(groups.open_(options.run), split)
    print("{}: {}{} of {} {}s right, {:.2f}%{}".format(
        split, "".join("{name} {correct}/{total}, ".format(**one) for one in metrics.get("seeds", [])),
        metrics["correct"], metrics["total"], metrics["unit"], 100 * metrics["accuracy"],
        " (deviation {:.2f})".format(100 * metrics["deviation"]) if "deviation" in metrics else ""))
    for fold in metrics["folds"]:
        print("{name}: {correct} of {total}".format(**fold))
    for feature, alone in metrics.get("alone", {}).items():
        print("{}: {correct} of {total} by the {} loss alone".format(split, feature, **alone))
    own = metrics["without_copies"]
    if own["total"] != metrics["total"]:
        print("{}: {} of {} without copies of training images, {:.2f}%".format(
            split, own["correct"], own["total"], 100 * own["correct"] / own["total"]))
    return 0


def _evaluate_snapshots(options) -> int:
    from tools.evaluation import evaluate
    from tools.training import groups
    from tools.training.run import require_same_data
    one = groups.open_(options.run)
    runs = groups.runs(one)
    parts = require_same_data(runs[0])["records"]
    splits = [options.split] if options.split else [split for split in ("val", "test") if split in parts]
    for split in splits:
        found = []
        for run in runs:
            name = "" if len(runs) == 1 else os.path.relpath(run.folder, one.folder) + " "
            found.append([])
            for kept in evaluate.every_snapshot(run, split):
                found[-1].append(kept)
                print("{}: {}iteration {iteration}: {correct}/{total}, {:.2f}%".format(
                    split, name, 100 * kept["correct"] / kept["total"], **kept), flush=True)
        for title, chosen in (("last", [snapshots[-1] for snapshots in found]),
                              ("best, chosen on this part", [evaluate.best(snapshots) for snapshots in found])):
            right, total = (sum(kept[key] for kept in chosen) for key in ("correct", "total"))
            print("{}: {}: {}/{}, {:.2f}%{}".format(
                split, title, right, total, 100 * right / total,
                ", iteration {iteration}".format(**chosen[0]) if len(runs) == 1 else ", each run's own"))
    return 0


def _evaluate_on(options) -> int:
    from tools.evaluation import cross_dataset
    from tools.training import groups
    for run in groups.runs(groups.open_(options.run)):
        metrics = cross_dataset.evaluate_on(run, options.data, options.split, options.without)
        print("{} on {}: {} of {} {}s right, {:.2f}%; {} of them where all trained classes may be chosen; {} of other "
              "classes left out".format(
                  metrics["trained_on"], metrics["dataset"], metrics["correct"], metrics["total"], metrics["unit"],
                  100 * metrics["accuracy"], metrics["all_trained_classes"]["correct"], metrics["left_out"]))
    return 0


def _predict(options) -> int:
    from tools.evaluation import predict
    from tools.training import groups
    targets = predict.pictures(options.draw, options.images) if options.draw else {}
    predictor = predict.Predictor(groups.open_(options.run), options.whole, options.reference)
    if len(predictor.runs) > 1:
        print(f"fer: the mean of {len(predictor.runs)} nets", file=sys.stderr)
    entries = []
    for path in options.images:
        try:
            image, found, problems = predictor.predict(path)
        except UserError as error:
            image, found, problems = None, [], [str(error)]
        for problem in problems:
            print("fer: " + problem, file=sys.stderr)
        entries.append({"image": path, "faces": [predict.described(one, predictor.classes) for one in found],
                        "problems": problems})
        if not options.json:
            for number, one in enumerate(found, start=1):
                print(predict.line(path, number, len(found), one, predictor.classes), flush=True)
        if found and path in targets:
            from tools.evaluation import draw_predictions
            images.write_image(targets[path], draw_predictions.draw(image, found, predictor.classes))
    if options.json:
        print(json.dumps({"run": os.path.abspath(options.run), "nets": [run.folder for run in predictor.runs],
                          "classes": list(predictor.classes), "images": entries}, indent=2))
    return 1 if any(entry["problems"] for entry in entries) else 0


def _respond_ratio(options) -> int:
    from tools.analysis import respond_ratio
    from tools.training import groups
    for run in groups.runs(groups.open_(options.run)):
        print(respond_ratio.table(respond_ratio.measure(run, options.split)))
    return 0


def _report(options) -> int:
    from tools.report import html_page
    from tools.training import groups
    out, named = options.out or os.path.join(options.runs[0], "report.html"), bool(options.out)
    files.require_replaceable(out, alone=named)
    files.write_text(out, html_page.render([groups.open_(folder) for folder in options.runs]), alone=named)
    print(out)
    return 0


def _reproduce(options) -> int:
    from tools.reproduce import figures, jobs, plan
    request = jobs.request(options.tables, options.data, options.out, options.set, options.only, options.weights,
                                options.threads)
    files.require_claimable(request.out, plan.KIND)
    made = plan.plan(request)
    for note in jobs.notes(made):
        print("note: " + note, file=sys.stderr)
    if options.dry_run:
        for line in jobs.preview(made, request, options.cores):
            print(line)
        return 0
    if options.plan:
        print(plan.write(made, request.out, jobs.memory(made, request.threads)))
        return 0
    if not options.show and not any(cell.folder for kind in (made.tables, made.drawn) for cells in kind.values()
                                    for cell in cells):
        raise UserError("none of the data sets of {} is there".format(", ".join(options.tables)))
    failed = [] if options.show else jobs.run(made, request, options.cores)
    if made.tables:
        print(jobs.write_tables(made, request, keep=not options.show))
    for drawn in figures.write(made, request.out, keep=not options.show):
        print("\n".join([drawn.name] + ["  " + line for line in drawn.paths + drawn.notes]))
    for job in failed:
        print("fer: " + jobs.failure(job), file=sys.stderr)
    return 1 if failed else 0


def _bench(options) -> int:
    unknown = sorted(set(options.names) - set(registry.BENCHMARKS))
    if unknown:
        raise UserError("there is no benchmark {}; there are: {}".format(
            ", ".join(unknown), ", ".join(registry.BENCHMARKS)))
    for name in options.names or registry.BENCHMARKS:
        found = registry.measure(name, registry.Options(
            os.path.abspath(options.data), os.path.abspath(options.out), options.quick, options.cores))
        print(registry.headline(found))
        print(registry.table(found["rows"]) + "\n", flush=True)
    return 0


def _demo(options) -> int:
    from tools.cli import demo
    demo.demo(options.out, _cores())
    return 0

