"""`./fer predict`: the expressions of the faces in photographs."""
import argparse
import json
import os
import sys

from common.errors import UserError
from tools.cli.arguments import Commands, add_device, path
from tools.training import snapshots


def add(commands: Commands) -> None:
    command = commands.add(
        "predict", run, "Predict the expressions of the faces in photographs. Faces are detected with MTCNN, then "
        "aligned and cropped as in training. Class probabilities are averaged over the crops and, for a group, over "
        "its nets.",
        "predict runs/softmax holiday.jpg party.jpg",
        "predict runs/softmax photos/*.jpg --json --draw marked > faces.json",
        "predict runs/spndl@best angry.jpg --reference neutral.jpg")
    snapshots.add_run(command, "A trained run, or a group of folds or seeds.")
    command.add_argument("images", type=path, metavar="IMAGE", nargs="+", help="The photographs.")
    command.add_argument("--whole", action="store_true",
                         help="Take each image as a face, as the data set has them, and detect none.")
    command.add_argument("--reference", type=path, metavar="IMAGE",
                         help="The neutral face of the same person, for a net that compares a face with it.")
    command.add_argument("--json", action="store_true", help="Print one JSON document instead of a line for each "
                         "face.")
    command.add_argument("--draw", type=path, metavar="DIR", help="Write each image to this folder, with its faces "
                         "marked.")
    add_device(command)


def run(options: argparse.Namespace) -> int:
    from data_prep import images
    from tools.evaluation import predict
    from tools.training import groups
    targets = predict.pictures(options.draw, options.images) if options.draw else {}
    folder, snapshot = snapshots.split(options.folder)
    predictor = predict.Predictor(groups.open_(folder), options.whole, options.reference, snapshot)
    if len(predictor.runs) > 1:
        print(f"fer: probabilities are the mean of {len(predictor.runs)} nets", file=sys.stderr)
    entries = []
    for name in options.images:
        try:
            image, faces, problems = predictor.predict(name)
        except UserError as error:
            image, faces, problems = None, [], [str(error)]
        for problem in problems:
            print("fer: " + problem, file=sys.stderr)
        entries.append({"image": name, "faces": [predict.described(face, predictor.classes) for face in faces],
                        "problems": problems})
        if not options.json:
            for number, face in enumerate(faces, start=1):
                print(predict.line(name, number, len(faces), face, predictor.classes), flush=True)
        if faces and name in targets:
            from tools.evaluation import draw_predictions
            images.write_image(targets[name], draw_predictions.draw(image, faces, predictor.classes))
    if options.json:
        print(json.dumps({"run": os.path.abspath(folder), "nets": [run.folder for run in predictor.runs],
                          "iterations": predictor.iterations, "classes": list(predictor.classes),
                          "images": entries}, indent=2))
    return 1 if any(entry["problems"] for entry in entries) else 0
