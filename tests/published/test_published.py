"""The printed figures: complete, and what is called a count is one."""
import collections
import re
from fractions import Fraction

import pytest

from common import experiment, papers
from common.errors import UserError
from data_prep import datasets
from published import values

FIGURES = {paper: values.read(paper) for paper in papers.names()}
OURS = [(paper, figure) for paper in papers.names() for figure in FIGURES[paper] if figure.system != "other"]
ROWS = {
    "xie2019a": {"II": 11, "III": 8, "IV": 14, "V": 10, "VI": 12, "VII": 16, "VIII": 10, "IX": 14, "X": 25, "XI": 16,
                 "XII": 13},
    "xie2019b": {"2": 48, "3": 18, "4": 4, "5": 18, "6": 16, "7": 28, "8": 6, "9": 8, "10": 6, "11": 8, "12": 12,
                 "13": 49, "14": 36, "15": 16, "16": 12},
    "liu2017": {"1": 49, "2": 36, "3": 21, "4": 49, "5": 12},
    "farzaneh2021": {"1": 21, "2": 9},
    "wu2023": {"1": 10, "2": 9, "3": 9, "4": 8}}
# Unit and N of each data set of which a paper prints counts.
UNITS = {
    "fer2013-xie2019a": ("image", 3589), "ckplus-xie2019a": ("sequence", 415), "ckplus-xie2019b": ("sequence", 415),
    "oulu_casia-xie2019a": ("sequence", 480), "oulu_casia-xie2019a_vl": ("sequence", 480),
    "oulu_casia-xie2019b": ("sequence", 480), "ckplus-xie2019b_whole": ("sequence", 415),
    "oulu_casia-xie2019b_whole": ("sequence", 480), "mmi-xie2019b_whole": ("sequence", 205),
    "mmi-xie2019a": ("sequence", 205), "mmi-xie2019b": ("sequence", 205),
    "mmi-liu2017": ("image", 624), "sfew-liu2017": ("image", 436), "raf_db-farzaneh2021": ("image", 3068),
    "affectnet-farzaneh2021": ("image", 3500), "ckplus-wu2023": ("image", 981), "oulu_casia-wu2023": ("image", 1440),
    "raf_db-wu2023": ("image", 3068)}
# Nets trained on these have no neutral class, so that CK+'s 106 neutral units are left out of their test.
SIX_CLASSES = {"oulu_casia-xie2019b_whole", "mmi-xie2019b_whole"}
CKPLUS = {"An": 45, "Di": 59, "Fe": 25, "Ha": 69, "Sa": 28, "Su": 83}
# Units of each class; of [liu2017] Table 4 as its denominators have them, of 1 and 2 by sequences.
MATRICES = {
    ("xie2019b", "13"): dict(CKPLUS, Ne=106),
    ("xie2019b", "14"): CKPLUS,
    ("liu2017", "1"): {"AN": 45, "CO": 18, "DI": 59, "FE": 25, "HA": 69, "SA": 28, "SU": 83},
    ("liu2017", "2"): {"AN": 33, "DI": 32, "FE": 28, "HA": 42, "SA": 32, "SU": 41},
    ("liu2017", "4"): {"AN": 77, "DI": 23, "FE": 47, "HA": 73, "NE": 73, "SA": 57, "SU": 86}}
NOT_A_HUNDRED = {
    ("liu2017", "1", "CO"): "104.2", ("liu2017", "1", "FE"): "112", ("liu2017", "2", "DI"): "106",
    ("liu2017", "2", "SU"): "101.5", ("liu2017", "4", "AN"): "99.45", ("liu2017", "4", "DI"): "99.91"}
# No cell of theirs is called a count.
UNEXPLAINED_MATRICES = {("liu2017", "1"), ("liu2017", "2")}
# What is no count though it looks like one: paper, table, row, column, value; N, the nearest k, 100 k / N - value,
# and whether that k fits. Where some fit, others of the same kind don't.
NOT_COUNTS = [
    ("xie2019a", "VI", "Softmax (Baseline)", "MMI", "72.69", 205, 149, -0.0071, False),
    ("xie2019a", "XII", "Ours (ALFW)", "Baseline (%)", "72.69", 205, 149, -0.0071, False),
    ("xie2019a", "XII", "Ours (ALAW)", "Baseline (%)", "72.69", 205, 149, -0.0071, False),
    ("xie2019b", "4", "Value", "Softmax loss, Sensitivity", "83.71", 3589, 3004, -0.0098, False),
    ("xie2019b", "4", "Value", "Softmax loss, Specificity", "81.88", 3589, 2939, 0.0091, True),
    ("xie2019b", "4", "Value", "L2-sparseness and Softmax losses, Sensitivity", "84.77", 3589, 3042, -0.011, False),
    ("xie2019b", "4", "Value", "L2-sparseness and Softmax losses, Specificity", "85.72", 3589, 3076, -0.0137, False),
    ("xie2019b", "7", "SoftMax only", "MMI", "72.69", 205, 149, -0.0071, False),
    ("xie2019b", "12", "CK+", "FER2013", "39.72", 3589, 1426, 0.0125, False),
    ("xie2019b", "12", "CK+", "FER2013", "39.72", 2963, 1177, 0.0033, True),
    ("xie2019b", "12", "Oulu-CASIA", "FER2013", "54.19", 3589, 1945, 0.0034, True),
    ("xie2019b", "12", "Oulu-CASIA", "FER2013", "54.19", 2963, 1606, 0.0118, False),
    ("xie2019b", "12", "MMI", "FER2013", "60.19", 3589, 2160, -0.0061, False),
    ("xie2019b", "12", "MMI", "FER2013", "60.19", 2963, 1783, -0.0145, False),
    ("xie2019b", "15", "FER2013, MMI", "W-L2", "54.14", 3589, 1943, -0.0024, True),
    ("xie2019b", "15", "FER2013, MMI", "W-L2", "54.14", 2963, 1604, -0.0057, False),
    ("xie2019b", "15", "FER2013, MMI", "V-L2", "54.83", 3589, 1968, 0.0042, True),
    ("xie2019b", "15", "FER2013, MMI", "V-L2", "54.83", 2963, 1625, 0.0131, False),
    ("xie2019b", "15", "FER2013, MMI", "Dropout", "55.07", 3589, 1976, -0.0129, False),
    ("xie2019b", "15", "FER2013, MMI", "Dropout", "55.07", 2963, 1632, 0.0093, True),
    ("xie2019b", "15", "FER2013, MMI", "Ours", "60.19", 3589, 2160, -0.0061, False),
    ("xie2019b", "15", "FER2013, MMI", "Ours", "60.19", 2963, 1783, -0.0145, False),
    ("xie2019b", "15", "CK+, Oulu-CASIA", "V-L2", "82.17", 309, 254, 0.0306, False),
    ("xie2019b", "15", "CK+, Oulu-CASIA", "V-L2", "82.17", 415, 341, -0.0013, True),
    ("xie2019b", "16", "Ours", "FER2013 (CK+)", "39.72", 3589, 1426, 0.0125, False),
    ("xie2019b", "16", "Ours", "FER2013 (CK+)", "39.72", 2963, 1177, 0.0033, True),
    ("xie2019b", "16", "Ours", "FER2013 (MMI)", "60.19", 3589, 2160, -0.0061, False),
    ("xie2019b", "16", "Ours", "FER2013 (MMI)", "60.19", 2963, 1783, -0.0145, False),
    ("liu2017", "3", "1B(N+1)Softmax", "CK+", "93.21", 327, 305, 0.0622, False),
    ("liu2017", "3", "1B(N+1)Softmax", "CK+", "93.21", 981, 914, -0.0398, False),
    ("liu2017", "3", "2B(N+1)Softmax", "CK+", "94.3", 327, 308, -0.1104, False),
    ("liu2017", "3", "2B(N+1)Softmax", "CK+", "94.3", 981, 925, -0.0085, True),
    ("liu2017", "3", "1B(N+M)Softmax", "CK+", "96.55", 327, 316, 0.0861, False),
    ("liu2017", "3", "1B(N+M)Softmax", "CK+", "96.55", 981, 947, -0.0159, False),
    ("liu2017", "3", "2B(N+M)Softmax", "CK+", "97.1", 327, 318, 0.1477, False),
    ("liu2017", "3", "2B(N+M)Softmax", "CK+", "97.1", 981, 953, 0.0458, True),
    ("liu2017", "4", "AN", "AN", "66.24", 77, 51, -0.0062, False),
    ("liu2017", "4", "AN", "HA", "6.94", 77, 5, -0.4465, False),
    ("liu2017", "4", "AN", "SU", "10.69", 77, 8, -0.3004, False),
    ("liu2017", "4", "DI", "HA", "30.34", 23, 7, 0.0948, False),
    ("liu2017", "5", "1B(N+1)Softmax", "Validation", "49.77", 436, 217, 0.0006, True),
    ("liu2017", "5", "2B(N+1)Softmax", "Validation", "50.75", 436, 221, -0.0619, False),
    ("liu2017", "5", "1B(N+M)Softmax", "Validation", "53.36", 436, 233, 0.0804, False),
    ("liu2017", "5", "2B(N+M)Softmax", "Validation", "54.19", 436, 236, -0.0616, False),
    ("farzaneh2021", "1", "softmax loss", "Avg. Acc. (%)", "79.43", 3068, 2437, 0.0029, True),
    ("farzaneh2021", "1", "center loss [35]", "Avg. Acc. (%)", "79.71", 3068, 2446, 0.0162, False),
    ("farzaneh2021", "1", "DACL", "Avg. Acc. (%)", "80.44", 3068, 2468, 0.0033, True),
]
# The same figure, printed twice and not alike: (paper, table, row, column) of both.
CONTRADICTIONS = [
    (("xie2019a", "V", "SIFT, L2", "Recog. Rate (%, testing)"),
     ("xie2019a", "VI", "Feature loss with SIFT", "FER2013")),
    (("xie2019b", "12", "CK+", "MMI"), ("xie2019b", "16", "Ours", "MMI (CK+)"))]
# Experiments for which a paper prints two figures on one part.
PRINTED_TWICE = {("xie2019a/fer2013-center-norm-sift", "test"): {2571, 2572}}


def printed(paper, table, row, column):
    [found] = [figure for figure in FIGURES[paper] if (figure.table, figure.row, figure.column) == (table, row, column)]
    return found


def two_decimals(value):
    """The papers print two decimals; where fewer stand, zeros at the end were dropped."""
    whole, _, decimals = value.partition(".")
    return whole + "." + decimals.ljust(2, "0")


def matrix(paper, table):
    rows = collections.OrderedDict()
    for figure in FIGURES[paper]:
        if figure.table == table:
            rows.setdefault(figure.row, collections.OrderedDict())[figure.column] = figure
    return rows


@pytest.mark.parametrize("paper", papers.names())
def test_no_figure_is_missing_or_there_twice(paper):
    assert collections.Counter(figure.table for figure in FIGURES[paper]) == ROWS[paper]
    assert len({(figure.table, figure.row, figure.column) for figure in FIGURES[paper]}) == len(FIGURES[paper])


@pytest.mark.parametrize("paper", papers.names())
def test_a_count_is_the_only_one_that_gives_its_value(paper):
    for figure in FIGURES[paper]:
        if figure.kind == "count":
            assert figure.correct in values.counts(figure.value, figure.total), figure
            assert values.counts(two_decimals(figure.value), figure.total) == [figure.correct], figure


@pytest.mark.parametrize("data", UNITS)
def test_n_is_what_the_protocol_has(data):
    protocol = datasets.protocol(data)
    unit, total = UNITS[data]
    parts = {figure.split for _, figure in OURS if figure.data == data}
    if protocol.folds or data.endswith("_whole"):
        assert parts == {"test"} and unit == protocol.unit
        assert total == protocol.counts["units" if unit == "sequence" else "images"]
    else:
        assert parts and {protocol.counts[part] for part in parts} == {total}


def test_counts_are_of_the_whole_set_or_of_a_class():
    for paper, figure in OURS:
        if figure.kind == "count":
            unit, total = UNITS[figure.data]
            if (paper, figure.table) in MATRICES:
                total = MATRICES[paper, figure.table][figure.row]
            elif figure.data == "ckplus-xie2019b_whole" and figure.trained_on in SIX_CLASSES:
                total = sum(CKPLUS.values())
            assert (figure.unit, figure.total) == (unit, total), figure


# Table -> other people's rows and figures, and the columns beside them.
SEQUENCES = "images classes sequences protocol network"
COMPARISONS = {
    ("xie2019a", "IX"): (6, 10, "network external_data"),
    ("xie2019a", "X"): (17, 21, "images classes subjects protocol network"),
    ("xie2019a", "XI"): (5, 8, "images classes subjects protocol network"),
    ("xie2019a", "XII"): (7, 9, SEQUENCES),
    ("xie2019b", "8"): (4, 5, "network fine_tuning"),
    ("xie2019b", "9"): (6, 7, "images classes subjects protocol network fine_tuning"),
    ("xie2019b", "10"): (4, 5, "images classes subjects protocol network fine_tuning"),
    ("xie2019b", "11"): (6, 7, SEQUENCES + " fine_tuning"),
    ("xie2019b", "16"): (3, 5, ""),
    ("liu2017", "3"): (8, 13, ""), ("liu2017", "5"): (8, 8, ""),
    ("farzaneh2021", "1"): (10, 15, ""), ("farzaneh2021", "2"): (6, 6, ""),
    ("wu2023", "1"): (7, 7, "setting"), ("wu2023", "2"): (6, 6, "setting"), ("wu2023", "3"): (7, 7, "setting")}


def test_what_stands_beside_other_peoples_figures():
    found = {}
    for paper in papers.names():
        for table in ROWS[paper]:
            every = [figure for figure in FIGURES[paper] if figure.table == table]
            others = [figure for figure in every if figure.system == "other"]
            # The authors' own rows have the same columns, and all figures of a row the same text in them.
            beside = {figure.row: [getattr(figure, name) for name in values.BESIDE] for figure in every}
            assert all([getattr(figure, name) for name in values.BESIDE] == beside[figure.row] for figure in every)
            columns = {tuple(name for name in values.BESIDE if getattr(figure, name)) for figure in every}
            assert len(columns) == 1, (paper, table)
            if others:
                found[paper, table] = (len({figure.row for figure in others}), len(others), " ".join(columns.pop()))
            else:
                assert columns == {()}
    assert found == COMPARISONS


@pytest.mark.parametrize("paper, table, row, expected", (
    ("xie2019a", "IX", "Fusing external database 2015 [47]", "Two networks|Social relation dataset"),
    ("xie2019a", "IX", "Ours (ALAW)", "One network|Face recognition model"),
    ("xie2019a", "X", "Deeper DNN 2016 [25]", "The Peak|6|106|5F|One network"),
    ("xie2019a", "X", "Discriminant graph structures 2008 [55]", "-|6|-|5F|Non"),
    ("xie2019a", "X", "Spatial-temporal recurrent network 2017 [26]", "Temporal|7*|118|10F|Two networks"),
    ("xie2019a", "X", "Feature loss with HoloNet 2018 [27]", "Three Peak|7|106|10F|-"),
    ("xie2019a", "X", "Ours (ALFW)", "Three Peak|7|106|10F|One network"),
    ("xie2019a", "XI", "AdaBP 2011 [43], Strong-VIS", "Temporal (Strong-VIS)|6|480|10F|Non"),
    ("xie2019a", "XII", "Deeper DNN 2016 [25]", "-|6|79|5F|One network"),
    ("xie2019a", "XII", "De-expression residual learning 2018 [53]", "Three Peak|6|208|10F|Two networks"),
    ("xie2019b", "8", "DNN with SVM 2013 [56]", "1|Fine tuning with SVM's objective"),
    ("xie2019b", "9", "Radial feature 2012 [58]", "Five images|7|94|10F|Non|-"),
    ("xie2019b", "10", "Ours, Strong-NIR", "Three peak (Strong-NIR)|6|480|10F|1|FER2013 model"),
    ("xie2019b", "11", "AU network 2013 [59]", "Three peak|7|205|10F|1|Logistic regression"),
    ("wu2023", "1", "DTAGN [43] (2015)", "sequence-based"), ("wu2023", "2", "SPNDL", "image-based")))
def test_beside_figures_as_printed(paper, table, row, expected):
    figure = next(one for one in FIGURES[paper] if (one.table, one.row) == (table, row))
    assert "|".join(text for text in (getattr(figure, name) for name in values.BESIDE) if text) == expected


def test_data_sets_exist():
    for _, figure in OURS:
        for data in {figure.data, figure.trained_on} - {""}:
            name, _, protocol = data.partition("-")
            assert protocol in datasets.module(name).PROTOCOLS, figure
    for paper in papers.names():
        for figure in FIGURES[paper]:
            if figure.system == "other":
                assert figure.kind == "rate" and figure.data in datasets.NAMES, figure
            else:
                assert figure.kind != "rate", figure


def test_each_figure_has_its_experiment():
    measured = collections.defaultdict(set)
    for paper, figure in OURS:
        # Handcrafted features by themselves take no training.
        assert bool(figure.experiment) != figure.row.startswith("Hand-crafted"), figure
        if figure.experiment:
            assert figure.experiment.split("/")[0] == paper
            assert experiment.load(figure.experiment).data == (figure.trained_on or figure.data), figure
            if figure.measure == "accuracy" and not figure.trained_on:
                measured[figure.experiment, figure.split].add(
                    figure.value if figure.correct is None else figure.correct)
    assert {key: found for key, found in measured.items() if len(found) > 1} == PRINTED_TWICE


def test_each_experiment_has_a_figure_but_those_of_toys_pictures_and_first_stages():
    named = {figure.experiment for _, figure in OURS}
    first = {stage.name for name in named - {""} for stage in experiment.stages(experiment.load(name))}
    left = [name for name in experiment.names() if name not in named | first]
    # Of [xie2019b] Fig. 9 and [wu2023] Fig. 6; Table 4 has no row of its own for raf_db's.
    assert all(re.search("-toy-|/synthetic-|/fer2013-norm-|/raf_db-without-neutral", name) for name in left), left


def test_what_is_measured():
    kinds = collections.defaultdict(set)
    for _, figure in OURS:
        kinds[figure.measure].add(figure.kind)
    assert kinds.pop("accuracy") | kinds.pop("confusion") == {"count", "fold_mean", "unexplained"}
    assert kinds == {"svm": {"count"}, "respond_ratio": {"ratio"}, "average_accuracy": {"class_mean"},
                     "sensitivity": {"class_mean"}, "specificity": {"class_mean"},
                     "accuracy_without_neutral": {"unexplained"}, "accuracy_neutral_wrong": {"unexplained"}}
    assert {figure.measure for paper in papers.names() for figure in FIGURES[paper] if figure.system == "other"} == {""}


def test_neutral_images_are_wrong_only_where_all_3589_explain_the_figure():
    """Of nets without a neutral class."""
    of_all = [(figure.value, len(values.counts(figure.value, 3589))) for _, figure in OURS
              if figure.data == "fer2013-xie2019a" and figure.trained_on in SIX_CLASSES
              and figure.measure == "accuracy_neutral_wrong"]
    assert of_all == [("54.19", 1), ("54.14", 1), ("54.83", 1)]


def test_names_of_tables():
    tables = values.tables()
    assert tables["xie2019a-table7"] == ("xie2019a", "VII") and tables["xie2019a-table12"] == ("xie2019a", "XII")
    assert tables["xie2019a-table9"] == ("xie2019a", "IX") and tables["wu2023-table4"] == ("wu2023", "4")
    assert len(tables) == sum(map(len, ROWS.values()))


@pytest.mark.parametrize("paper, table", MATRICES)
def test_a_row_of_a_confusion_matrix_is_a_hundred_and_its_class(paper, table):
    sizes = MATRICES[paper, table]
    assert list(matrix(paper, table)) == list(sizes)
    for row, cells in matrix(paper, table).items():
        assert list(cells) == list(sizes)
        total = sum(Fraction(cell.value) for cell in cells.values())
        some = sum(cell.value != "0" for cell in cells.values())
        digit = Fraction(1, 10) if (paper, table) in UNEXPLAINED_MATRICES else Fraction(1, 100)
        # Each cell is cut, by less than a digit, or rounded, by up to half of one.
        if 100 - some * digit < total <= 100 + some * digit / 2:
            assert (paper, table, row) not in NOT_A_HUNDRED
        else:
            assert total == Fraction(NOT_A_HUNDRED[paper, table, row])
        if all(cell.kind == "count" for cell in cells.values()):
            assert sum(cell.correct for cell in cells.values()) == sizes[row]


def test_confusion_matrices_against_the_accuracy_beside_them():
    def right(paper, table):
        return sum(values.nearest(cells[row].value, MATRICES[paper, table][row])[0]
                   for row, cells in matrix(paper, table).items())

    for table, row in (("13", "FER2013"), ("14", "Oulu-CASIA")):
        assert printed("xie2019b", "12", row, "CK+").correct == right("xie2019b", table)
        assert printed("xie2019b", "12", row, "CK+").total == sum(MATRICES["xie2019b", table].values())
    # [liu2017] Table 4 is all 436 images, but 56.65 of it, where Table 5 prints 54.19.
    assert sum(MATRICES["liu2017", "4"].values()) == 436 and right("liu2017", "4") == 247
    assert 247 not in values.counts(printed("liu2017", "5", "2B(N+M)Softmax", "Validation").value, 436)


@pytest.mark.parametrize("table, fitting", (("1", {1: 3, 2: 6, 3: 4}), ("2", {1: 0, 2: 4, 3: 1})))
def test_most_rows_of_liu2017_fit_twice_the_sequences(table, fitting):
    """Rows all of whose cells are parts of 1, 2 or 3 times the class's sequences; three images of each are tested."""
    assert {times: sum(all(values.counts(cell.value, times * MATRICES["liu2017", table][row])
                           for cell in cells.values()) for row, cells in matrix("liu2017", table).items())
            for times in fitting} == fitting


def test_no_size_fits_all_of_sfew():
    shares = [figure.value for _, figure in OURS if figure.data == "sfew-liu2017" and figure.table == "5"]
    assert max(sum(bool(values.counts(share, total)) for share in shares) for total in range(350, 450)) == 2


@pytest.mark.parametrize("paper, table, row, column, value, total, k, residual, fits", NOT_COUNTS)
def test_what_is_no_count(paper, table, row, column, value, total, k, residual, fits):
    figure = printed(paper, table, row, column)
    assert figure.value == value and figure.kind in ("fold_mean", "class_mean", "unexplained")
    found, difference = values.nearest(value, total)
    assert (found, round(difference, 4), bool(values.counts(value, total))) == (k, residual, fits)


def test_nothing_else_is_no_count():
    listed = {key[:5] for key in NOT_COUNTS}
    for paper, figure in OURS:
        key = (paper, figure.table, figure.row, figure.column, figure.value)
        if (paper, figure.table) in UNEXPLAINED_MATRICES:
            assert figure.kind == "unexplained"
        else:
            assert (key in listed) == (figure.kind not in ("count", "ratio")), figure
    assert {figure.table for paper, figure in OURS if figure.kind == "ratio"} == {"2"}


@pytest.mark.parametrize("one, other", CONTRADICTIONS)
def test_contradictions(one, other):
    one, other = printed(*one), printed(*other)
    assert one.kind == other.kind == "count" and one.correct != other.correct
    assert (one.data, one.trained_on, one.split) == (other.data, other.trained_on, other.split)


@pytest.mark.parametrize("value, total, expected", (
    ("66.67", 3, [2]), ("66.66", 3, [2]), ("66.65", 3, []), ("66.7", 3, [2]), ("66.6", 3, [2]), ("67", 3, [2]),
    ("66", 3, [2]), ("0", 3, [0]), ("100", 3, [3]), ("0.00", 3, [0]), ("100.00", 3, [3]),
    ("72.0", 3589, [2583, 2584, 2585, 2586, 2587]), ("72.00", 3589, [2584]), ("72.69", 205, []),
    ("12.5", 8, [1]), ("12", 8, [1]), ("13", 8, [1]), ("11", 8, []), ("100", 150, [150]), ("99", 150, [148, 149]),
    ("0.63", 480, [3]), ("0.62", 480, [3])))
def test_counts_by_hand(value, total, expected):
    assert values.counts(value, total) == expected


@pytest.mark.parametrize("total", (1, 7, 205, 333))
@pytest.mark.parametrize("decimals", (0, 1, 2))
def test_counts_find_each_k_and_no_other(total, decimals):
    found = collections.defaultdict(set)
    for k in range(total + 1):
        exact = Fraction(100 * k * 10 ** decimals, total)
        for digits in (int(exact), int(exact + Fraction(1, 2))):
            text = str(digits).rjust(decimals + 1, "0")
            found[text[:-decimals] + "." + text[-decimals:] if decimals else text].add(k)
    for value, expected in found.items():
        assert values.counts(value, total) == sorted(expected)


def test_nearest():
    k, residual = values.nearest("72.69", 205)
    assert k == 149 and residual == pytest.approx(149 / 2.05 - 72.69)
    assert values.nearest("100", 7) == (7, 0) and values.nearest("0", 7) == (0, 0)


def changed(tmp_path, old, new):
    with open(papers.get("wu2023").published, encoding="utf-8") as stream:
        text = stream.read()
    assert old in text
    (tmp_path / "wu2023.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    return str(tmp_path / "wu2023.csv")


@pytest.mark.parametrize("old, new, message", (
    ("table,row", "tabel,row", "wu2023.csv:1: columns tabel,row"),
    ("1,STM-E [9] (2014),", "STM-E [9] (2014),", "wu2023.csv:2: 22 cells, expected 23"),
    ("1,STM-E", ",STM-E", "wu2023.csv:2: table is missing"),
    (",94.19,", ",,", "wu2023.csv:2: value is missing"),
    (",94.19,", ",94.19%,", "wu2023.csv:2: value is '94.19%', expected a number"),
    (",rate,", ",rates,", "wu2023.csv:2: kind is 'rates', expected one of count, fold_mean"),
    (",other,", ",others,", "wu2023.csv:2: system is 'others'"),
    (",test,", ",train,", "wu2023.csv:2: split is 'train'"),
    (",rate,,,", ",rate,image,,", "wu2023.csv:2: unit is 'image'; a count has"),
    (",rate,,,", ",rate,,5,", "wu2023.csv:2: correct is '5'; a count has"),
    (",image,957,981,", ",image,957,,", "wu2023.csv:9: total is ''; a count has"),
    (",image,957,981,", ",picture,957,981,", "wu2023.csv:9: unit is 'picture'"),
    (",image,957,981,", ",image,95.7,981,", "wu2023.csv:9: correct is '95.7', expected a whole number"),
    (",image,957,981,", ",image,982,981,", "wu2023.csv:9: 982 correct of 981")))
def test_refuses(tmp_path, old, new, message):
    with pytest.raises(UserError) as error:
        values.read("wu2023", changed(tmp_path, old, new))
    assert message in str(error.value)


def test_refuses_an_unknown_paper():
    with pytest.raises(UserError, match="no paper 'xie2020'; expected one of xie2019a, xie2019b"):
        values.read("xie2020")
