"""Photographs with the predicted faces marked, and the bars of their probabilities beside them."""
import os
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.evaluation.predict import Prediction

# Sides of the photograph in the picture: a small one is enlarged, a large one shrunk.
SMALLEST, LARGEST = 420, 1400
# The panel beside it: a column's width, and at most so many columns.
WIDTH, COLUMNS, MARGIN = 300, 3, 16
ROW, TITLE, GAP = 21, 30, 18
BACKGROUND, INK, FAINT, TRACK = (250, 250, 250), (30, 30, 30), (110, 110, 110), (228, 228, 228)
# Of the faces in turn: Tableau's ten, without the grey.
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189), (140, 86, 75),
           (227, 119, 194), (188, 189, 34), (23, 190, 207))
BARS = 7


def draw(image: np.ndarray, predictions: Sequence[Prediction], classes: Sequence[str]) -> np.ndarray:
    """image: uint8 (height, width, 3) BGR; predictions: of its faces, at least one. Returns the picture, BGR."""
    scale = _scale(*image.shape[:2])
    photo = cv2.resize(image, tuple(max(1, round(scale * side)) for side in image.shape[1::-1]),
                       interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    height, width = photo.shape[:2]
    shown = min(BARS, len(classes))
    block = TITLE + shown * ROW + GAP
    rows = max((height - 2 * MARGIN) // block, -(-len(predictions) // COLUMNS))
    columns = -(-len(predictions) // rows)
    height = max(height, min(rows, len(predictions)) * block + 2 * MARGIN)
    picture = Image.new("RGB", (width + columns * WIDTH + MARGIN, height), BACKGROUND)
    picture.paste(Image.fromarray(photo[:, :, ::-1]), (0, 0))
    canvas = ImageDraw.Draw(picture)
    for number, one in enumerate(predictions):
        _mark(canvas, one, scale, width, _Title(number, len(predictions), classes[one.label], one))
        column, row = divmod(number, rows)
        _block(canvas, (width + MARGIN + column * WIDTH, MARGIN + row * block), one,
               _Title(number, len(predictions), classes[one.label], one), classes, shown)
    return np.ascontiguousarray(np.array(picture)[:, :, ::-1])


def _scale(height: int, width: int) -> float:
    return min(max(1.0, SMALLEST / min(height, width)), LARGEST / max(height, width))


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans{}.ttf".format("-Bold" if bold else "")
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


class _Title:
    """What a face of several, or a single one, is called; from long to short, so that one fits."""

    def __init__(self, number: int, count: int, name: str, one: Prediction):
        prefix = f"{number + 1}: " if count > 1 else ""
        share = f" {100 * one.probabilities[one.label]:.0f} %"
        self.colour = COLOURS[number % len(COLOURS)]
        self.texts = [prefix + name + share, prefix + name] + [str(number + 1)] * (count > 1)

    def fitting(self, canvas: ImageDraw.ImageDraw, width: float, font: ImageFont.FreeTypeFont) -> str:
        return next((text for text in self.texts if canvas.textsize(text, font=font)[0] <= width), self.texts[-1])


def _mark(canvas: ImageDraw.ImageDraw, one: Prediction, scale: float, right: int, title: _Title) -> None:
    """Box and landmarks of a face, and its label above the box, or inside where there is no room above."""
    x, y, width, height = (value * scale for value in one.box)
    font = _font(int(np.clip(width / 9, 13, 24)), bold=True)
    if one.landmarks:
        canvas.rectangle([x, y, x + width, y + height], outline=title.colour, width=3)
        for point_x, point_y in np.reshape(one.landmarks, (5, 2)) * scale:
            canvas.ellipse([point_x - 2.5, point_y - 2.5, point_x + 2.5, point_y + 2.5], fill=title.colour,
                           outline="white")
    text = title.fitting(canvas, 1.2 * width, font)
    text_width, text_height = canvas.textsize(text, font=font)
    left = max(0, min(x, right - text_width - 10))
    top = y - text_height - 6 if y >= text_height + 6 else max(0, y)
    canvas.rectangle([left, top, left + text_width + 10, top + text_height + 6], fill=title.colour)
    canvas.text((left + 5, top + 2), text, fill="white", font=font)


def _block(canvas: ImageDraw.ImageDraw, corner: tuple[int, int], one: Prediction, title: _Title,
           classes: Sequence[str], shown: int) -> None:
    """The bars of a face's most probable classes, in the order of the classes."""
    left, top = corner
    canvas.text((left, top), _fitting(canvas, title.texts[0], WIDTH - MARGIN, _font(17, bold=True)),
                fill=title.colour, font=_font(17, bold=True))
    font = _font(13)
    names, bars = 100, WIDTH - MARGIN - 100 - 50
    chosen: list[int] = sorted(one.ranked()[:shown])
    for row, label in enumerate(chosen):
        y = top + TITLE + row * ROW
        share, first = one.probabilities[label], label == one.label
        canvas.text((left, y), _fitting(canvas, classes[label], names - 8, font), fill=INK if first else FAINT,
                    font=font)
        canvas.rectangle([left + names, y + 2, left + names + bars, y + ROW - 6], fill=TRACK)
        if share * bars >= 1:
            canvas.rectangle([left + names, y + 2, left + names + share * bars, y + ROW - 6],
                             fill=title.colour if first else tuple((value + 210) // 2 for value in title.colour))
        canvas.text((left + names + bars + 6, y), f"{100 * share:.0f} %", fill=INK if first else FAINT,
                    font=font)


def _fitting(canvas: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if canvas.textsize(text, font=font)[0] <= width:
        return text
    while text and canvas.textsize(text + "…", font=font)[0] > width:
        text = text[:-1]
    return text + "…"
