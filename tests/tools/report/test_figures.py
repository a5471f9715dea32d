"""What is drawn is what was given."""
import numpy as np
import pytest

from tools.report import figures


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_mosaic_by_hand():
    """Three maps in two columns, of a pixel a cell and gaps of one."""
    maps = np.array([[[0, 1], [2, 4]], [[-5, -5], [-5, 5]], [[7, 7], [7, 7]]], float)
    white = 255
    assert figures.mosaic(maps, columns=2, tile=2, gap=1).tolist() == [
        [0, 63, white, 0, 0],
        [127, 255, white, 0, 255],
        [white] * 5,
        [0, 0, white, white, white],
        [0, 0, white, white, white]]


def test_heat_map_colours_the_mask_alone():
    face = np.array([[10, 20, 30, 40]], np.uint8)
    response = np.array([[9.0, 1.0, 2.0, 3.0]])
    found = figures.heat_map(face, response, np.array([[False, True, False, True]]))
    assert (found[0, 0] == 10).all() and (found[0, 2] == 30).all()
    blue, green, red = found[0, 1].astype(int)
    assert red > 140 and green > 140 and blue < 30
    blue, green, red = found[0, 3].astype(int)
    assert red > 140 and green < 30 and blue < 30
    assert (face == [[10, 20, 30, 40]]).all()


def test_heat_map_without_responses():
    face = np.full((2, 2), 9, np.uint8)
    assert (figures.heat_map(face, np.zeros((2, 2)), np.zeros((2, 2), bool)) == 9).all()


def test_repetitions_say_mean_and_variance():
    """40, 42 and 44 %: mean 42, variance (4 + 0 + 4) / 2."""
    figure = figures.repetitions([("softmax", [0.40, 0.42, 0.44]), ("GABOR", [0.5])])
    assert texts(figure) == ["42.00\nvariance 4.00", "50.00\nvariance 0.00"]
    assert figures.deviation([40, 42, 44]) == pytest.approx(2)


def test_confusion_matrix_in_shares_of_the_true_class():
    figure = figures.confusion_matrix({"confusion": [[3, 1], [0, 0]], "classes": ["a", "b"]})
    assert texts(figure) == ["75\n(3)", "25\n(1)"]


def test_curves_keep_a_run_s_colour():
    axes = figures.curves([figures.Curve("a", [(0, 1), (5, 2)], 1, thin=True), figures.Curve("b", [(0, 3)], 1)],
                          "loss").axes[0]
    assert [line.get_color() for line in axes.lines] == [figures.COLORS[1]] * 2
    assert list(axes.lines[0].get_ydata()) == [1, 2]
