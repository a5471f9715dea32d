"""The engine's command line. What `caffe` accepts and refuses is asked of `caffe` itself."""
import re
import subprocess

import pytest

from engine import flags


@pytest.mark.parametrize("line", [
    "train -solver s -gpu 0", "train --solver s --gpu=0", "-solver=s train -gpu=0", "--gpu 0 -solver s train"])
def test_flags_and_commands_in_any_order(line):
    command, options = flags.parse(line.split())
    assert (command, options.solver, options.gpu, options.iterations, options.level) == ("train", "s", "0", 50, 0)


def test_values():
    options = flags.parse(["time", "-model", "a=b c", "-level", "-2", "-iterations=7", "-stage=", "-phase", "TEST",
                           "-iterations", "8"])[1]
    assert (options.model, options.level, options.iterations) == ("a=b c", -2, 8)
    assert (options.stage, options.phase, options.precision) == ("", "TEST", "float32")
    assert flags.parse(["train", "-solver", "s", "-precision=bf16"])[1].precision == "bf16"
    assert flags.parse(["train", "-solver", "-x"])[1].solver == "-x"


@pytest.mark.parametrize("line, said", [
    ("", "expected a command: train, test, time, device_query"),
    ("trian", "there is no command 'trian'; did you mean train?"),
    ("train x -solver s", "2 commands (train x), expected one of train, test, time, device_query"),
    ("train", "train needs -solver, the solver's prototxt"),
    ("test -model m", "test needs -weights"),
    ("test -weights m", "test needs -model, the net's prototxt"),
    ("time", "time needs -model"),
    ("train -solvr s", "there is no flag '-solvr'; did you mean -solver?"),
    ("train -solver", "flag -solver has no value, expected the solver's prototxt"),
    ("train -solver s -snapshot a -weights b", "-snapshot and -weights, expected one of them"),
    ("time -model m -iterations x", "-iterations 'x', expected a whole number"),
    ("time -model m -iterations 0", "-iterations 0, expected at least 1"),
    ("time -model m -iterations", "flag -iterations has no value"),
    ("time -model m -phase train", "-phase 'train', expected one of TRAIN, TEST"),
    ("train -solver s -sigint_effect quit", "-sigint_effect 'quit', expected one of snapshot, stop, none"),
    ("train -solver s -sighup_effect=", "-sighup_effect '', expected one of"),
    ("train -solver s -precision fp16", "-precision 'fp16', expected one of float32, tf32, bf16"),
    ("time -model m -gpu 0,1", "-gpu 0,1: time computes on one card, expected its number, such as 0"),
    ("test -model m -weights w -gpu all", "-gpu all: test computes on one card"),
    ("train -solver s -gpu 0,2,0", "-gpu 0,2,0 names a card twice"),
    ("train -solver s -gpu 0,", "-gpu 0,, expected the number of a card, such as 0, several, such as 0,1, or all"),
    ("train -solver s -gpu -1", "-gpu -1, expected the number of a card, such as 0")])
def test_wrong_usage(line, said):
    with pytest.raises(flags.WrongUsage) as error:
        flags.parse(line.split())
    assert str(error.value).startswith(said)


def test_the_flags_and_their_defaults_are_caffes():
    text = subprocess.run(["caffe"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True).stdout
    text = text.partition("tools/caffe.cpp:")[2].partition("Flags from")[0]
    found = {name: default.strip('"') for name, default in re.findall(
        r'(?m)^    -(\w+) \((?:.|\n)*?default:\s+("\w*"|\d+)', text)}
    assert found == {name: str(default) for name, (default, _) in flags.FLAGS.items() if name != "precision"}


def test_help_shows_each_flag_and_an_example_of_each_command():
    text = flags.usage()
    for name in flags.FLAGS:
        assert re.search(rf"(?m)^  -{name} ", text)
    for command in flags.COMMANDS:
        assert re.search(rf"(?m)^  {command} ", text)
        assert f"  python3 -m engine {command} " in text
    assert "(default: 50)" in text and "(default: stop)" in text
    for line in re.findall(r"(?m)^  python3 -m engine (.*)$", text):
        flags.parse(line.split())
