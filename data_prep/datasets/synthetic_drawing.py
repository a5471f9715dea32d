"""Draws a face, from the traits of a person (`synthetic_person`) and action units to pixels.

Coordinates are face units: one unit is a pixel of the image at scale 1; x goes to the right of the image, y goes down,
and the origin lies between the eyes. The coordinates of paired parts are those of the right side of the image. Side 0
is the left, side 1 the right. Colours are BGR.
"""
import functools
from dataclasses import dataclass
from typing import Callable, Optional

import cv2
import numpy as np
from numpy.random import RandomState

SIDE = 256
PUPIL, CAVITY, TEETH, TONGUE = (20, 18, 24), (28, 18, 52), (222, 234, 240), (95, 85, 190)
# In face widths.
HAIRLINE_X = (-1, -.82, -.45, 0, .45, .82, 1)


@dataclass(frozen=True)
class Hair:
    """A hair style, in face units."""

    # Height over the skull.
    height: float
    # Width over the temples.
    width: float
    # y of the ends beside the face.
    end: float
    # y of the ends behind the neck; 0 for no hair there.
    behind: float
    # y of the hairline at HAIRLINE_X.
    hairline: tuple[float, ...]


STYLES: dict[str, Optional[Hair]] = {
    "bald": None,
    "buzz": Hair(4, 2, -8, 0, (-8, -40, -60, -62, -60, -40, -8)),
    "short": Hair(13, 5, 0, 0, (0, -36, -54, -57, -54, -36, 0)),
    "side": Hair(18, 6, 4, 0, (4, -34, -62, -58, -46, -34, 4)),
    "fringe": Hair(14, 8, 12, 0, (12, -26, -39, -41, -39, -26, 12)),
    "receding": Hair(9, 5, 2, 0, (2, -40, -76, -58, -76, -40, 2)),
    "bun": Hair(9, 3, -4, 0, (-4, -38, -60, -66, -60, -38, -4)),
    "curly": Hair(20, 13, 22, 40, (22, -34, -52, -55, -52, -34, 22)),
    "bob": Hair(14, 13, 66, 84, (66, -14, -40, -43, -40, -14, 66)),
    "long": Hair(15, 10, 60, 120, (60, -10, -48, -64, -48, -10, 60)),
}
CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 28)), np.sin(np.linspace(0, 2 * np.pi, 28))], -1)
ACROSS = np.linspace(-1, 1, 25)
FLIP = np.array([(-1, 1), (1, 1)])  # by side


def draw(person, units, sequence, instant) -> tuple[np.ndarray, np.ndarray]:
    """The image and the landmarks, as `synthetic.draw_face` returns them.

    person: of `synthetic_person`; units: intensity of each action unit on each side, (2, 28); sequence, instant: random
    generators of the sequence and of the frame.
    """
    light = sequence.uniform(-np.pi, 0), sequence.uniform(.05, .28), sequence.normal(1, .06)
    gaze = sequence.normal(0, .9, 2)
    pen = _Pen(sequence, instant)
    _head(pen, person, units, light)
    nose = _nose(pen, person, units)
    corners = _mouth(pen, person, units)
    for side in (0, 1):
        _eye(pen, person, units[side], side, gaze)
        _brow(pen, person, units[side], side)
    _hair(pen, person)
    _glasses(pen, person)
    landmarks = np.concatenate([FLIP * (person.eye_x, 0), [nose], corners])
    return _expose(pen.image, light, instant), pen.pixels(landmarks).astype(np.float32)


class _Pen:
    """Draws in face units, in the pose of the sequence, on a canvas of twice the size of the image."""

    def __init__(self, sequence: RandomState, instant: RandomState):
        angle = np.radians(np.clip(sequence.normal(0, 2.5), -6, 6) + instant.normal(0, .3))
        size = .98 * np.clip(sequence.normal(1, .02), .96, 1.04)
        self.rotation = size * np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
        self.shift = np.clip(sequence.normal(0, 2.5, 2), -5, 5) + instant.normal(0, .4, 2) + (127.5, 113)
        self.turn = np.clip(sequence.normal(0, .35, 2), -.8, .8) * (9, 5)  # of the head
        self.image = np.empty((2 * SIDE, 2 * SIDE, 3), np.uint8)
        # The shading of the skin, where 128 is none: broad shadows and lights, and folds.
        self.soft = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
        self.folds = np.full((SIDE, SIDE), 128, np.uint8)

    def pixels(self, points) -> np.ndarray:
        """Points in pixels of the image, of points in face units. The middle of the face moves most with the turn."""
        depth = np.maximum(1 - ((points - (0, 20)) / (92, 120)) ** 2, 0).prod(-1)
        return (points + depth[..., None] * self.turn) @ self.rotation + self.shift

    def _fixed(self, points, scale) -> list[np.ndarray]:
        """One or several polygons in the fixed-point numbers of OpenCV, with 4 fractional bits."""
        points = self.pixels(np.asarray(points, float))
        fixed = np.rint(((points + .5) * scale - .5) * 16).astype(np.int32)
        return list(fixed.reshape((-1,) + fixed.shape[-2:]))

    def fill(self, points, colour) -> None:
        cv2.fillPoly(self.image, self._fixed(points, 2), tuple(map(float, colour)), cv2.LINE_AA, 4)

    def line(self, points, colour, width: float) -> None:
        cv2.polylines(self.image, self._fixed(points, 2), False, tuple(map(float, colour)),
                      max(1, int(2 * width + .5)), cv2.LINE_AA, 4)

    def shade(self, points, amount: float) -> None:
        """Adds a broad shadow (amount below 0) or light."""
        cv2.fillPoly(self.soft, self._fixed(points, .5), 128 * (1 + amount), cv2.LINE_AA, 4)

    def fold(self, points, depth: float, width: int) -> None:
        if depth > .05:
            cv2.polylines(self.folds, self._fixed(_smooth(points), 1), False, 128 - 60 * min(depth, 1.2),
                          width, cv2.LINE_AA, 4)

    def model(self, outline) -> None:
        """Applies the shading within the outline to the canvas."""
        self.soft[cv2.fillPoly(0 * self.soft, self._fixed(outline, .5), 255, shift=4) == 0] = 128
        soft = cv2.resize(cv2.GaussianBlur(self.soft, (0, 0), 4), (SIDE, SIDE))
        shading = cv2.multiply(soft, cv2.GaussianBlur(self.folds, (0, 0), 1), scale=1 / 128)
        cv2.multiply(self.image, cv2.merge([cv2.resize(shading, None, fx=2, fy=2)] * 3), self.image, 1 / 128)

    def inside(self, outline, paint: Callable[[], None]) -> None:
        """Runs `paint`, and undoes what it paints outside of the outline, by up to 30 units."""
        outline, = self._fixed(outline, 2)
        x, y, width, height = cv2.boundingRect(outline // 16)
        x, y, right, bottom = max(x - 60, 0), max(y - 60, 0), x + width + 60, y + height + 60
        area = self.image[y:bottom, x:right]
        before, mask = area.copy(), np.zeros_like(area)
        paint()
        cv2.fillPoly(mask, [outline - np.int32((16 * x, 16 * y))], (255, 255, 255), cv2.LINE_AA, 4)
        area[:] = cv2.add(cv2.multiply(area, mask, scale=1 / 255),
                          cv2.multiply(before, 255 - mask, scale=1 / 255))


def mix(first, second, share) -> np.ndarray:
    return np.asarray(first) * (1 - share) + np.asarray(second) * share


@functools.cache
def _spline(count: int, closed: bool) -> np.ndarray:
    """The matrix that maps `count` points to points on the Catmull-Rom curve through them."""
    points = np.eye(count)
    ends = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    points = np.concatenate([ends[0], points, ends[1]])
    a, b, c, d = (points[i:len(points) - 3 + i, None] for i in range(4))
    t = np.arange(0, 1, 1 / 6)[:, None]
    curve = b + .5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([curve.reshape(-1, count), ends[1][:1]])


def _smooth(points, closed: bool = False) -> np.ndarray:
    return _spline(len(points), closed) @ np.asarray(points, float)


def _ellipse(x, y, width, height) -> np.ndarray:
    return CIRCLE * (width, height) + (x, y)


def _pair(points) -> np.ndarray:
    return np.asarray(points) * FLIP[:, None]


def _jaw_drop(units) -> float:
    return 12 * units[:, 26].mean() + 17 * units[:, 27].mean()


def _head(pen, person, units, light) -> None:
    skin, w, drop = person.skin, person.face, _jaw_drop(units)
    backdrop = person.backdrop * np.linspace(1.08, .88, 2 * SIDE)[:, None, None]
    pen.image[:] = cv2.resize(np.clip(backdrop, 0, 255).astype(np.uint8), (2 * SIDE, 2 * SIDE))
    hair = STYLES[person.style]
    if hair:
        _hair_behind(pen, person, hair)
    pen.fill(_smooth([(-.6 * w, 60), (-.6 * w, 125), (-140, 165), (140, 165), (.6 * w, 125), (.6 * w, 60)]),
             skin * .84)
    pen.fill(_smooth([(-170, 240), (-125, 146), (-.55 * w, 132), (0, 158), (.55 * w, 132), (125, 146),
                      (170, 240)]), person.shirt)
    pen.fill(_pair(_ellipse(w, person.ear_y, 9, 19)), skin * .93)
    pen.line(_pair(_ellipse(w + 1, person.ear_y, 5, 12)), skin * .72, 1)
    right = np.array([(.52 * w, person.top_y + 7), (person.temple * w, -36), (w, 8),
                      (person.jaw * w, 66 + .4 * drop), (person.chin, person.chin_y - 9 + drop)])
    outline = _smooth([(0, person.top_y), *right, (0, person.chin_y + drop), *(right[::-1] * (-1, 1))], True)
    pen.fill(outline + (0, 5), skin * .66)  # the shadow below the chin
    pen.fill(outline, skin)
    for x, y in person.freckles:
        pen.fill(_ellipse(x * 48, 26 + y * 14, 1.1, 1.1), skin * .8)
    if person.beard in ("stubble", "full"):
        jaw = outline[outline[:, 1] > 24]
        jaw = jaw[np.argsort(jaw[:, 0] / (jaw[:, 1] - 20))]  # from the left over the chin to the right
        top = _smooth(np.multiply([(1.8, .6), (1.55, .9), (1.25, .78), (0, .8), (-1.25, .78), (-1.55, .9),
                                   (-1.8, .6)], (person.mouth, person.mouth_y)))
        pen.fill(np.concatenate([jaw, top]), mix(skin, person.hair, .85 if person.beard == "full" else .25))

    away = -np.sign(np.cos(light[0]))
    pen.shade(_smooth([(away * .55 * w, -90), (away * .75 * w, 0), (away * .5 * w, 130), (away * 140, 130),
                       (away * 140, -90)]), -.9 * light[1])
    pen.shade(_pair(_ellipse(person.eye_x - 4, -4, person.eye_width + 5, 12)), -.13 - .1 * person.age)
    pen.shade(_pair(_ellipse(.74 * w, 56, 11, 20)), -.06 - .2 * person.cheek)
    pen.shade(_ellipse(0, person.top_y + 34, 34, 12), .06)
    pout = units[:, 17].mean()
    pen.shade(_ellipse(0, person.mouth_y + 21 + .8 * drop - 4 * pout, 17, 5), -.16 - .1 * pout)
    pen.shade(_ellipse(0, person.chin_y - 14 + drop, 14, 8), .07)
    for side, au in enumerate(units):
        pen.shade(_ellipse(.58 * w, 30 - 6 * au[6] - 3 * au[12], 15, 11) * FLIP[side], .07 + .13 * au[6])
        for points, depth, width in _folds(person, au, drop):
            pen.fold(points * FLIP[side], depth, width)
    pen.model(outline)


def _folds(person, au, drop):
    """The folds of one side: a list of (points, depth, width)."""
    age, old, lift = person.age, max(person.age - .3, 0), max(au[10], .9 * au[9])
    mouth, y, chin, brow = person.mouth, person.mouth_y, person.chin_y + drop, person.brow_y
    eye, corner, deep = person.eye_x, person.eye_x + person.eye_width, .5 + age
    folds = [
        # between the brows; from the nose past the mouth; below the eye
        ([(4.5, brow - 4), (4, brow + 4), (5, brow + 11)], .15 * old + .65 * au[4], 2),
        ([(person.nose_width + 3, person.nose_y - 4 - 5 * lift),
          (mouth + 5 + 8 * au[12], y - 16 - 5 * lift - 5 * au[12]),
          (mouth + 12 + 9 * au[12], y - 1 - 5 * lift - 3 * au[12])],
         .06 + .4 * age + .6 * au[12] + .65 * lift, 2),
        ([(eye - 13, 10), (eye, 15 - 3 * au[6]), (eye + 14, 9)],
         .1 + .4 * age + .45 * au[6] + .15 * au[7], 2),
        # below the mouth's corner; beside it; the chin's dimples
        ([(mouth + 3, y + 7), (mouth + 7, y + 15), (mouth + 7, y + 25)], .2 * old + .6 * au[15], 2),
        ([(mouth + 16, y - 8), (mouth + 21, y + 8), (mouth + 17, y + 24)], .6 * au[20], 2),
        ([(3, chin - 20), (7, chin - 18)], .5 * au[17], 2),
        ([(1, chin - 11), (5, chin - 10)], .5 * au[17], 2)]
    for row in (17, 26, 35):  # the forehead's middle goes with AU1, its sides with AU2
        inner, outer = brow - row - 4 * au[1], brow - row - 4 * au[2]
        folds += [([(0, inner), (10, inner + .3), (20, inner + 1.3)], .25 * old + .42 * au[1] * deep, 1),
                  ([(20, outer + 1.3), (34, outer), (47, outer + 5)], .25 * old + .42 * au[2] * deep, 1)]
    for slope in (-.6, 0, .5):  # crow's feet
        folds += [([(corner + 5, 2 + 4 * slope), (corner + 16, 3 + 14 * slope)],
                   .3 * old + .6 * au[6] * deep, 1)]
    for x, y in ((3, 3), (5.5, 11), (6.5, 18)):  # on the root of the nose
        folds += [([(0, y + 1), (x, y - 3), (x + 4, y - 1)], .5 * au[9], 1)]
    return folds


def _nose(pen, person, units) -> tuple[float, float]:
    """Draws the nose and returns its tip."""
    skin, y = person.skin, person.nose_y - 3 * units[:, 9].mean()
    for au, flip, tone in zip(units, FLIP, (.93, .86)):
        w, base = person.nose_width * (1 + .12 * au[9] + .05 * au[12]), y - 3 * au[9] - 1.5 * au[10]
        bridge = _smooth([(person.nose_bridge + 2, 2), (person.nose_bridge, y * .45), (w * .55, y - 11)])
        wing = _smooth([(w - 4, base - 9), (w, base - 3), (w - 2, base + 3), (w - 6, base + 4), (4, y + 8)])
        pen.line(bridge * flip, skin * tone, 1.6)
        pen.line(wing * flip, skin * .7, 1.5)
        pen.fill(_ellipse(w * .46, base + 3.5, w * .21, 2.1) * flip, skin * .38)
    pen.fill(_ellipse(-1, y - 4, 3.4, 2.6), mix(skin, (255, 255, 255), .22))
    return 0, y


def _mouth(pen, person, units) -> list[tuple[float, float]]:
    """Draws the mouth and returns its corners."""
    au, sides, drop, t = units.mean(0), units.T, _jaw_drop(units), np.abs(ACROSS)
    width = person.mouth * (1 + .2 * sides[12] + .24 * sides[20] - .12 * sides[23]
                            - .12 * sides[26] - .2 * sides[27])
    corner = (person.mouth_y + person.mouth_curve + .5 * drop
              - 12 * sides[12] + 10 * sides[15] + 3 * sides[20] - 2 * sides[10])
    middle = person.mouth_y - .6 * person.mouth_curve + 2 * au[12] - 3.5 * au[17] - 2 * au[15] - 1.5 * au[10]
    x = ACROSS * np.where(ACROSS < 0, *width)
    seam = mix(middle, np.where(ACROSS < 0, *corner), t ** 1.7)
    # AU10 and AU20 make the opening square; the jaw alone makes it round.
    opening = 1 - t ** (2 + 1.4 * au[10] + 2.2 * au[20] + .7 * au[26] + .8 * au[27])
    gap = 5.5 * au[25] * (1 + .5 * au[12]) + .9 * drop
    rise = .1 * gap + .15 * drop + 4.5 * au[10] * (.35 + au[25]) + 2 * au[12] * au[25]
    thin = 1 - .5 * au[23] - .22 * au[12] - .2 * au[20]
    bow = (1 - t ** 1.6) * (1 - .3 * np.exp(-(t / .16) ** 2))
    upper_lip = person.upper_lip * thin * bow
    lower_lip = person.lower_lip * thin * (1 + .25 * au[17]) * (1 - t ** 2)
    heights = np.cumsum([seam - rise * opening - upper_lip, upper_lip, (rise + gap) * opening, lower_lip], 0)
    top, upper, lower, bottom = (np.stack([x, y], -1) for y in heights)

    if person.beard in ("moustache", "full"):
        over = np.stack([x * 1.12, np.minimum(top[:, 1], seam + 3) - 5 - 5 * (1 - t)], -1)
        pen.fill(np.concatenate([over, top[::-1] * (1.06, 1)]), person.hair * .9 + 4)
    pen.fill(np.concatenate([top, bottom[::-1]]), person.lips)
    pen.fill(np.concatenate([top, upper[::-1]]), person.lips * .86)
    pen.line(bottom[8:17] - (0, .45 * person.lower_lip * thin), np.minimum(person.lips * 1.1 + 8, 255), 1.6)
    pen.line(bottom[6:19] + (0, 1), person.skin * .72, 1)

    hole = np.concatenate([upper, lower[::-1]])

    def paint():
        pen.fill(hole, CAVITY)
        if drop > 4:
            pen.fill(_ellipse(0, person.mouth_y + gap + 2, 17, .36 * gap), TONGUE)
        show = np.clip(.9 * au[12] + au[10] + .7 * au[20] + .2 * au[26] + .2 * au[5], 0, 1)
        pen.fill(np.concatenate([upper - (0, 3), (upper + (0, 9 * show))[::-1]]), TEETH)
        pen.line([[(tooth, middle - 12), (tooth, middle - rise + 8.4 * show)] for tooth in range(-15, 16, 6)],
                 np.multiply(TEETH, .86), .5)
        if au[20] + au[10] > .4:
            pen.fill(np.concatenate([lower + (0, 3), (lower - (0, 4 * show))[::-1]]), np.multiply(TEETH, .92))
    if gap + rise > 1.5:
        pen.inside(hole, paint)
        pen.line(lower, person.lips * .62, .8)
    pen.line(upper, person.lips * .5, 1.1)
    corners = [(-width[0], corner[0]), (width[1], corner[1])]
    for point in corners:
        pen.fill(_ellipse(*point, 1.6, 1.5), person.skin * .6)
    return corners


def _eye(pen, person, au, side: int, gaze) -> None:
    up = person.eye_open * (1 + .55 * au[5] - .32 * au[7] - .2 * au[6] - .3 * au[9])
    low = .62 * person.eye_open * (1 + .1 * au[5] - .6 * au[7] - .75 * au[6] - .4 * au[9])
    t, sad = ACROSS, max(au[1] - au[2], 0)  # from the inner to the outer corner
    slant = 1 - .22 * au[4] * (1 - t) * (1 - sad) - .22 * sad * (1 + t)
    level = -person.eye_tilt * person.eye_width * t
    x = person.eye_x + person.eye_width * t
    upper = np.stack([x, level - max(up, .8) * slant * (1 - np.abs(t) ** 2.3)], -1) * FLIP[side]
    lower = np.stack([x, level + max(low, .5) * (1 - t ** 2)], -1) * FLIP[side]

    def paint():
        centre = np.array([FLIP[side, 0] * person.eye_x, 0])
        iris = centre + gaze * (1, .6) + (0, -.6)
        pen.fill(_ellipse(*centre, person.eye_width + 2, 18), (225, 228, 232))
        pen.fill(_ellipse(*iris, person.iris, person.iris), np.multiply(person.iris_colour, .55))
        pen.fill(_ellipse(*iris, person.iris - 1, person.iris - 1), person.iris_colour)
        pen.fill(_ellipse(*iris, 3, 3), PUPIL)
        pen.fill(_ellipse(*(iris - 2.3), 1.4, 1.4), (250, 250, 250))
        pen.line(upper + (0, 1.6), (150, 150, 160), 1.6)  # the lid's shadow
    pen.inside(np.concatenate([upper, lower[::-1]]), paint)
    if person.lid > 2:
        pen.line(upper[2:-1] - (0, person.lid * (1 - .5 * au[5])), person.skin * .66, 1.1)
    pen.line(lower, person.skin * .62, .9)
    pen.line(upper, mix(person.skin * .3, PUPIL, .6), person.lash)


def _brow(pen, person, au, side: int) -> None:
    x, y, w, arch = person.brow_gap, person.brow_y + 4 * au[9], person.brow_width, person.brow_arch
    tilt = person.brow_tilt * w
    curve = _smooth([
        (x - 4 * au[4], y + tilt - .3 * arch - 10 * au[1] + 10.5 * au[4] * (1 - .6 * au[1])),
        (x + .55 * w, y - .8 * arch - 6 * au[1] - 5 * au[2] + 7 * au[4] * (1 - .5 * au[1])),
        (x + 1.25 * w, y - tilt - arch - 9 * au[2] + 2.5 * au[4] - au[5]),
        (x + 2 * w, y - tilt + 3 - 6 * au[2] + au[4])]) * FLIP[side]
    thick = person.brow_thick * np.interp(np.linspace(0, 1, len(curve)), (0, .15, .6, 1), (.75, 1, .8, .15))
    edge = thick[:, None] * (0, .5)
    colour = mix(person.hair * .8, person.skin, .22)
    pen.fill(np.concatenate([curve - edge, (curve + edge)[::-1]]), colour)
    pen.line(np.stack([curve + edge, np.roll(curve - 1.3 * edge, -2, 0)], 1)[:-3:2], colour * .75, .6)


def _hair_edge(person, hair: Hair) -> np.ndarray:
    bulge, end = hair.width, hair.end
    w, top = person.face, person.top_y - hair.height
    return _smooth([(-w - bulge, end), (-w - bulge, -30), (-.8 * w, top + 32), (-.42 * w, top + 5), (0, top),
                    (.42 * w, top + 5), (.8 * w, top + 32), (w + bulge, -30), (w + bulge, end)])


def _hair_behind(pen, person, hair: Hair) -> None:
    length = hair.behind
    if length:
        w = person.face + hair.width
        ends = _smooth([(w + 6, length - 20), (w - 14, length), (14 - w, length), (-w - 6, length - 20)])
        pen.fill(np.concatenate([_hair_edge(person, hair) * (1.03, 1), ends]), person.hair * .7)
    if person.style == "bun":
        pen.fill(_ellipse(0, person.top_y - 11, 26, 20), person.hair * .92)


def _hair(pen, person) -> None:
    hair = STYLES[person.style]
    if not hair:
        return
    hairline = np.stack([np.multiply(HAIRLINE_X, person.face), hair.hairline], -1)
    outer, inner = _hair_edge(person, hair) * (person.parting, 1), _smooth(hairline) * (person.parting, 1)
    pen.fill(np.concatenate([outer, inner[::-1]]), person.hair)
    along, sway, bend, tone = person.strands
    roots = inner[(along * len(inner)).astype(int)]
    tips = outer[(np.clip(along + .1 * (sway - .5), 0, .99) * len(outer)).astype(int)]
    if person.style == "curly":
        for point, size, shine in zip(mix(tips, roots, .8 * sway[:, None]), bend, tone):
            size = 6 + 3 * size
            pen.fill(_ellipse(point[0], point[1], size, size), person.hair * (.8 + .45 * shine) + 6 * shine)
        return
    middles = mix(roots, tips, .5) + np.stack([6 * bend - 3, 0 * bend - 2], -1)
    strands = np.stack([mix(roots, tips, .04), middles, mix(roots, tips, .95)], 1)
    for shine in range(5):
        pen.line(strands[shine::5], person.hair * (.74 + .12 * shine) + 2.5 * shine, .9)


def _glasses(pen, person) -> None:
    if not person.glasses:
        return
    # A superellipse: a circle, or nearly a rectangle.
    power, size = (.55, (23, 16)) if person.glasses == "square" else (1, (22, 21))
    x = 1.04 * person.eye_x
    pen.line(_pair(np.sign(CIRCLE) * np.abs(CIRCLE) ** power * size + (x, 2)), person.rim, 2)
    pen.line(_pair([(x + size[0], -3), (person.face + 3, -6)]), person.rim, 2)
    pen.line(_smooth([(size[0] - x, -1), (0, -4), (x - size[0], -1)]), person.rim, 2)


def _expose(canvas, light, instant: RandomState) -> np.ndarray:
    """Shrinks the canvas and adds the light and the noise of the sensor. light: direction, strength, level."""
    image = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    angle, strength, level = light
    ramp = np.linspace(-1, 1, SIDE)
    gain = level + strength * (np.cos(angle) * ramp + np.sin(angle) * ramp[:, None])
    gain = np.rint(128 * gain).astype(np.uint8)
    grain = np.rint(3.5 * instant.standard_normal((SIDE, SIDE))).astype(np.int16)
    image = cv2.multiply(image, cv2.merge([gain] * 3), scale=1 / 128)
    return cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
