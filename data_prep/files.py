"""Files and folders that are either whole or not there."""
import contextlib
import errno
import hashlib
import json
import os
import shutil

from data_prep.errors import UserError


@contextlib.contextmanager
def replacing(path: str):
    """Gives a partial name beside `path`, which takes its place when the block ends well.

    Works for a file or a folder that the block makes. What an interrupted earlier call left is removed. The error of
    a full disk, which names no file, names this one.
    """
    partial = path + ".partial"
    remove(partial)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        yield partial
        if os.path.isdir(path):
            remove(path)
        os.replace(partial, path)
    except BaseException as error:
        remove(partial)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            error.filename = path
        raise


def remove(path: str) -> None:
    """Removes a file or a whole folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def write_text(path: str, text: str) -> None:
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as stream:
        stream.write(text)


def write_json(path: str, value) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str):
    """Raises UserError where the file is missing or no JSON."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except OSError as error:
        raise UserError("{}: {}".format(path, error.strerror)) from None
    except ValueError as error:
        raise UserError("{}: not JSON: {}".format(path, error)) from None


def free_space(folder: str) -> int:
    """Bytes free on the disk that holds `folder`, which need not be there yet."""
    existing = os.path.abspath(folder)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    return shutil.disk_usage(existing).free


def require_space(folder: str, needed: int) -> None:
    """Raises UserError where the disk that holds `folder` has fewer than `needed` bytes free."""
    free = free_space(folder)
    if free < needed:
        raise UserError("{}: {:.1f} GB are needed and {:.1f} GB are free on this disk".format(
            folder, needed / 1e9, free / 1e9))


def size(folder: str) -> int:
    """Bytes on disk of all files below a folder."""
    return sum(os.stat(os.path.join(inner, name)).st_blocks * 512
               for inner, _, names in os.walk(folder) for name in names)


def digest(path: str) -> str:
    """SHA-256 in hexadecimal digits: of a file's content, or of the names and sizes of a folder's files."""
    sha = hashlib.sha256()
    if os.path.isdir(path):
        for folder, _, names in sorted(os.walk(path)):
            for name in sorted(names):
                inner = os.path.join(folder, name)
                sha.update("{} {}\n".format(os.path.relpath(inner, path), os.stat(inner).st_size).encode(
                    "utf-8", "surrogateescape"))
        return sha.hexdigest()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()
