"""Reading, writing and resizing images."""
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

# The formats that are read, and the suffixes of image files in a data set.
FORMATS = {"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png",), "BMP": (".bmp",), "GIF": (".gif",),
           "TIFF": (".tif", ".tiff"), "WEBP": (".webp",), "PPM": (".pgm", ".ppm", ".pnm", ".pbm")}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
# More would take over a gigabyte of memory on the way to BGR. Pillow's own limit would not name the file.
MOST_PIXELS = 100 * 10 ** 6
Image.MAX_IMAGE_PIXELS = None
# A JPEG marker, except the escaped 255 and the restart markers among the pixels. END is the end of image; the markers
# ALONE have no segment.
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
END, ALONE = 0xd9, (0x01, 0xd8)
# The EXIF tag, and its values -> what turns the image upright.
ORIENTATION = 0x0112
UPRIGHT = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
           6: Image.ROTATE_270, 7: Image.TRANSVERSE, 8: Image.ROTATE_90}


class NoImage(UserError):
    """A file has none of the FORMATS."""


def read_image(path: str) -> np.ndarray:
    """The first picture of a file, uint8 (height, width, 3) BGR, turned upright by its EXIF data.

    Of 16-bit values, the upper 8 bits are taken. Transparency is ignored, and so are bytes after the end of the image.
    Raises UserError that names the file if its format is not in FORMATS, it ends before its image does, or it has too
    many pixels.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
    if not os.path.getsize(path):
        raise UserError(f"{path}: empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open(path, "rb") as stream:
                image = Image.open(stream, formats=list(FORMATS))
                _require_size(path, image)
                # An interrupted copy may end in zeros, which would be read as pixels.
                if image.format == "PNG":
                    image.verify()  # checks the checksums; the image cannot be used afterwards
                    stream.seek(0)
                    image = Image.open(stream, formats=["PNG"])
                elif image.format in ("JPEG", "MPO"):
                    _require_end(stream)
                image.load()
                return _bgr(_upright(image))
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise NoImage(f"{path}: not a readable image") from None
    except Exception as error:  # Pillow's readers raise all kinds of errors on a broken file
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
    """Raises EOFError if the markers of a JPEG do not lead to its end of image (ITU-T T.81, B.1.1). The markers of a
    thumbnail lie inside a segment, which is skipped."""
    at = stream.tell()
    stream.seek(0)
    content, place = stream.read(), 0
    stream.seek(at)
    while True:
        marker = MARKER.search(content, place)
        if not marker:
            raise EOFError
        place, code = marker.end(), content[marker.end() - 1]
        if code == END:
            return
        if code not in ALONE:
            place += int.from_bytes(content[place:place + 2], "big")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # the pixels may be fine though the EXIF data are broken
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _bgr(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return cv2.cvtColor((np.asarray(image) >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    if image.mode in ("I", "F"):
        raise ValueError("its values are not integers of 8 or 16 bits")
    if image.mode == "L":
        return cv2.cvtColor(np.asarray(image), cv2.COLOR_GRAY2BGR)
    return cv2.cvtColor(np.asarray(image if image.mode == "RGB" else image.convert("RGB")), cv2.COLOR_RGB2BGR)


def write_image(path: str, image: np.ndarray) -> None:
    """Writes a picture, uint8 grey or BGR, as JPEG with our signature as a comment, and makes its folder. Raises
    UserError if the path holds a file that is not ours."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 93])[1].tobytes()
    comment = files.SIGNATURE.encode()
    with files.replacing(path, alone=True) as partial, open(partial, "wb") as stream:
        # After the two bytes that begin a JPEG file: the marker of a comment, and its length including these two bytes.
        stream.write(encoded[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + encoded[2:])


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """A grey or BGR image as grey (channels 1) or BGR (channels 3)."""
    if channels == 1 and image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if channels == 3 and image.ndim == 2 else image


def square(image: np.ndarray, side: int) -> np.ndarray:
    """An image (height, width[, 3]) scaled to (side, side[, 3]): by averages if it shrinks, else bilinearly."""
    if image.shape[:2] == (side, side):
        return image
    shrinks = image.shape[0] > side
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
