"""Follows faces over the frames of a video by the overlap of their boxes."""
from collections.abc import Sequence
from dataclasses import dataclass

# Least overlap (intersection over union) of a face's boxes in two frames.
LEAST = 0.3

# x, y, width, height.
Box = Sequence[float]


def overlap(one: Box, other: Box) -> float:
    """The area that two boxes share, as a part of the area that they cover together: from 0 to 1."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


@dataclass
class _Track:
    number: int
    # Where the face was last seen.
    box: Box
    # How many frames ago that was.
    unseen: int = 0


class Tracker:
    """Gives each face the number of its track, from 1 in the order in which they begin.

    patience: for how many frames a face may be unseen until its track ends; a face that comes later begins a new one.
    """

    def __init__(self, patience: int, least: float = LEAST):
        self._patience, self._least = patience, least
        self._tracks: list[_Track] = []
        self._begun = 0

    def update(self, boxes: Sequence[Box]) -> list[int]:
        """The track of each box of the next frame. Of all pairs of a track and a box, the one that overlaps most is
        joined first, and so on; a box without a track begins one."""
        for track in self._tracks:
            track.unseen += 1
        pairs = sorted(((overlap(track.box, box), track, place) for track in self._tracks
                        for place, box in enumerate(boxes)), key=lambda pair: -pair[0])
        joined: dict[int, _Track] = {}
        for share, track, place in pairs:
            if share >= self._least and track.unseen and place not in joined:
                joined[place] = track
                track.box, track.unseen = boxes[place], 0
        for place, box in enumerate(boxes):
            if place not in joined:
                self._begun += 1
                joined[place] = _Track(self._begun, box)
                self._tracks.append(joined[place])
        self._tracks = [track for track in self._tracks if track.unseen <= self._patience]
        return [joined[place].number for place in range(len(boxes))]
