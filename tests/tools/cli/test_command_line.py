"""The command line: help, exit status, one-line errors, and the whole path by its commands."""
import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest

from common import files
from common.experiment import ROOT
from common.machine import Device
from tests import small_data
from tests.tools import hand_made
from tests.tools.conftest import SMALL
from tools.cli import experiments, main
from tools.training import caffe_process


@pytest.mark.parametrize("command", main.COMMANDS)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main.main([command, "--help"])
    assert end.value.code == 0
    assert re.search(f"examples?:\n  ./fer {command}", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [[], ["paint"], ["train"], ["template", "synthetic"], ["prepare", "mnist"],
                                       ["evaluate", "r", "--split", "x"],
                                       ["prepare", "synthetic", "--processes", "0"],
                                       ["prepare", "synthetic", "--seed", "-1"],
                                       ["prepare", "synthetic", "--seed", "x"],
                                       ["demo", "now"], ["demo", "--on"], ["train", "e", "--set", "a"],
                                       ["prepare", "synthetic", "--out", ""], ["prepare", "folder", ""],
                                       ["prepare", "synthetic", "--out", "two\nlines"], ["report", "r", "--out", ""],
                                       ["train", "e", "--data", "d", "--out", ""], ["demo", "--out", ""],
                                       ["predict", "r", "i", "--draw", ""], ["bench", "--out", ""],
                                       ["train", "e", "--data", "d", "--out", "o", "--threads", "0"]])
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fer: ") and re.search("[Ss]ee ./fer( [a-z]+)? --help$", lines[0])


@pytest.mark.parametrize("arguments, said", [
    (["prepare", "fer2013", "nowhere.csv", "--out", "o"], "nowhere.csv: no such file or folder"),
    (["prepare", "fer2013", "--out", "o"], "fer2013 needs its file or folder"),
    (["prepare", "synthetic", "--protocol", "xie2019a", "--template", "t", "--out", "o"], "t: no such file or folder"),
    (["template", "fer2013", "--out", "o"], "fer2013 needs its file or folder: ./fer template fer2013 SOURCE --out"),
    (["template", "fer2013", "nowhere.csv", "--out", "o"], "nowhere.csv: no such file or folder"),
    (["template", "fer2013", "nowhere.csv", "--protocol", "wu2023", "--out", "o"],
     "fer2013: there is no protocol 'wu2023'; expected one of plain, xie2019a, liu2017"),
    (["train", "xie2019a/fer2013-toy-sofmax", "--data", "d", "--out", "o"],
     "there is no experiment 'xie2019a/fer2013-toy-sofmax'; did you mean xie2019a/fer2013-toy-softmax"),
    (["train", "xie2019a/fer2013-toy-softmax", "--data", "d", "--out", "o"], "d: no prepared data here"),
    (["train", "xie2019a/fer2013-toy-softmax", "--data", "d", "--out", "o", "--weights", "w"], "w: no such file"),
    (["evaluate", "o"], "o: no run here"), (["watch", "o"], "o: there is no such folder"),
    (["watch", __file__, "--once"], "test_command_line.py: is no folder of a run"), (["watch", "."], "no run here"),
    (["reproduce", "xie2019b-table4", "--data", "fer213=.", "--out", "o"],
     "--data fer213=...: there is no data set 'fer213'; did you mean fer2013"),
    (["bench", "warp"], "there is no benchmark 'warp'; expected one of layers, crops"),
    (["predict", "o", "x.png"], "o: no run here"), (["report", "o"], "o: no run here")])
def test_errors_are_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fer: ") and said in lines[0]
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("arguments, kind", [
    (["reproduce", "xie2019b-table4", "--data", "data"], "folder of `reproduce`"),
    (["reproduce", "xie2019b-table4", "--data", "data", "--show"], "folder of `reproduce`"),
    (["reproduce", "xie2019b-table4", "--data", "data", "--plan"], "folder of `reproduce`"),
    (["bench", "kernels", "--quick", "--data", "drawn"], "folder of benchmarks"),
    (["bench", "kernels", "--quick", "--out", "o", "--data"], "folder of benchmarks"), (["demo"], "demo")])
def test_a_folder_of_the_users_is_refused(arguments, kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert main.main(arguments + (["mine"] if arguments[-1] == "--data" else ["--out", "mine"])) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].endswith(f"mine: exists and is not a {kind}; give another --out")
    assert os.listdir("mine") == ["thesis.txt"]


def test_show_makes_nothing(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert main.main(["reproduce", "xie2019b-table4", "--data", str(tmp_path / "data"), "--show",
                     "--out", str(tmp_path / "out")]) == 0
    assert "xie2019b-table4" in capsys.readouterr().out and os.listdir(str(tmp_path)) == ["data"]


def test_a_table_without_any_data_is_an_error(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    asked = ["reproduce", "xie2019b-table4", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main.main(asked) == 1
    notes, error = capsys.readouterr().err.splitlines()
    assert notes.startswith("note: fer2013-xie2019a is missing; to make it: ./fer prepare fer2013 ")
    assert error == "fer: no data set of xie2019b-table4 is there"
    assert not (tmp_path / "out").exists()
    assert main.main(asked + ["--show"]) == 0


def test_debug_shows_the_traceback():
    with pytest.raises(Exception, match="no run here"):
        main.main(["--debug", "evaluate", "nowhere"])


@contextlib.contextmanager
def small_disk(tmp_path, size):
    """A real file system of that size, where this may be mounted."""
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", str(tiny)],
                             stderr=subprocess.DEVNULL)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        yield tiny
    finally:
        subprocess.run(["umount", str(tiny)], check=True)


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, capsys):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((30, 7, 7)))
    with small_disk(tmp_path, "1m") as tiny:
        assert main.main(["prepare", "fer2013", source, "--out", str(tiny / "out")]) == 1
        assert " MB are needed and " in capsys.readouterr().err
        assert os.listdir(str(tiny)) == []


def test_a_disk_that_gets_full_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((30, 7, 7)))
    monkeypatch.setattr(files, "require_space", lambda folder, needed: None)  # it was there a moment ago
    with small_disk(tmp_path, "120k") as tiny:
        assert main.main(["prepare", "fer2013", source, "--out", str(tiny / "out")]) == 1
        error = capsys.readouterr().err
        assert error.startswith("fer: {}: LMDB: ".format(tiny / "out")) and error.endswith(" are free on this disk\n")
        assert os.listdir(str(tiny)) == []


def test_the_whole_path(tmp_path):
    """As a person gives the commands, in a folder with a space, by relative paths."""
    (tmp_path / "my data").mkdir()
    small_data.write_csv(tmp_path / "my data" / "fer2013.csv", small_data.rows((16, 7, 7)))
    sets = [word for change in SMALL for word in ("--set", change)]

    def fer(*arguments):
        process = subprocess.run([sys.executable, "-m", "tools.cli"] + list(arguments), cwd=str(tmp_path / "my data"),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                                 env=dict(os.environ, PYTHONPATH=ROOT))
        # A busy machine takes long enough for a line on how far it is.
        said = [line for line in process.stderr.splitlines() if not re.match(r".+: (iteration )?\d+/\d+", line)]
        assert (process.returncode, said) == (0, [])
        return process.stdout
    assert "surprise" in fer("prepare", "fer2013", "fer2013.csv", "--out", "set")
    trained = fer("train", "xie2019a/fer2013-toy-center-gabor", "--data", "set", "--out", "run 1", *sets)
    assert trained.endswith("run 1/snapshots/iter_12.caffemodel\n")
    assert "of 7 images correct" in fer("evaluate", "run 1")
    assert fer("report", "run 1").strip() == os.path.join("run 1", "report.html")
    assert (tmp_path / "my data" / "run 1" / "report.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("words, said", [
    (["--gpu", "abc"], "argument --gpu: 'abc', expected the number of a card, such as 0; of several"),
    (["--gpu", "0,"], "argument --gpu: '0,', expected the number of a card"),
    (["--engine", "foo"], "argument --engine: "), (["--engine", "Torch"], "argument --engine: "),
    (["--precision", "tf32"], "argument --precision: tf32 needs --engine torch; Caffe computes in float32"),
    (["--precision", "bf16", "--engine", "caffe"], "argument --precision: bf16 needs --engine torch"),
    (["--precision", "half", "--engine", "torch"], "argument --precision: "),
    (["--engine", "torch", "--gpu", "0,1", "--engine", "caffe"], "argument --gpu: 0,1, expected the number of one"),
    (["--gpu", "0,1"], "argument --gpu: 0,1, expected the number of one card, such as 0; Caffe runs Python layers, "
     "which the nets here have, on one card only"), (["--gpu", ""], "argument --gpu: '', expected"),
    (["--threads", "9999"], "argument --threads: 9999, expected a whole number of at least 1 and at most 128"),
    (["--threads", "0"], "argument --threads: 0, expected a whole number of at least 1")])
def test_what_caffe_computes_with_is_looked_at_first(tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main.main(["train", "xie2019a/fer2013-toy-softmax", "--data", "d", "--out", str(tmp_path / "run")] + words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_evaluations_compute_on_the_card_that_is_asked_for(monkeypatch, capsys):
    """Not on that of the run, which another machine may have trained."""
    for name, value in (("FER_GPU", "7"), ("FER_ENGINE", "torch"), ("FER_PRECISION", "bf16")):
        monkeypatch.setenv(name, value)
    for words, device in ((["--gpu", "0"], Device(gpu="0")), ([], Device()),
                          (["--gpu", "1,2", "--precision", "tf32", "--engine", "torch"],
                           Device("torch", "1,2", "tf32")), (["--engine=torch"], Device("torch"))):
        for command in (["evaluate", "/nonexistent"], ["predict", "/nonexistent", "x.png"]):
            assert main.main([*command, *words]) == 1
            assert caffe_process.all_cores().device == device
    assert main.main(["watch", "/nonexistent"]) == 1  # takes no such options
    assert caffe_process.all_cores().device == Device()


@pytest.mark.parametrize("cards, expected", [(0, "0"), (1, "0"), (3, "0,1,2")])
def test_all_cards(tmp_path, monkeypatch, cards, expected):
    for number in range(cards):
        (tmp_path / f"nvidia{number}").write_text("")
    (tmp_path / "nvidiactl").write_text("")
    monkeypatch.setattr("tools.cli.arguments.CARDS", str(tmp_path / "nvidia[0-9]*"))
    for command in (["train", "r"], ["evaluate", "r"], ["demo"], ["reproduce", "t", "--data", "d", "--out", "o"]):
        options = main.parse([*command, "--gpu", "all", "--engine", "torch"])
        assert options.device(options) == Device("torch", expected)


@pytest.mark.parametrize("words", ["", "--gpu 0", "--gpu=3", "--gpu 0 --gpu=12", "--gp 0", "--g=0", "--gpus 0",
                                   "--engine torch --gpu 0,1", "--gpu=0,1,2 --engine=torch", "--engin torch",
                                   "--engine caffe --gpu 1 --engine torch", "--engine torch --gpu 1 --engine caffe"])
def test_the_launcher_shows_the_card_that_the_command_computes_on(words, capsys, monkeypatch):
    """Both read the command line: none may take an option that the other one passes over, such as a shortened one."""
    monkeypatch.syspath_prepend(os.path.join(ROOT, "env"))
    import gpu
    line = ["train", "runs/x", *words.split()]
    if re.search("--(g|gp|gpus|engin)[ =]", words):
        assert gpu.card(line) is None
        with pytest.raises(SystemExit) as ended:
            main.parse(line)
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith(f"fer: there is no option '{line[2].partition('=')[0]}'")
    else:
        options = main.parse(line)
        assert options.gpu == gpu.card(line) and (options.engine == "torch") == gpu.on_torch(line)


@pytest.mark.parametrize("line, said", [("evaluate none", "stopped"),
                                        ("train none --data none --out none", "stopped; the same command, given again, "
                                                                              "continues")])
def test_ctrl_c_while_modules_are_loaded_leaves_no_traceback(line, said):
    command = ("import signal, os; signal.signal(signal.SIGINT, signal.default_int_handler); "
               f"os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'tools.cli', *{line.split()!r}])")
    process = subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.PIPE, cwd=ROOT)
    maps = ""
    while "numpy" not in maps and process.poll() is None:
        with open(f"/proc/{process.pid}/maps") as stream:
            maps = stream.read()
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == f"fer: {said}\n".encode()
    assert process.returncode == 128 + signal.SIGINT


def test_options_with_several_values_take_them_in_one_way():
    """One or more after the option, which may be repeated."""
    common = {"train": ["e", "--data", "d", "--out", "o"], "reproduce": ["t", "--data", "d", "--out", "o"],
              "evaluate": ["r"], "prepare": ["ckplus", "CK+"], "features": ["--svm", "--data", "d"],
              "experiments": ["show", "e"]}
    values = {"--set": ["a=1", "b=2", "c=3"], "--seeds": ["1", "2", "3"], "--fold": ["1", "2", "3"],
              "--features": ["gsf", "sift", "gabor"]}
    seen = set()
    for command, words in common.items():
        parser = main.parse([command, *words]).parser
        for action in parser._actions:
            if action.nargs not in ("+", "*") or not action.option_strings:
                assert action.nargs is None or not action.option_strings or action.nargs == 0
                continue
            option, = action.option_strings
            one, two, three = values.get(option, ["a", "b", "c"])
            parsed = main.parse([command, *words, option, one, two, option, three])
            before = ["d"] if option == "--data" else []
            assert list(map(str, getattr(parsed, action.dest))) == [*before, one, two, three]
            assert "Takes one or more values, and may be repeated." in action.help
            seen.add((command, option))
    assert {option for _, option in seen} == {"--set", "--seeds", "--fold", "--features", "--without", "--data",
                                              "--weights", "--only"}


def test_features_without_a_value_are_none():
    for words, wanted in ((["--features"], []), ([], None), (["--features", "gsf"], ["gsf"])):
        assert main.parse(["prepare", "synthetic", *words]).features == wanted


@pytest.mark.parametrize("command", ("train", "reproduce", "evaluate", "watch", "experiments", "export", "convert-net"))
def test_help_loads_no_large_library(command):
    code = (f"import sys\nfrom tools.cli import main\ntry:\n    main.main([{command!r}, '--help'])\n"
            "except SystemExit:\n    pass\nprint(*sorted(sys.modules), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          encoding="utf-8", check=True)
    assert not {"caffe", "cv2", "scipy", "sklearn", "skimage", "matplotlib"} & set(done.stderr.split())


def test_an_unknown_option_has_close_matches(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["train", "e", "--data", "d", "--out", "o", "--wieghts", "w"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "fer: there is no option '--wieghts'; did you mean --weights? See ./fer train --help\n")


@pytest.mark.parametrize("error, said", [
    (MemoryError("Unable to allocate 1.5 GiB"), "Unable to allocate 1.5 GiB"),
    # As PyTorch says it of a card, with more lines below.
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB\nSee the documentation"),
     "CUDA out of memory. Tried to allocate 2.00 GiB")])
def test_too_little_memory_is_said_in_one_line(monkeypatch, capsys, error, said):
    def run(options):
        raise error
    monkeypatch.setattr(experiments, "run", run)
    assert main.main(["experiments"]) == 1
    assert capsys.readouterr().err == f"fer: out of memory: {said}\n"


def test_a_mistake_in_a_program_keeps_its_traceback(monkeypatch):
    def run(options):
        raise RuntimeError("expected scalar type Float but found Double")
    monkeypatch.setattr(experiments, "run", run)
    with pytest.raises(RuntimeError, match="expected scalar type"):
        main.main(["experiments"])


def test_a_reader_that_has_seen_enough_ends_it_quietly():
    process = subprocess.Popen([sys.executable, "-m", "tools.cli", "experiments"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, cwd=ROOT, bufsize=0)
    process.stdout.close()
    assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 141)


def test_what_was_renamed_to_a_name_that_is_no_text(tmp_path, capfd):
    """Caffe reads its paths from prototxts, and a report shows them: both are text in UTF-8."""
    bad = os.path.join(str(tmp_path), os.fsdecode(b"caf\xe9"))
    run, data = hand_made.run(tmp_path / "run", "xie2019a/fer2013-softmax"), str(tmp_path / "data")
    files.write_json(data + "/prepare.json", {"folds": []})
    for folder in (run, data):
        os.makedirs(bad, exist_ok=True)
        os.rename(folder, os.path.join(bad, os.path.basename(folder)))
    there = sorted(os.listdir(str(tmp_path)))
    name, out = "xie2019a/fer2013-toy-softmax", str(tmp_path / "out")
    for words in (["train", name, "--data", bad + "/data", "--out", out], ["evaluate", bad + "/run"],
                  ["train", name, "--data", bad + "/data", "--out", out, "--seeds", "1", "2"],
                  ["report", bad + "/run", "--out", out + ".html"], ["train", bad + "/run"],
                  ["report", str(tmp_path / "gone"), "--out", bad + "/report.html"]):
        assert main.main(words) == 1
        error = capfd.readouterr().err
        assert error.startswith(f"fer: {tmp_path}/caf") and error.endswith(
            ": its name, or that of a folder above it, is no text in UTF-8, which OpenCV, LMDB and Caffe need\n")
        assert error.count("\n") == 1 and sorted(os.listdir(str(tmp_path))) == there
