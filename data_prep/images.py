"""Image files."""
import os
import re
import struct
import warnings
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from common import files
from common.errors import UserError

# What is read, and the suffixes by which a data set's images are known.
FORMATS = {"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png",), "BMP": (".bmp",), "GIF": (".gif",),
           "TIFF": (".tif", ".tiff"), "WEBP": (".webp",), "PPM": (".pgm", ".ppm", ".pnm", ".pbm")}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
# A gigabyte of memory, on the way to BGR. Pillow's own limit would not name the file.
MOST_PIXELS = 100 * 10 ** 6
Image.MAX_IMAGE_PIXELS = None
# Of a JPEG: a marker, other than the escaped 255 and the restarts in the middle of the pixels; those without a segment.
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
END, ALONE = 0xd9, (0x01, 0xd8)
# EXIF's tag, and what sets upright an image with that value of it.
ORIENTATION = 0x0112
UPRIGHT = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
           6: Image.ROTATE_270, 7: Image.TRANSVERSE, 8: Image.ROTATE_90}


def read_image(path: str) -> np.ndarray:
    """uint8 (height, width, 3) BGR: the first picture of the file, turned upright where its EXIF data say how.

    Of 16 bits a value the upper 8 are taken; transparency is left out. Bytes behind the end of the image do no harm.
    Raises UserError that names the file where it is none of FORMATS, ends before its image does or has too many pixels.
    """
    if not os.path.isfile(path):
        raise UserError("{}: {}".format(path, "not a file" if os.path.exists(path) else "no such file"))
    if not os.path.getsize(path):
        raise UserError(f"{path}: empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open(path, "rb") as stream:
                image = Image.open(stream, formats=list(FORMATS))
                _require_size(path, image)
                # A tail of zeros, of a copy that was broken off, would be taken for pixels.
                if image.format == "PNG":
                    image.verify()  # checksums; the image is of no use afterwards
                    stream.seek(0)
                    image = Image.open(stream, formats=["PNG"])
                elif image.format in ("JPEG", "MPO"):
                    _require_end(stream)
                image.load()
                return _bgr(_upright(image))
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a readable image") from None
    except Exception as error:  # Pillow's readers raise what a broken file leads them to
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path}: {error.strerror}") from None
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> UserError:
    cut = isinstance(error, (EOFError, struct.error)) or "truncated" in str(error).lower()
    return UserError("{}: not a readable image: {}".format(
        path, "the file ends before its image does" if cut else str(error) or type(error).__name__))


def _require_size(path: str, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UserError(f"{path}: {width}x{height} pixels, at most {MOST_PIXELS // 10 ** 6} million pixels are read")


def _require_end(stream: BinaryIO) -> None:
    """Raises EOFError where the markers of a JPEG do not lead to its end of image (ITU-T T.81, B.1.1). Those of a
    thumbnail lie inside a segment, which is passed over."""
    at = stream.tell()
    stream.seek(0)
    content, place = stream.read(), 0
    stream.seek(at)
    while True:
        found = MARKER.search(content, place)
        if not found:
            raise EOFError
        place, code = found.end(), content[found.end() - 1]
        if code == END:
            return
        if code not in ALONE:
            place += int.from_bytes(content[place:place + 2], "big")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF data say nothing of the pixels
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _bgr(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return cv2.cvtColor((np.asarray(image) >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    if image.mode in ("I", "F"):
        raise ValueError("its values are no integers of 8 or 16 bits")
    if image.mode == "L":
        return cv2.cvtColor(np.asarray(image), cv2.COLOR_GRAY2BGR)
    return cv2.cvtColor(np.asarray(image if image.mode == "RGB" else image.convert("RGB")), cv2.COLOR_RGB2BGR)


def write_image(path: str, image: np.ndarray) -> None:
    """Writes a picture as JPEG, in whose comment it says that it is ours; makes its folder. Raises UserError where
    something else is there."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 93])[1].tobytes()
    comment = files.SIGNATURE.encode()
    with files.replacing(path, alone=True) as partial, open(partial, "wb") as stream:
        # Behind the two bytes that begin a JPEG file: the marker of a comment, its length with these two bytes.
        stream.write(encoded[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + encoded[2:])


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Grey or BGR image -> grey (1) or BGR (3)."""
    if channels == 1 and image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if channels == 3 and image.ndim == 2 else image


def square(image: np.ndarray, side: int) -> np.ndarray:
    """(height, width[, 3]) -> (side, side[, 3]); averages where it shrinks."""
    if image.shape[:2] == (side, side):
        return image
    shrinks = image.shape[0] > side
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
