"""A published table as text, Markdown and CSV, against what is written by hand."""
import csv
import dataclasses
import io
import textwrap

import pytest

from published import values
from tools.evaluation.departures import Departure
from tools.reproduce import tables
from tools.reproduce.results import Entry, Measured

BASE = dataclasses.replace(values.read("xie2019b")[0], **dict.fromkeys(values.BESIDE, ""), trained_on="",
                           system="own", unit="")
NET = Departure("net", "toy", "face_resnet")


def entry(row, column, value, correct=None, total=None, found=None, system="own", why="", departs=(), **beside):
    kind = "count" if total else "rate" if system == "other" else "class_mean"
    return Entry(dataclasses.replace(BASE, row=row, column=column, value=value, correct=correct, total=total, kind=kind,
                                     system=system, **beside), found and Measured(*found), why, departs, "")


@pytest.mark.parametrize("printed, found, difference", (
    (dict(value="62.5", correct=5, total=8), (62.5, 5, 8), "equal"),
    (dict(value="87.5", correct=7, total=8), (62.5, 5, 8), "-2"),
    (dict(value="50", correct=4, total=8), (62.5, 5, 8), "+1"),
    (dict(value="60.19", correct=None, total=None), (62.5, 5, 8), "+2.31 points"),
    (dict(value="62.5", correct=None, total=None), (62.5,), "+0.00 points")))
def test_difference(printed, found, difference):
    one = entry("a", "b", found=found, **printed)
    assert (one.comparable, one.difference) == (True, difference)
    # Where anything departs there is none, not even of equal figures.
    one = dataclasses.replace(one, departures=[NET])
    assert (one.comparable, one.difference) == (False, "")


def test_a_ratio_has_no_points():
    one = entry("a", "b", "1.14", found=(1.25,))
    assert dataclasses.replace(one, figure=dataclasses.replace(one.figure, kind="ratio")).difference == "+0.11"


def test_text_by_hand():
    table = [entry("Theirs [1]", "Rate (%)", "70.5", system="other", classes="7*", network="Two networks"),
             entry("Theirs [1]", "Rate (%), in brackets", "60", system="other", classes="7*", network="Two networks"),
             entry("Ours", "Baseline", "62.5", 5, 8, (50, 4, 8), classes="7", network="One network"),
             entry("Ours", "Rate (%)", "75", 6, 8, (75, 6, 8), classes="7", network="One network", departs=[NET]),
             entry("Again", "Baseline", "60.2", found=None, why="not measured", classes="7", network="One network"),
             entry("Again", "Rate (%)", "75", 6, 8, (75, 6, 8), classes="7", network="One network")]
    # The second column's heading stands before the first's, as in the paper: some row has both, in this order.
    text = tables.as_text("name", table).split("printed: the")
    assert text[0] == textwrap.dedent("""\
        name
                             classes  network       Baseline        Rate (%)
        Theirs [1]  quoted   7*       Two networks                  70.5
                                                                    60, in brackets
        Ours        printed  7        One network   62.5 (5/8)      75 (6/8)
                    here                            50.00 (4/8) -1  75.00 (6/8) [a]
        Again       printed  7        One network   60.2            75 (6/8)
                    here                            not measured    75.00 (6/8) equal

        """)
    assert text[1].endswith("\n[a] not compared: net: toy (paper: face_resnet)")


def test_a_wide_table_puts_differences_under_figures_and_then_comes_in_parts():
    table = [entry("A row", f"column {number}", "72.36", 2597, 3589, (72.41, 2599, 3589), classes="7")
             for number in range(1, 6)]
    narrow = tables.as_text("name", table, 120).split("\n\n")[0]
    assert narrow == "\n".join([
        "name",
        "                classes" + "".join(f"  column {number}         " for number in range(1, 6)).rstrip(),
        "A row  printed  7      " + "  72.36 (2597/3589)" * 5,
        "       here            " + "  72.41 (2599/3589)" * 5,
        "                       " + "  +2               " * 4 + "  +2"])
    parts = tables.as_text("name", table, 70).split("\n\n")[:-1]
    assert [part.split("\n")[0] for part in parts] == [
        "name, column 1 of 6", "name, columns 2 to 3 of 6", "name, columns 4 to 5 of 6", "name, column 6 of 6"]
    assert parts[2].split("\n")[1:] == [
        "                column 3           column 4",
        "A row  printed  72.36 (2597/3589)  72.36 (2597/3589)",
        "       here     72.41 (2599/3589)  72.41 (2599/3589)",
        "                +2                 +2"]


def test_long_headings_go_on_beside_what_was_measured():
    heading = "Fusing deep and hand-crafted features of many kinds"
    text = tables.as_text("name", [entry(heading, "Rate", "75", 6, 8, (75, 6, 8))])
    assert text.split("\n")[1:4] == [
        "                                       Rate",
        "Fusing deep and hand-crafted  printed  75 (6/8)",
        "features of many kinds        here     75.00 (6/8) equal"]


def test_figures_of_one_column_that_were_trained_on_different_data():
    table = [entry("Theirs", "MMI (CK+)", "51.1", system="other"),
             entry("Ours", "CK+ (MMI)", "77.02", 238, 309, (77.02, 238, 309)),
             entry("Ours", "MMI (CK+)", "60.0", 123, 205, (60, 123, 205))]
    assert tables.as_text("name", table).split("\n\n")[0] == textwrap.dedent("""\
        name
                         CK+                     MMI
        Theirs  quoted                           51.1, CK+
        Ours    printed  77.02 (238/309), MMI    60.0 (123/205), CK+
                here     77.02 (238/309) equal,  60.00 (123/205) equal,
                         MMI                     CK+""")


def test_markdown_by_hand():
    table = [entry("a|b", "Rate (%)", "75", 6, 8, (62.5, 5, 8), departs=[NET]),
             entry("a|b", "Rate (%), by one", "70", 7, 10, (70, 7, 10))]
    assert tables.as_markdown("name", table, ["a note"]).splitlines() == [
        "# name", "", "|  |  | Rate (%) |", "| --- | --- | --- |",
        "| a\\|b | printed | 75 (6/8)<br>70 (7/10), by one |",
        "|  | here | 62.50 (5/8) [a]<br>70.00 (7/10) equal, by one |", "", "- " + tables.LEGEND,
        "- [a] not compared: net: toy (paper: face_resnet)", "- a note"]


def test_csv_has_one_figure_a_line():
    table = [entry("Theirs", "Rate", "70.5", system="other", classes="7*"),
             entry("Ours", "Rate", "75", 6, 8, (62.5, 5, 8), departs=[NET, Departure("folds", "3 of 10", "10")]),
             entry("Ours", "Other", "75", 6, 8, (62.5, 5, 8)), entry("Ours", "Last", "75.2", why="no data")]
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(table))))
    names = ("row", "column", "system", "printed", "printed_correct", "printed_total", "measured", "correct", "total",
             "difference", "comparable", "departures", "classes")
    assert ["|".join(row[name] for name in names) for row in rows] == [
        "Theirs|Rate|other|70.5|||||||||7*",
        "Ours|Rate|own|75|6|8|62.5000|5|8||no|net: toy (paper: face_resnet); folds: 3 of 10 (paper: 10)|",
        "Ours|Other|own|75|6|8|62.5000|5|8|-1|yes||",
        "Ours|Last|own|75.2||||||||no data|"]


@pytest.mark.parametrize("name, heads, rows", (
    ("xie2019a-table2", ["W.O.", "GSF", "GABOR", "SIFT"],
     ["Hand-crafted Feat. (SVM)", "Deep Feat. (SVM)", "Deep Feat. (Softmax)"]),
    ("xie2019a-table12", ["images", "classes", "sequences", "protocol", "network", "Baseline (%)", "Recog. rate (%)"],
     ["Fine tuning 2015 [4]", "Spatial or temporal network 2017 [51]", "AU network 2013 [23]", "Deeper DNN 2016 [25]",
      "Multiscale active learning 2015 [3]", "De-expression residual learning 2018 [53]",
      "Adaptive deep metric 2017 [20]", "Ours (ALFW)", "Ours (ALAW)"]),
    ("xie2019b-table12", ["FER2013", "CK+", "Oulu-CASIA", "MMI"], ["FER2013", "CK+", "Oulu-CASIA", "MMI"]),
    ("xie2019b-table16", ["FER2013", "CK+", "Oulu-CASIA", "MMI"],
     ["LBP 2009 [60]", "Radial feature 2012 [58]", "Deeper DNN 2016 [55]", "Ours"]),
    ("liu2017-table4", ["AN", "DI", "FE", "HA", "NE", "SA", "SU"], ["AN", "DI", "FE", "HA", "NE", "SA", "SU"]),
    ("farzaneh2021-table2", ["Accuracy (%)"], [
        "pACNN [16]", "IPA2LT [36]", "IPFR [32]", "gACNN [17]", "separate loss [15]", "DDA loss [3]", "softmax loss",
        "center loss [35]", "DACL"]),
    ("wu2023-table4", ["CK+", "Oulu-CASIA"], [
        "NDFs no, SPL no", "NDFs no, SPL yes", "NDFs yes, SPL no", "NDFs yes, SPL yes"])))
def test_rows_and_columns_are_the_papers(name, heads, rows):
    paper, table = values.tables()[name]
    made = tables.grid([Entry(one) for one in values.read(paper) if one.table == table])
    assert made.heads == heads and [row.heading for row in made.rows] == rows


@pytest.mark.parametrize("name", values.tables())
def test_no_figure_is_lost_and_no_line_is_too_wide(name):
    paper, table = values.tables()[name]
    wanted = [one for one in values.read(paper) if one.table == table]
    filled = [Entry(one, None if one.system == "other" else Measured(97.35, 3456, 3589), "", [NET]) for one in wanted]
    made = tables.grid(filled)
    assert sum(len(cell) for row in made.rows for cell in row.printed[made.words:]) == len(wanted)
    assert sum(len(cell) for row in made.rows for cell in row.here) == sum(one.system != "other" for one in wanted)
    assert max(map(len, tables.as_text(name, filled).split("\n"))) <= 120
