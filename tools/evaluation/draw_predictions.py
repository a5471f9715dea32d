"""Draws photographs with the predicted faces marked, and bars of their probabilities beside them; and the frames of
videos, with the bars inside, so that all frames keep their size."""
import functools
import os
from collections.abc import Sequence
from typing import Optional

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.evaluation.predicted_faces import FacePrediction

# Limits of the photograph's shorter and longer side in the picture: it is enlarged or shrunk.
SMALLEST, LARGEST = 420, 1400
# The panel beside the photograph: width and maximum number of columns, and margin.
WIDTH, COLUMNS, MARGIN = 300, 3, 16
ROW, TITLE, GAP = 21, 30, 18
BACKGROUND, INK, FAINT, TRACK = (250, 250, 250), (30, 30, 30), (110, 110, 110), (228, 228, 228)
# The colours of the faces in turn: Tableau's ten without the grey.
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189), (140, 86, 75),
           (227, 119, 194), (188, 189, 34), (23, 190, 207))
# Number of bars for a face, if no other is asked for.
BARS = 7
# Of the bars inside a frame: size of the letters as a share of the frame's shorter side and its limits in pixels, sizes
# in letters, and how opaque their ground is, of 255.
LETTER, LETTERS = 1 / 36, (9, 24)
NAMES_WIDE, BARS_WIDE, ROW_HIGH, OPAQUE = 6.0, 5.0, 1.35, 190


def draw(image: np.ndarray, predictions: Sequence[FacePrediction], classes: Sequence[str], top: Optional[int] = None
         ) -> np.ndarray:
    """The picture of an image and its predictions, uint8 (height, width, 3) BGR.

    image: uint8 (height, width, 3) BGR; predictions: one for each face, at least one; top: for how many classes a face
    has a bar, None for BARS at most.
    """
    scale = _scale(*image.shape[:2])
    photo = cv2.resize(image, tuple(max(1, round(scale * side)) for side in image.shape[1::-1]),
                       interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    height, width = photo.shape[:2]
    bar_count = min(top or BARS, len(classes))
    block = TITLE + bar_count * ROW + GAP
    rows = max((height - 2 * MARGIN) // block, -(-len(predictions) // COLUMNS))
    columns = -(-len(predictions) // rows)
    height = max(height, min(rows, len(predictions)) * block + 2 * MARGIN)
    picture = Image.new("RGB", (width + columns * WIDTH + MARGIN, height), BACKGROUND)
    picture.paste(Image.fromarray(photo[:, :, ::-1]), (0, 0))
    canvas = ImageDraw.Draw(picture)
    for number, face in enumerate(predictions):
        _mark(canvas, face, scale, width, _Title(number, len(predictions), classes[face.label], face))
        column, row = divmod(number, rows)
        _block(canvas, (width + MARGIN + column * WIDTH, MARGIN + row * block), face,
               _Title(number, len(predictions), classes[face.label], face), classes, bar_count)
    return np.ascontiguousarray(np.array(picture)[:, :, ::-1])


def draw_frame(image: np.ndarray, tracked: Sequence[tuple[int, FacePrediction]], classes: Sequence[str],
               top: Optional[int] = None) -> np.ndarray:
    """A frame of a video with its faces marked and a bar chart beside each of them, in its own size.

    image: uint8 (height, width, 3) BGR; tracked: (track, face), of which the number and the colour of the track mark
    the face; top: as of `draw`.
    """
    picture = Image.fromarray(image[:, :, ::-1])
    canvas = ImageDraw.Draw(picture, "RGBA")
    for track, face in tracked:
        # Always numbered, also a face that is alone in the frame.
        title = _Title(track - 1, 2, classes[face.label], face)
        _mark(canvas, face, 1, picture.width, title)
        _chart(canvas, picture.size, face, title, classes, min(top or BARS, len(classes)))
    return np.ascontiguousarray(np.array(picture)[:, :, ::-1])


def _chart(canvas: ImageDraw.ImageDraw, size: tuple[int, int], face: FacePrediction, title: "_Title",
           classes: Sequence[str], bar_count: int) -> None:
    """Draws the bars of a face's most probable classes inside a frame: to the right of the face, or to its left where
    there is more room. size: width and height of the frame."""
    letter = int(np.clip(LETTER * min(size), *LETTERS))
    font, names, bars, row = _font(letter), NAMES_WIDE * letter, BARS_WIDE * letter, ROW_HIGH * letter
    x, y, width, _ = face.box
    whole, gap = names + bars + letter, letter // 2
    left = x + width + gap
    if left + whole > size[0]:
        left = x - gap - whole if x > size[0] - x - width else size[0] - whole
    left, top = max(0, left), max(0, min(y, size[1] - bar_count * row - letter))
    canvas.rectangle([left, top, left + whole, top + bar_count * row + gap], fill=(*BACKGROUND, OPAQUE))
    for place, label in enumerate(sorted(face.ranked(bar_count))):
        at, first = top + gap / 2 + place * row, label == face.label
        canvas.text((left + gap, at), _fitting(canvas, classes[label], names - letter, font),
                    fill=INK if first else FAINT, font=font)
        length = face.probabilities[label] * bars
        if length >= 1:
            canvas.rectangle([left + names, at + 1, left + names + length, at + letter],
                             fill=title.colour if first else title.pale)


def _scale(height: int, width: int) -> float:
    return min(max(1.0, SMALLEST / min(height, width)), LARGEST / max(height, width))


@functools.lru_cache(maxsize=None)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


class _Title:
    """The title of a face in several lengths, from long to short, so that one fits. Faces are numbered if there are
    several."""

    def __init__(self, number: int, count: int, name: str, face: FacePrediction):
        prefix = f"{number + 1}: " if count > 1 else ""
        share = f" {100 * face.probabilities[face.label]:.0f} %"
        self.colour = COLOURS[number % len(COLOURS)]
        # Of the bars of the classes that are not predicted.
        self.pale = tuple((value + 210) // 2 for value in self.colour)
        self.texts = [prefix + name + share, prefix + name] + [str(number + 1)] * (count > 1)

    def fitting(self, canvas: ImageDraw.ImageDraw, width: float, font: ImageFont.FreeTypeFont) -> str:
        return next((text for text in self.texts if canvas.textsize(text, font=font)[0] <= width), self.texts[-1])


def _mark(canvas: ImageDraw.ImageDraw, face: FacePrediction, scale: float, right: int, title: _Title) -> None:
    """Draws the box and landmarks of a face, and its label above the box, or inside if there is no room above."""
    x, y, width, height = (value * scale for value in face.box)
    font = _font(int(np.clip(width / 9, 13, 24)), bold=True)
    if face.landmarks:
        canvas.rectangle([x, y, x + width, y + height], outline=title.colour, width=3)
        for point_x, point_y in np.reshape(face.landmarks, (5, 2)) * scale:
            canvas.ellipse([point_x - 2.5, point_y - 2.5, point_x + 2.5, point_y + 2.5], fill=title.colour,
                           outline="white")
    text = title.fitting(canvas, 1.2 * width, font)
    text_width, text_height = canvas.textsize(text, font=font)
    left = max(0, min(x, right - text_width - 10))
    top = y - text_height - 6 if y >= text_height + 6 else max(0, y)
    canvas.rectangle([left, top, left + text_width + 10, top + text_height + 6], fill=title.colour)
    canvas.text((left + 5, top + 2), text, fill="white", font=font)


def _block(canvas: ImageDraw.ImageDraw, corner: tuple[int, int], face: FacePrediction, title: _Title,
           classes: Sequence[str], bar_count: int) -> None:
    """Draws the bars of a face's most probable classes, in the order of the classes."""
    left, top = corner
    canvas.text((left, top), _fitting(canvas, title.texts[0], WIDTH - MARGIN, _font(17, bold=True)),
                fill=title.colour, font=_font(17, bold=True))
    font = _font(13)
    names, bars = 100, WIDTH - MARGIN - 100 - 50
    labels: list[int] = sorted(face.ranked(bar_count))
    for row, label in enumerate(labels):
        y = top + TITLE + row * ROW
        share, first = face.probabilities[label], label == face.label
        canvas.text((left, y), _fitting(canvas, classes[label], names - 8, font), fill=INK if first else FAINT,
                    font=font)
        canvas.rectangle([left + names, y + 2, left + names + bars, y + ROW - 6], fill=TRACK)
        if share * bars >= 1:
            canvas.rectangle([left + names, y + 2, left + names + share * bars, y + ROW - 6],
                             fill=title.colour if first else title.pale)
        canvas.text((left + names + bars + 6, y), f"{100 * share:.0f} %", fill=INK if first else FAINT,
                    font=font)


def _fitting(canvas: ImageDraw.ImageDraw, text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    if canvas.textsize(text, font=font)[0] <= width:
        return text
    while text and canvas.textsize(text + "…", font=font)[0] > width:
        text = text[:-1]
    return text + "…"
