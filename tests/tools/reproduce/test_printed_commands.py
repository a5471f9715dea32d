"""The commands that `./fer reproduce` prints for missing data: each is taken as it stands, and what it makes trains."""
import collections
import os
import shlex

import cv2
import numpy as np
import pytest

from common import experiment, files
from data_prep import alignment, datasets, prepared_folder, survey
from data_prep.datasets import affectnet
from data_prep.settings import completed
from prototxt.builders import parts
from published import values
from tests import small_data
from tools.cli import main
from tools.cli import prepare as cli_prepare
from tools.reproduce import plan
from tools.training import run

LANDMARKS = (24.0, 25.0, 40.0, 25.0, 32.0, 34.0, 26.0, 43.0, 38.0, 43.0)
SUBJECTS = 10


class Detector:
    """Of faces that are drawn here as noise."""

    def __init__(self, share):
        pass

    def find(self, image):
        return LANDMARKS


def printed():
    """Table -> the commands for its data."""
    found = {}
    for name in values.tables():
        made = plan.plan(plan.Request([name], {}, "/out"))
        found[name] = made.missing
    return found


COMMANDS = printed()
OF_SET = collections.defaultdict(set)
for _commands in COMMANDS.values():
    for _data, _command in _commands.items():
        OF_SET[_data].add(_command)


def words(command, source, out, subjects, template="ckplus.json"):
    """The command's words, with what stands for the user's own paths."""
    stands_for = {"SOURCE": source, "SUBJECTS.csv": subjects, "ckplus.json": template}
    launcher, *rest = shlex.split(command)
    assert launcher == "./fer" and rest[-2] == "--out" and rest[-1].startswith("DATA/")
    return [stands_for.get(word, word) for word in rest[:-1]] + [out]


def test_every_table_prints_a_command_for_each_of_its_sets():
    for name, commands in COMMANDS.items():
        paper, table = values.tables()[name]
        assert set(commands) == {one for figure in values.read(paper) if figure.table == table
                                 and figure.system != "other" for one in (figure.data, figure.trained_on) if one}


@pytest.mark.parametrize("data", sorted(OF_SET))
def test_a_printed_command_is_one(tmp_path, data):
    """By the command line's own parser, and the preparation's own checks."""
    path = tmp_path / "path"
    path.write_text("")
    for command in OF_SET[data]:
        asked = main.parse(words(command, str(path), "out", str(path), alignment.TEMPLATE_FILE))
        settled = completed(cli_prepare.settings(asked))
        assert f"{settled.dataset}-{settled.protocol}" == data
        assert settled.geometry == "literal" or not settled.features
        # Of the papers whose template is CK+'s; FER2013's faces are as they are.
        of_xie = data.partition("-")[2].startswith("xie2019") and not data.startswith("fer2013")
        assert ("--template ckplus.json" in command) == of_xie


def picture(folder, name, seed):
    path = os.path.join(str(folder), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    assert cv2.imwrite(path, np.random.RandomState(seed).randint(0, 255, (64, 64, 3)).astype(np.uint8))
    return path


def text(folder, name, content):
    files.write_text(os.path.join(str(folder), name), content)


def draw_fer2013(folder):
    return small_data.write_csv(folder / "fer2013.csv", small_data.rows((14, 7, 7)))


def draw_ckplus(folder):
    for subject in range(SUBJECTS):
        where = f"S{subject:03d}/001/S{subject:03d}_001_"
        for frame in range(1, 5):
            picture(folder, f"cohn-kanade-images/{where}{frame:08d}.png", 10 * subject + frame)
        # Contempt, 2, is no class of most protocols.
        code = (1, 3, 4, 5, 6, 7)[subject % 6]
        text(folder, f"Emotion/{where}00000004_emotion.txt", f"   {code}.0\n")
    return str(folder)


def draw_oulu_casia(folder):
    for subject in range(SUBJECTS):
        for frame in range(4):
            name = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")[subject % 6]
            for system in ("NI", "VL"):
                picture(folder, f"{system}/Strong/P{subject + 1:03d}/{name}/{frame:03d}.jpeg",
                        10 * subject + frame)
    return str(folder)


def draw_mmi(folder):
    """Tuplets need several subjects of each expression, also without those of two folds."""
    for session in range(3 * SUBJECTS):
        subject, expression = session // 3, (session // 3 + session % 3) % 6 + 1
        name = f"S{subject:03d}-{session % 3 + 1:03d}"
        path = f"Sessions/{session}/{name}"
        for frame in range(1, 6):
            picture(folder, f"{path}/{name}_{frame:05d}.jpg", 10 * session + frame)
        text(folder, path + ".xml", f'<Annotation><Metatag Name="Emotion" Value="{expression}"/></Annotation>')
        text(folder, f"Sessions/{session}/session.xml", '<session><track view="0"/></session>')
    return str(folder)


def draw_sfew(folder):
    lines = ["path,subject"]
    for part in ("Train", "Val", "Test"):
        for label, name in enumerate(("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")):
            for number in range(2):
                picture(folder, f"{part}/{name}/{number}.png", 10 * label + number)
                lines.append(f"{part}/{name}/{number}.png,{part}{number}")
    text(folder, "subjects.csv", "\n".join(lines) + "\n")
    return str(folder)


def draw_raf_db(folder):
    lines = []
    for part in ("train", "test"):
        for number in range(7):
            picture(folder, f"Image/aligned/{part}_{number:05d}_aligned.jpg", number)
            lines.append(f"{part}_{number:05d}.jpg {number + 1}")
    text(folder, "EmoLabel/list_patition_label.txt", "\n".join(lines) + "\n")
    return str(folder)


def draw_affectnet(folder):
    points = ";".join(f"{10 + number % 40};{10 + number // 2}" for number in range(68))
    for part in ("training", "validation"):
        rows = [",".join(affectnet.COLUMNS)]
        for number in range(7):
            picture(folder, f"Manually_Annotated_Images/{part}/{number}.jpg", number)
            rows.append(f"{part}/{number}.jpg,5,5,50,50,{points},{number},0,0")
        text(folder, part + ".csv", "\n".join(rows) + "\n")
    return str(folder)


# Of each data set the one with the fewest crops.
RUN = ("fer2013-xie2019a", "ckplus-wu2023", "oulu_casia-wu2023", "mmi-liu2017", "sfew-liu2017",
       "raf_db-farzaneh2021", "affectnet-farzaneh2021")


def test_all_data_sets_are_run():
    assert {data.partition("-")[0] for data in OF_SET} == {data.partition("-")[0] for data in RUN}


@pytest.mark.parametrize("data", RUN)
def test_a_printed_command_makes_what_its_experiments_take(tmp_path, monkeypatch, data):
    """On drawn data in the set's own layout; of a set with folds the first."""
    monkeypatch.setattr(survey, "Detector", Detector)
    name = data.partition("-")[0]
    (tmp_path / "source").mkdir()
    source = globals()["draw_" + name](tmp_path / "source")
    # Filtering takes long; that features are made is tested elsewhere.
    for command in sorted(OF_SET[data])[:1]:
        out = str(tmp_path / "out")
        given = words(command, source, out, os.path.join(source, "subjects.csv"))
        folds = datasets.protocol(data).folds
        assert main.main(given + (["--fold", "1"] if folds else []) + ["--processes", "1"]) == 0
        folder = os.path.join(out, "fold01") if folds else out
        note = prepared_folder.read_note(folder)
        tables = [table for table, commands in COMMANDS.items() if commands.get(data) == command]
        taken = {figure.experiment for table in tables for figure in values.read(values.tables()[table][0])
                 if figure.table == values.tables()[table][1] and figure.experiment
                 and (figure.trained_on or figure.data) == data}
        assert taken
        for one in taken:
            run.require_fitting(experiment.load(one), parts.prepared(folder, note), note)


