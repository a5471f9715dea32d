"""Files and folders that are either whole or not there, and what of them may be replaced or removed.

Only what is ours is ever replaced or removed:

    what                             it is ours where
    a folder                         it holds MARK, which `claim` puts there before all else, or an old one of NOTES
    all that is in such a folder     that folder is ours; links in the path are resolved before
    a file that stands alone         its first bytes hold SIGNATURE: a report, picture or template that the user named
    what is not yet whole, a lock    its name is that of `hidden`, which nobody else uses

All else is the user's, and UserError, one line, names it. No symbolic link is followed to what lies behind it:
`remove` takes the link itself away, `replacing` refuses to write in its place.

The environment of env/host.py has rules of its own, since it is made without this module.
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
# Of folders that were made before there was MARK: file -> what the folder is, and keys that its note has.
NOTES = {"run.json": ("run", {"experiment", "manifest"}), "prepare.json": ("prepared data", {"asked", "manifest"}),
         "group.json": ("group of runs", {"kind", "members"}),
         "plan.json": ("folder of `reproduce`", {"command", "makes"})}
SIGNATURE = "caffe-fer:generated"
SIGNED_BYTES = 4096


def kind(folder: str) -> Optional[str]:
    """What a folder of ours is: "run", "prepared data", ... ("" where a killed call did not come to note it); None
    where the folder is not ours, or not there."""
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
    """Raises UserError where `claim` would; makes nothing."""
    _require_folders_above(folder)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder}: exists and is not a folder; give another --out")
    known = kind(folder)
    # Empty folders are what Snakemake makes for what a job will write.
    if known not in (None, "", what) or known is None and any(
            names or any(os.path.islink(os.path.join(inner, name)) for name in folders)
            for inner, folders, names in os.walk(folder)):
        raise UserError(f"{folder}: exists and is not a {what}; give another --out")


def _require_folders_above(path: str) -> None:
    """Raises UserError where a folder cannot be made for `path`, since a file is in its way."""
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise UserError(f"{path}: {above} is not a folder; give another --out")


def claim(folder: str, what: str) -> None:
    """Makes a folder that is ours from its first moment on; one that is empty, or ours already, will do.

    what: "run", ...; of one word for all folders that may stand for each other. Raises UserError where the folder
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
    """A name beside `path` that only we use. what: "partial" or "lock"."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(folder, f".{name}.caffe-fer-{what}")


def require_replaceable(path: str, alone: bool = False) -> None:
    """Raises UserError where a file may not be written to `path`: what is there is not ours. alone: of a file whose
    place the user has named, which is ours by its SIGNATURE only, also in a folder that is ours."""
    if os.path.basename(path) in ("", ".", ".."):  # `os.replace` would fail on it, when all is written
        raise UserError(f"{path}: is the name of a folder, expected a file's; give another name")
    _require_folders_above(path)
    if not os.path.lexists(path):
        return
    if os.path.islink(path) or not os.path.isfile(path):
        what = "a symbolic link" if os.path.islink(path) else "a folder" if os.path.isdir(path) else "no plain file"
        raise UserError(f"{path}: is {what}, expected a file or nothing; give another name")
    if not _is_signed(path) and (alone or not is_inside_ours(path)):
        raise UserError(f"{path}: exists and was not made by caffe-fer; give another name, or remove it")


def _is_signed(path: str) -> bool:
    with open(path, "rb") as stream:
        return SIGNATURE.encode() in stream.read(SIGNED_BYTES)


@contextlib.contextmanager
def replacing(path: str, alone: bool = False):
    """Gives a partial name beside `path`, for a file that takes its place when the block ends well.

    What an interrupted earlier call left is removed. The error of a full disk, which names no file, names this one.
    Raises UserError as `require_replaceable`.
    """
    require_replaceable(path, alone)
    partial = hidden(path, "partial")
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
    """Removes a file, a link or a whole folder, if it is there. Raises UserError where it is not ours."""
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
    """alone: see `require_replaceable`."""
    with replacing(path, alone) as partial, open(partial, "w", encoding="utf-8") as stream:
        stream.write(text)


def write_json(path: str, value, alone: bool = False) -> None:
    """alone: see `require_replaceable`."""
    write_text(path, json.dumps(value, indent=2) + "\n", alone)


def read_json(path: str):
    """Raises UserError where the file is missing or no JSON."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None


def free_space(folder: str) -> int:
    """Bytes free on the disk that holds `folder`, which need not be there yet."""
    existing = os.path.abspath(folder)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    return shutil.disk_usage(existing).free


def require_space(folder: str, needed: int) -> None:
    """Raises UserError where the disk on which `folder` lies, or will lie, has fewer than `needed` bytes free."""
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
    """SHA-256 in hexadecimal digits: of a file's content, or of the names and sizes of a folder's files."""
    sha = hashlib.sha256()
    if os.path.isdir(path):
        for folder, _, names in sorted(os.walk(path)):
            for name in sorted(names):
                inner = os.path.join(folder, name)
                # A link that leads nowhere has no size but its own.
                size_of = os.stat if os.path.exists(inner) else os.lstat
                sha.update(f"{os.path.relpath(inner, path)} {size_of(inner).st_size}\n".encode(
                    "utf-8", "surrogateescape"))
        return sha.hexdigest()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()
