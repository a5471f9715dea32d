"""The demo, from the synthetic faces to the page: the whole of it, as a person runs it."""
import re

import pytest

from common import files
from tools.cli import main


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    assert main.main(["demo", "--out", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^(softmax.*?)\s+([\d.]+)% \((\d+)/70\)\s+([\d.]+)% \((\d+)/70\)$", out, re.MULTILINE)
    assert [row[0] for row in rows] == ["softmax", "softmax + center + GABOR"]
    # Ten persons that neither net has seen, seven classes: chance is 10 of 70.
    assert all(int(row[4]) > 25 for row in rows)
    page = tmp_path / "demo" / "report.html"
    assert f"report: {page}" in out and page.exists()
    metrics = files.read_json(str(tmp_path / "demo" / "synthetic-toy-softmax" / "metrics.json"))
    assert (metrics["unit"], metrics["total"], metrics["correct"]) == ("sequence", 70, int(rows[0][4]))
    # Again: everything is there, and the same comes out.
    assert main.main(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert capsys.readouterr().out == out
