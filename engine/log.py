"""Lines of a log in the form of Caffe's (glog), on standard error: level, date, time, process, place and text."""
import contextlib
import os
import time

_quiet = False


def only_errors() -> None:
    """From now on `info` writes nothing, as in a rank that another one logs for."""
    global _quiet
    _quiet = True


def info(place: str, text: str) -> None:
    """Writes a line. place: the file and line of Caffe's source that writes the same, such as "solver.cpp:218";
    "engine" for what only the engine says."""
    if not _quiet:
        _write("I", place, text)


def fatal(text: str) -> None:
    """Writes the last line of a program that fails."""
    _write("F", "engine", text)


def _write(level: str, place: str, text: str) -> None:
    seconds, microseconds = divmod(time.time_ns() // 1000, 10 ** 6)
    at = time.strftime("%m%d %H:%M:%S", time.localtime(seconds))
    line = f"{level}{at}.{microseconds:06d} {os.getpid():5d} {place}] {text}\n".encode("utf-8", "surrogateescape")
    # Who reads the log may have ended; as in Caffe, that is no reason to stop a training. Python's own stream would
    # keep the line, and fail once more at the end.
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(2, line):]
