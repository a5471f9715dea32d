"""Faces that are followed over frames; the expected tracks are worked out by hand."""
import pytest

from tools.evaluation.tracking import Tracker, overlap


@pytest.mark.parametrize("one, other, expected", [
    ((0, 0, 10, 10), (0, 0, 10, 10), 1),
    ((0, 0, 10, 10), (5, 0, 10, 10), 50 / 150),
    ((0, 0, 10, 10), (5, 5, 10, 10), 25 / 175),
    ((0, 0, 10, 10), (2, 2, 4, 5), 20 / 100),
    ((0, 0, 10, 10), (10, 0, 10, 10), 0),  # they touch
    ((0, 0, 10, 10), (30, 30, 10, 10), 0),  # apart in both directions: two negative sides
    ((0, 0, 10, 10), (3, 3, 0, 5), 0)])
def test_overlap(one, other, expected):
    assert overlap(one, other) == overlap(other, one) == pytest.approx(expected)


def at(x, y=0):
    return (x, y, 10, 10)


def followed(frames, **settings):
    tracker = Tracker(**{"patience": 1, **settings})
    return [tracker.update(boxes) for boxes in frames]


def test_faces_that_pass_each_other_keep_their_tracks():
    """One moves right by 2, the other left by 2, half a face lower: at the closest, a face overlaps by 8/12 with itself
    and by at most 5/15 with the other one. The detector changes their order."""
    frames = [[at(0), at(8, 5)], [at(6, 5), at(2)], [at(4), at(4, 5)], [at(2, 5), at(6)], [at(8), at(0, 5)]]
    assert followed(frames) == [[1, 2], [2, 1], [1, 2], [2, 1], [1, 2]]


def test_the_largest_overlap_is_joined_first():
    """The face at 0 overlaps 7/13 with the box at 3, but the face at 4 overlaps 9/11 with it. The face at 0 gets what
    is left, at -4 with 6/14, though the box at 3 came first in the list."""
    assert followed([[at(0), at(4)], [at(3), at(-4)]]) == [[1, 2], [2, 1]]


def test_a_track_takes_one_box_only():
    assert followed([[at(0)], [at(1), at(2)]]) == [[1], [1, 2]]
    assert followed([[at(0)], [at(2), at(1)]]) == [[1], [2, 1]]


def test_the_least_overlap():
    """5/15 is a third."""
    assert followed([[at(0)], [at(5)]], least=.33) == [[1], [1]]
    assert followed([[at(0)], [at(5)]], least=.34) == [[1], [2]]


def test_a_gap_up_to_the_patience():
    assert followed([[at(0)], [], [], [at(1)]], patience=2) == [[1], [], [], [1]]
    assert followed([[at(0)], [], [], [at(1)]], patience=1) == [[1], [], [], [2]]
    assert followed([[at(0)], [], [at(1)], [], [at(2)]], patience=1) == [[1], [], [1], [], [1]]


def test_one_leaves_and_another_enters():
    """Another place, another track, also while the first one is waited for; numbers are not used again."""
    frames = [[at(0), at(50)], [at(50)], [at(50), at(100)], [at(50), at(0)], [at(0), at(100)]]
    assert followed(frames) == [[1, 2], [2], [2, 3], [2, 4], [4, 3]]
