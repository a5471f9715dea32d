"""Predictions for the faces in a video: followed over its frames, drawn into them, and over time."""
import functools
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from matplotlib.axes import Axes

from common import files, progress
from common.errors import UserError
from tools.evaluation import draw_predictions, predicted_faces, video
from tools.evaluation.predict import Predictor, Source
from tools.evaluation.predicted_faces import FacePrediction
from tools.evaluation.tracking import Tracker
from tools.evaluation.video import Video
from tools.report import figures, pictures

# The track of a face ends if it is unseen for longer than this many seconds.
PATIENCE = 1.0
# First columns of the CSV.
COLUMNS = ("video", "frame", "time", "track")
# Maximum number of tracks in the picture, the size of a panel in inches, and dots per inch.
PANELS, PANEL, DPI = 12, (8.5, 2.4), 110


@dataclass(frozen=True)
class Sighting:
    """A face in a frame."""

    # Number of the frame, from 0.
    frame: int
    # Seconds from the beginning of the video.
    time: float
    # Number of the track, from 1.
    track: int
    face: FacePrediction


def sightings(predictor: Predictor, film: Video, every: int, problems: list[str]) -> Iterator[Sighting]:
    """The faces of every n-th frame, in the order of the frames. problems: gets a message for each face that cannot be
    registered. Raises UserError if the video is cut or damaged."""
    tracker = Tracker(patience=max(1, round(PATIENCE * film.rate / every)))
    frames: deque[tuple[int, float]] = deque()

    def sources() -> Iterator[Source]:
        for frame in film.frames(every):
            frames.append((frame.number, frame.time))
            yield f"{film.path}: frame {frame.number}", functools.partial(np.asarray, frame.image)
    with progress.bar("predicting", -(-film.count // every)) as bar:
        for seen in predictor.each(sources()):
            problems += seen.problems
            number, time = frames.popleft()
            for track, face in zip(tracker.update([face.box for face in seen.faces]), seen.faces):
                yield Sighting(number, time, track, face)
            bar.update()


def tracks(seen: Iterable[Sighting]) -> dict[int, list[Sighting]]:
    """The sightings of each track, in their order."""
    found: dict[int, list[Sighting]] = {}
    for one in seen:
        found.setdefault(one.track, []).append(one)
    return found


def lines(path: str, seen: Sequence[Sighting], classes: Sequence[str], top: Optional[int] = None) -> Iterator[str]:
    """A line of text for each track, with the means of its probabilities."""
    for track, of_track in tracks(seen).items():
        first, last = of_track[0], of_track[-1]
        mean = replace(first.face, probabilities=tuple(np.mean([one.face.probabilities for one in of_track], axis=0)))
        yield "{} track {}, {:.2f} to {:.2f} s, {} frame{}: {}".format(
            path, track, first.time, last.time, len(of_track), "s" * (len(of_track) > 1),
            predicted_faces.shares(mean, classes, top))


def described(one: Sighting, classes: Sequence[str], top: Optional[int] = None) -> dict[str, Any]:
    """A face in a frame for JSON."""
    return {"frame": one.frame, "time": round(one.time, 4), "track": one.track,
            **predicted_faces.described(one.face, classes, top)}


def draw(path: str, film: Video, every: int, seen: Sequence[Sighting], classes: Sequence[str],
         top: Optional[int] = None) -> None:
    """Writes the whole video, without sound, with the faces marked. Between the frames with predictions, a box moves
    from one to the next, and the probabilities stay. Raises UserError as `video.writing`."""
    by_frame = {number: {one.track: one.face for one in group}
                for number, group in itertools.groupby(seen, lambda one: one.frame)}
    with video.writing(path, film.average) as write, progress.bar("drawing", film.count) as bar:
        for frame in film.frames():
            steps, since = divmod(frame.number, every)
            before, after = (by_frame.get(number * every, {}) for number in (steps, steps + 1))
            tracked = [(track, _between(face, after.get(track, face), since / every))
                       for track, face in before.items()]
            write(draw_predictions.draw_frame(frame.image, tracked, classes, top) if tracked else frame.image)
            bar.update()


def _between(before: FacePrediction, after: FacePrediction, share: float) -> FacePrediction:
    """A face on its way from one place to the next. share: of the way, from 0 to 1."""
    def moved(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
        return tuple((1 - share) * a + share * b for a, b in zip(one, other))
    return replace(before, box=moved(before.box, after.box),
                   landmarks=moved(before.landmarks or (), after.landmarks or ()) or None)


def plot(path: str, every: int, seen: Sequence[Sighting], classes: Sequence[str], top: Optional[int] = None
         ) -> Optional[str]:
    """Writes a PNG of the probabilities over time, with a panel for each track, in the order in which they begin. Of
    many tracks, the PANELS longest are shown, and a sentence that says so is returned. top: how many classes a panel
    shows, those with the largest means."""
    found = tracks(seen)
    longest = sorted(found, key=lambda track: -len(found[track]))[:PANELS]

    def panel(track: int) -> Any:
        return lambda axes: _panel(found[track], track, every, classes, top, axes).set_xlim(*_limits(seen))
    figure = figures.side_by_side([panel(track) for track in sorted(longest)], 1, PANEL)
    pictures.write(figure, path, alone=True, dpi=DPI, metadata={"Software": files.SIGNATURE})
    return None if len(longest) == len(found) else f"{path}: shows the {PANELS} longest of {len(found)} tracks"


def _panel(of_track: Sequence[Sighting], track: int, every: int, classes: Sequence[str], top: Optional[int],
           axes: Axes) -> Axes:
    times: list[float] = []
    rows: list[Sequence[float]] = []
    for before, one in zip([None, *of_track], of_track):
        if before and one.frame - before.frame > every:  # unseen in between: no line
            times.append(before.time)
            rows.append([np.nan] * len(classes))
        times.append(one.time)
        rows.append(one.face.probabilities)
    shares = np.array(rows)
    shown = sorted(np.argsort(-np.nanmean(shares, axis=0), kind="stable")[:top])
    figures.over_time(times, shares[:, shown], [classes[label] for label in shown], f"track {track}", axes)
    return axes


def _limits(seen: Sequence[Sighting]) -> tuple[float, float]:
    """The same seconds in all panels."""
    margin = max(0.1, 0.02 * (seen[-1].time - seen[0].time))
    return seen[0].time - margin, seen[-1].time + margin


def require_plot(path: str) -> None:
    """Raises UserError if `plot` cannot write there."""
    if not path.lower().endswith(".png"):
        raise UserError(f"{path}: expected the name of a picture to write, which ends in .png")
    files.require_replaceable(path, alone=True)
