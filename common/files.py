"""Writes files completely or not at all, and replaces or removes only files that the project itself made ("ours").

    what                             when it is ours
    a folder                         it holds MARK, which `claim` writes first of all, or one of the older NOTES
    everything in such a folder      the folder is ours, after links in the path are resolved
    a single file                    its first or last bytes hold SIGNATURE: a report, picture, table, video or template
                                     that the user named
    a partial file or a lock         its name comes from `hidden`, and nobody else uses such names

Everything else belongs to the user, and a UserError names it; only the engine's snapshots replace any file of their
name, as Caffe's do. Symbolic links are not followed: `remove` removes the link itself, and `replacing` refuses to
replace it.

The environment of env/host.py has its own rules, because it is built without this module.
"""
import contextlib
import errno
import hashlib
import json
import os
import shutil
from typing import Optional

from common.errors import UserError

MARK = ".caffe-fer"
# For folders that were made before MARK existed: file -> kind of the folder, and keys that the file must have.
NOTES = {"run.json": ("run", {"experiment", "manifest"}), "prepare.json": ("prepared data", {"asked", "manifest"}),
         "group.json": ("group of runs", {"kind", "members"}),
         "plan.json": ("folder of `reproduce`", {"command", "makes"})}
SIGNATURE = "caffe-fer:generated"
SIGNED_BYTES = 4096


def kind(folder: str) -> Optional[str]:
    """The kind of a folder of ours: "run", "prepared data", ..., or "" if the call that made it was killed before it
    wrote the kind. None if the folder is not ours or does not exist."""
    try:
        with open(os.path.join(folder, MARK), encoding="utf-8", errors="replace") as stream:
            return stream.readline().strip()
    except OSError:
        pass
    for name, (what, keys) in NOTES.items():
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                note = json.load(stream)
        except (OSError, ValueError):
            continue
        note = note[0] if isinstance(note, list) and note else note
        if isinstance(note, dict) and keys <= set(note):
            return what
    return None


def require_claimable(folder: str, what: str) -> None:
    """Raises UserError if `claim` would; makes nothing."""
    require_text(folder)
    _require_folders_above(folder, "--out")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder}: exists and is not a folder; give another --out")
    present = kind(folder)
    # Empty inner folders are allowed: Snakemake makes them for the outputs of a job.
    if present not in (None, "", what) or present is None and any(
            names or any(os.path.islink(os.path.join(inner, name)) for name in folders)
            for inner, folders, names in os.walk(folder)):
        raise UserError(f"{folder}: exists and is not a {what}; give another --out")


def _require_folders_above(path: str, other: str) -> None:
    """Raises UserError if the folder of `path` cannot be made because a file is in its place. other: what to give
    instead, in words."""
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise UserError(f"{path}: {above} is not a folder; give another {other}")


def claim(folder: str, what: str) -> None:
    """Makes a folder and marks it as ours. The folder may exist if it is empty or already ours.

    what: the kind of the folder, such as "run"; a folder of another kind is refused. Raises UserError if the folder
    holds something else.
    """
    require_claimable(folder, what)
    os.makedirs(folder, exist_ok=True)
    with contextlib.suppress(FileExistsError), open(os.path.join(folder, MARK), "x", encoding="utf-8") as stream:
        stream.write(what + "\nMade by caffe-fer, which may replace and remove what it has written here.\n")


def is_inside_ours(path: str) -> bool:
    """Whether the folder that holds `path`, or one above it, is ours."""
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    while kind(folder) is None:
        if folder == os.path.dirname(folder):
            return False
        folder = os.path.dirname(folder)
    return True


def hidden(path: str, what: str) -> str:
    """A path beside `path`, of a hidden name that only this project uses. what: "partial" or "lock"."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(folder, f".{name}.caffe-fer-{what}")


def require_replaceable(path: str, alone: bool = False, anyones: bool = False) -> None:
    """Raises UserError if a file must not be written to `path` because what is there is not ours. alone: whether the
    user named the path; then only SIGNATURE makes an existing file ours, also in a folder that is ours. anyones:
    whether any plain file may be replaced; for snapshots, as Caffe replaces them."""
    if os.path.basename(path) in ("", ".", ".."):  # `os.replace` would fail, but only after all is written
        raise UserError(f"{path}: is the name of a folder, expected a file's; give another name")
    _require_folders_above(path, "name")
    if not os.path.lexists(path):
        return
    if os.path.islink(path) or not os.path.isfile(path):
        what = "a symbolic link" if os.path.islink(path) else "a folder" if os.path.isdir(path) else "no plain file"
        raise UserError(f"{path}: is {what}, expected a file or nothing; give another name")
    if not anyones and not _is_signed(path) and (alone or not is_inside_ours(path)):
        raise UserError(f"{path}: exists and was not made by caffe-fer; give another name, or remove it")


def _is_signed(path: str) -> bool:
    with open(path, "rb") as stream:
        first = stream.read(SIGNED_BYTES)
        stream.seek(max(0, os.path.getsize(path) - SIGNED_BYTES))
        return SIGNATURE.encode() in first or SIGNATURE.encode() in stream.read(SIGNED_BYTES)


@contextlib.contextmanager
def replacing(path: str, alone: bool = False, anyones: bool = False, ending: str = ""):
    """Yields the path of a partial file beside `path`. The file replaces `path` if the block ends without an error.

    ending: of the partial file's name, for a writer that goes by it, such as ".mp4". A partial file of an interrupted
    earlier call is removed. The error for a full disk gets the name of the file. Raises UserError as
    `require_replaceable` does.
    """
    require_replaceable(path, alone, anyones)
    partial = hidden(path, "partial") + ending
    _unlink(partial)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        _unlink(partial)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            error.filename = path
        raise


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove(path: str) -> None:
    """Removes a file, a link or a whole folder, if it exists. Raises UserError if it is not ours."""
    if not os.path.lexists(path):
        return
    is_folder = os.path.isdir(path) and not os.path.islink(path)
    if not is_inside_ours(path) and not (is_folder and kind(path) is not None):
        raise UserError(f"{path}: exists and was not made by caffe-fer; remove it if nobody needs it")
    if is_folder:
        shutil.rmtree(path)
    else:
        os.unlink(path)


def write_text(path: str, text: str, alone: bool = False) -> None:
    """Replaces a file by a text, in UTF-8. alone: see `require_replaceable`."""
    with replacing(path, alone) as partial, open(partial, "w", encoding="utf-8") as stream:
        stream.write(text)


def write_json(path: str, value, alone: bool = False) -> None:
    """Replaces a file by a value as JSON. alone: see `require_replaceable`."""
    write_text(path, json.dumps(value, indent=2) + "\n", alone)


def read_bytes(path: str) -> bytes:
    """The content of a file. Raises UserError if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def read_json(path: str):
    """The content of a JSON file. Raises UserError if the file is missing or not JSON."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None


def free_space(folder: str) -> int:
    """Free bytes on the disk of `folder`, which need not exist yet."""
    existing = os.path.abspath(folder)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    return shutil.disk_usage(existing).free


def require_space(folder: str, needed: int) -> None:
    """Raises UserError if the disk of `folder`, which need not exist yet, has fewer than `needed` bytes free."""
    free = free_space(folder)
    if free < needed:
        raise UserError(f"{folder}: {amount(needed)} are needed and {amount(free)} are free on this disk")


def amount(count: float) -> str:
    """Bytes as text, in a unit that leaves one to three digits before the point."""
    for unit, size_of_unit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size_of_unit:
            return f"{count / size_of_unit:.1f} {unit}"
    return f"{count:.0f} bytes"


def size(folder: str) -> int:
    """Bytes on disk of all files below a folder."""
    return sum(os.stat(os.path.join(inner, name)).st_blocks * 512
               for inner, _, names in os.walk(folder) for name in names)


def digest(path: str) -> str:
    """SHA-256 of a file's content, or of the names and sizes of a folder's files, in hexadecimal digits."""
    sha = hashlib.sha256()
    if os.path.isdir(path):
        for folder, _, names in sorted(os.walk(path)):
            for name in sorted(names):
                inner = os.path.join(folder, name)
                # The target of a broken link has no size: take that of the link itself.
                size_of = os.stat if os.path.exists(inner) else os.lstat
                sha.update(f"{os.path.relpath(inner, path)} {size_of(inner).st_size}\n".encode(
                    "utf-8", "surrogateescape"))
        return sha.hexdigest()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


def require_text(path: str) -> None:
    """Raises UserError if a path is no text in UTF-8, at which OpenCV, LMDB and Caffe would crash."""
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: its name, or that of a folder above it, is no text in UTF-8, which OpenCV, LMDB and "
                        "Caffe need") from None
