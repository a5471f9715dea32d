"""What set-ups that were killed have left: up to 10 GB each."""
import fcntl
import os
import re
import time

import host

# Of what set-ups make: the lock that they hold, and the names of the folders.
KINDS = {"lock": "[0-9a-f]{16}", "gpu.lock": "gpu-[0-9a-f]{16}-[0-9-]+", "torch.lock": "torch-[0-9.]+-[0-9a-f]{16}"}
OLD = 24 * 3600  # seconds: no set-up takes a day


def clean(parent):
    """Removes what killed set-ups have left for the folder of environments `parent`, and in the folder of temporary
    files, and says so. A set-up that is still running keeps its files."""
    for name, pattern in KINDS.items():
        try:
            lock = open(os.path.join(parent, name))
        except OSError:  # nothing of this kind was ever built here
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for folder in unfinished(parent, pattern):
                discard(folder)
    for folder in abandoned():
        discard(folder)


def unfinished(parent, pattern):
    """The folders of set-ups of one kind for `parent`, of which none is running."""
    matches = [re.fullmatch(r"(%s)(\.\w+)?" % pattern, name) for name in sorted(os.listdir(parent))]
    matches = [match for match in matches if match]
    found = [os.path.join(parent, match.group()) for match in matches if match.group(2) in (".partial", ".tmp")]
    temporary = [host.scratch(os.path.join(parent, name)) for name in sorted({match.group(1) for match in matches})]
    return found + [folder for folder in temporary if os.path.isdir(folder) and folder not in found]


def abandoned():
    """This user's folders of temporary files that are older than a day, of whatever folder of environments."""
    where = os.path.dirname(host.scratch(""))
    if not os.path.isdir(where) or os.geteuid() == 0:  # root's lie beside the environments
        return []
    found = [entry for entry in os.scandir(where) if re.fullmatch(r"fer-%d-[0-9a-f]{16}" % os.geteuid(), entry.name)]
    return sorted(entry.path for entry in found if entry.is_dir(follow_symlinks=False)
                  and entry.stat().st_uid == os.geteuid() and time.time() - entry.stat().st_mtime > OLD)


def discard(folder):
    size = used(folder)
    host.remove(folder)
    host.say("removed %s (%.1f GB), which a set-up that was killed has left" % (folder, size / 1e9))


def used(folder):
    """The bytes on the disk; what may not be read counts nothing."""
    return sum(os.lstat(os.path.join(place, name)).st_blocks * 512
               for place, _, names in os.walk(folder) for name in names)
