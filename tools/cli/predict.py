"""`./fer predict`: the expressions of the faces in photographs and videos."""
import argparse
import contextlib
import functools
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from tools.cli.arguments import Commands, add_device, add_processes, at_least, number, path
from tools.training import snapshots

if TYPE_CHECKING:
    from tools.evaluation.predict import Predictor


def add(commands: Commands) -> None:
    command = commands.add(
        "predict", run, "Predict the expressions of the faces in photographs, or in a video. Faces are detected with "
        "MTCNN, then aligned and cropped as in training. Class probabilities are averaged over the crops and, for a "
        "group, over its nets.",
        "predict runs/softmax holiday.jpg party.jpg",
        "predict runs/softmax photos/*.jpg --json --draw marked > faces.json",
        "predict runs/softmax photos --csv faces.csv --min-score 0.99",
        "predict runs/softmax talk.mp4 --every 5 --csv talk.csv --draw talk_marked.mp4 --plot talk.png",
        "predict runs/spndl@best angry.jpg --reference neutral.jpg")
    snapshots.add_run(command, "A trained run, or a group of folds or seeds.")
    command.add_argument("images", type=path, metavar="IMAGE", nargs="+", help="The photographs; a folder stands for "
                         "its images, sorted by name. Or one video.")
    command.add_argument("--whole", action="store_true",
                         help="Take each image as a face, as the data set has them, and detect none.")
    command.add_argument("--reference", type=path, metavar="IMAGE",
                         help="The neutral face of the same person, for a net that compares a face with it.")
    command.add_argument("--min-score", type=_share, metavar="SCORE", help="Leave out faces for which the "
                         "detector's score, from 0 to 1, is lower.")
    command.add_argument("--min-size", type=at_least(1), metavar="PIXELS", help="Leave out faces whose box has a "
                         "side that is shorter than this.")
    command.add_argument("--top", type=at_least(1), metavar="K", help="Show the K most probable classes of a face only "
                         "(CSV has all).")
    command.add_argument("--json", action="store_true", help="Print one JSON document instead of a line for each "
                         "face.")
    command.add_argument("--csv", type=path, metavar="FILE", help="Write a row for each face to this file, too.")
    command.add_argument("--draw", type=path, metavar="DIR", help="Write each image to this folder, with its faces "
                         "marked. For a video: write it to this file, NAME.mp4, without sound.")
    command.add_argument("--every", type=at_least(1), metavar="N", help="Of a video: predict on every N-th frame "
                         "(default: 1).")
    command.add_argument("--plot", type=path, metavar="FILE", help="Of a video: write a picture of the probabilities "
                         "over time, NAME.png.")
    add_processes(command)
    add_device(command)


def _share(text: str) -> float:
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 0 to 1")
    return value


def run(options: argparse.Namespace) -> int:
    from tools.evaluation import video
    if options.whole and options.min_score is not None:
        options.parser.error("argument --min-score: --whole detects no faces, so they have no score")
    videos = [name for name in options.images if video.is_video(name) and not os.path.isdir(name)]
    if videos and len(options.images) > 1:
        raise UserError(f"{videos[0]}: is a video; give it without other images")
    if not videos and (options.every or options.plot):
        options.parser.error(f"argument {'--every' if options.every else '--plot'}: is for a video, whose name ends in "
                             + ", ".join(video.SUFFIXES))
    return _video(options, videos[0]) if videos else _photographs(options)


def _predictor(options: argparse.Namespace) -> "Predictor":
    from tools.evaluation import predict
    from tools.training import groups
    folder, snapshot = snapshots.split(options.folder)
    predictor = predict.Predictor(groups.open_(folder), options.whole, options.reference, snapshot,
                                  options.min_score or 0, options.min_size or 0)
    if len(predictor.runs) > 1:
        print(f"fer: probabilities are the mean of {len(predictor.runs)} nets", file=sys.stderr)
    return predictor


def _head(options: argparse.Namespace, predictor: "Predictor") -> dict[str, Any]:
    """The first keys of the JSON document."""
    return {"run": os.path.abspath(snapshots.split(options.folder)[0]), "nets": [run.folder for run in predictor.runs],
            "iterations": predictor.iterations, "classes": list(predictor.classes)}


def _photographs(options: argparse.Namespace) -> int:
    from common import progress
    from data_prep import images
    from tools.evaluation import photographs, predicted_faces
    paths, notes = photographs.listed(options.images)
    targets = photographs.pictures(options.draw, paths) if options.draw else {}
    if options.csv:
        photographs.require_free(options.csv, [*paths, *targets.values()])
    predictor = _predictor(options)
    classes, top, failed = predictor.classes, options.top, False
    for note in notes:
        print("fer: " + note, file=sys.stderr)

    def entries() -> Iterator[dict[str, Any]]:
        nonlocal failed
        sources = [(name, functools.partial(photographs.read, name)) for name in paths]
        for seen in predictor.each(sources, bool(targets), min(options.processes, len(paths))):
            faces, problems = seen.faces, seen.problems
            if not faces and not problems:
                problems.append(f"{seen.name}: no face found" + _wanted(options))
            for problem in problems:
                print("fer: " + problem, file=sys.stderr)
            failed = failed or bool(problems)
            for place, face in enumerate(faces, start=1):
                write([seen.name, place, len(faces)], face)
                if not options.json:
                    print(predicted_faces.line(seen.name, place, len(faces), face, classes, top), flush=True)
            if faces and seen.name in targets:
                from tools.evaluation import draw_predictions
                images.write_image(targets[seen.name], draw_predictions.draw(seen.image, faces, classes, top))
            if bar is not None:
                bar.update()
            yield {"image": seen.name, "faces": [predicted_faces.described(face, classes, top) for face in faces],
                   "problems": problems}
    # Lines on the same terminal show the progress by themselves.
    shows_bar = options.json or not sys.stdout.isatty()
    with predicted_faces.table(options.csv, ("image", "face", "faces"), classes, options.folder) as write, (
            progress.bar("predicting", len(paths)) if shows_bar else contextlib.nullcontext()) as bar:
        if options.json:
            for part in predicted_faces.document(_head(options, predictor), "images", entries()):
                print(part, end="")
            print()
        else:
            for _ in entries():
                pass
    return 1 if failed else 0


def _wanted(options: argparse.Namespace) -> str:
    """What is asked of a face, as the end of a sentence."""
    wanted = [f"{option} {value}" for option, value in (("--min-score", options.min_score),
                                                        ("--min-size", options.min_size)) if value is not None]
    return f" with {' and '.join(wanted)}" if wanted else ""


def _video(options: argparse.Namespace, name: str) -> int:
    from tools.evaluation import photographs, predict_video, predicted_faces, video
    every, top = options.every or 1, options.top
    film = video.Video(name)
    outputs = [output for output in (options.csv, options.draw, options.plot) if output]
    for place, output in enumerate(outputs):
        photographs.require_free(output, [name, *outputs[:place]])
    if options.draw:
        video.require_writable(options.draw)
    if options.plot:
        predict_video.require_plot(options.plot)
    predictor = _predictor(options)
    seen: list[predict_video.Sighting] = []
    problems: list[str] = []
    with predicted_faces.table(options.csv, predict_video.COLUMNS, predictor.classes, options.folder) as write:
        for one in predict_video.sightings(predictor, film, every, problems):
            write([name, one.frame, f"{one.time:.3f}", one.track], one.face)
            seen.append(one)
        if not seen:
            raise UserError(problems[0] if problems else f"{name}: no face found" + _wanted(options))
    if options.plot:
        note = predict_video.plot(options.plot, every, seen, predictor.classes, top)
        if note:
            print("fer: " + note, file=sys.stderr)
    if options.draw:
        predict_video.draw(options.draw, film, every, seen, predictor.classes, top)
    if options.json:
        print(json.dumps({**_head(options, predictor), "video": name, "every": every, "faces": [
            predict_video.described(one, predictor.classes, top) for one in seen]}, indent=2))
    else:
        for line in predict_video.lines(name, seen, predictor.classes, top):
            print(line)
    if problems:
        print(f"fer: {len(problems)} faces could not be registered, the first one: {problems[0]}", file=sys.stderr)
    return 1 if problems else 0
