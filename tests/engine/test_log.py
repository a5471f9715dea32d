"""Lines of the engine's log. That our parser reads them as it reads Caffe's is in test_commands.py."""
import os
import re
import subprocess
import sys
import time

from engine import log

from . import programs


def test_the_form_is_that_of_glog(capfd, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1764437060123456789)
    monkeypatch.setattr(time, "localtime", time.gmtime)
    monkeypatch.setattr(os, "getpid", lambda: 77)
    log.info("solver.cpp:218", "Iteration 0, loss = 1")
    log.fatal("no such file ü \udcff")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "I1129 17:24:20.123456    77 solver.cpp:218] Iteration 0, loss = 1"
    assert err.splitlines()[1].startswith("F1129 17:24:20.123456    77 engine] no such file ü ")


def test_the_time_is_the_local_one(capfd, monkeypatch):
    monkeypatch.setenv("TZ", "XYZ-5")  # five hours before Greenwich
    time.tzset()
    monkeypatch.setattr(time, "time_ns", lambda: 1764437060123456789)
    log.info("a.cpp:1", "x")
    monkeypatch.undo()
    time.tzset()
    assert capfd.readouterr().err.startswith("I1129 22:24:20.123456 ")


def test_caffes_own_lines_have_this_form(tmp_path):
    err = programs.run("caffe", tmp_path, "time", "-model", "nothing")[2]
    assert re.match(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} [ \d]{5} caffe.cpp:343\] Use CPU\.\n", err), err
    pattern = re.compile(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} [ \d]{5} caffe.cpp:343\] Use CPU\.\n")
    assert pattern.match(programs.run("engine", tmp_path, "time", "-model", "nothing")[2])


def test_goes_on_when_nobody_reads():
    """And its end is clean: Python's own stream would fail once more there."""
    code = "from engine import log\nfor _ in range(5000): log.info('a', 'b' * 99)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, cwd=programs.ROOT)
    process.stderr.close()
    assert process.wait(60) == 0
