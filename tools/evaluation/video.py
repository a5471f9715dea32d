"""Video files, read and written by OpenCV with FFmpeg."""
import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Callable, NamedTuple

import cv2
import numpy as np

from common import files
from common.errors import UserError

# The suffixes of video files that are read, and the one that is written.
SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".mts")
WRITTEN = ".mp4"
# MPEG-4: what FFmpeg writes into an mp4 file everywhere, without a library of its own.
CODEC = "mp4v"
# If the header says nothing of use.
RATE = 25.0
# A video is cut if this many seconds, and this share of it, are missing at its end. Headers are not always exact.
MISSING_SECONDS, MISSING_SHARE = 0.5, 0.02
LIBRARY = "libavutil.so.56"


class Frame(NamedTuple):
    """A frame of a video."""

    # From 0.
    number: int
    # Seconds from the beginning.
    time: float
    # uint8 (height, width, 3) BGR.
    image: np.ndarray


def is_video(path: str) -> bool:
    """Whether a path has the suffix of a video."""
    return path.lower().endswith(SUFFIXES)


class Video:
    """A video file.

    rate     frames a second
    count    about how many frames there are; 0 if the header does not say it
    average  frames a second by the times of the frames, which may come at changing intervals; known after `frames`

    Raises UserError, which names the file, if it is no readable video.
    """

    def __init__(self, path: str):
        if not os.path.isfile(path):
            raise UserError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
        if not os.path.getsize(path):
            raise UserError(f"{path}: empty file")
        files.require_text(path)
        self.path = path
        capture = _open(path)
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        readable = capture.isOpened() and capture.grab()
        capture.release()
        if not readable:
            raise UserError(f"{path}: not a readable video")
        known = 0 < rate < 1e3 and 0 < count < 1e9
        self.rate: float = rate if known else RATE
        self.count = int(count) if known else 0
        self.average = self.rate

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """Every n-th frame, from the first one on. Raises UserError at the end if the video ends much before the end
        that its header says."""
        capture = _open(self.path)
        number, last = 0, 0.0
        try:
            while capture.grab():
                time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                # A frame without a time has 0, or a large negative number.
                last = time if time > last else number / self.rate
                if number % every == 0:
                    read, image = capture.retrieve()
                    if not read:
                        raise UserError(f"{self.path}: frame {number} cannot be read")
                    yield Frame(number, last, image)
                number += 1
        finally:
            capture.release()
        if last > 0:
            self.average = (number - 1) / last
        whole, there = self.count / self.rate, last + 1 / self.rate
        if whole - there > max(MISSING_SECONDS, MISSING_SHARE * whole):
            raise UserError(f"{self.path}: ends after {there:.1f} of {whole:.1f} seconds; the file is cut or damaged")


def _open(path: str) -> cv2.VideoCapture:
    """Only FFmpeg is asked: OpenCV's other readers take a name with digits for a series of images."""
    _silence()
    # A name such as "a:b.mp4" would be taken for a protocol.
    return cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)


def _silence() -> None:
    """Keeps FFmpeg's own messages off standard error."""
    with contextlib.suppress(OSError):  # another version of FFmpeg: its messages are shown
        ctypes.CDLL(LIBRARY).av_log_set_callback(None)


def require_writable(path: str) -> None:
    """Raises UserError if `writing` would."""
    if not path.lower().endswith(WRITTEN):
        raise UserError(f"{path}: expected the name of a video to write, which ends in {WRITTEN}")
    files.require_text(path)
    files.require_replaceable(path, alone=True)


@contextlib.contextmanager
def writing(path: str, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields what writes a frame, uint8 (height, width, 3) BGR, all of one size. The video is there when the block ends
    without an error, and has our signature.

    rate: frames a second. Raises UserError if the path holds a file that is not ours, or if FFmpeg cannot write.
    """
    require_writable(path)
    _silence()
    with files.replacing(path, alone=True, ending=WRITTEN) as partial:
        writer, count = cv2.VideoWriter(), 0

        def write(image: np.ndarray) -> None:
            nonlocal count
            if not count and not writer.open(os.path.abspath(partial), cv2.CAP_FFMPEG,
                                             cv2.VideoWriter_fourcc(*CODEC), rate, image.shape[1::-1]):
                raise UserError(f"{path}: a video of {image.shape[1]}x{image.shape[0]} pixels cannot be written")
            writer.write(image)
            count += 1
        try:
            yield write
        finally:
            writer.release()
        # The writer does not say whether the disk is full.
        with contextlib.suppress(UserError):
            if Video(partial).count == count:
                _sign(partial)
                return
        raise UserError(f"{path}: not written; is the disk full?")


def _sign(path: str) -> None:
    """Adds our signature to an mp4 file as a box `free`, which players skip (ISO/IEC 14496-12, 8.1.2)."""
    content = files.SIGNATURE.encode()
    with open(path, "ab") as stream:
        stream.write((8 + len(content)).to_bytes(4, "big") + b"free" + content)
