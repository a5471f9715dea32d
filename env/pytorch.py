"""PyPI's PyTorch beside the environment, for ../fer: how it is installed, and which one is used. It needs the standard
library only."""
import hashlib
import os
import re
import subprocess

import host
from host import Failure

# The version that torch.txt pins for x86-64, with CUDA. It is the last one for Debian 11's Python 3.9.
PINNED = "2.8.0"
REQUIREMENTS = os.path.join(host.HERE, "torch.txt")
# Where an installation is seen in the environment.
INSIDE = "/caffe-fer-torch"
# The word for the PyTorch of the environment itself.
DEBIAN = "debian"
# The file in a folder of environments with the name of the installation that is used.
CHOICE = "torch.txt"
# Bytes on the disk: while it is installed (the downloads and what is unpacked), and afterwards.
NEEDED, KEPT = 10 * 10**9, 6 * 10**9

# $1: the folder; the others: arguments of pip. The environment has what is removed, in the versions that its other
# programs need.
INSTALL = """
set -eu
folder=$1
shift
python3 -m pip install --target "$folder/python" --no-cache-dir --no-compile --disable-pip-version-check "$@"
cd "$folder/python"
rm -rf jinja2 markupsafe networkx numpy numpy.libs setuptools pkg_resources _distutils_hack distutils-precedence.pth
echo "fer: last checks"
PYTHONPATH=$folder/python python3 - >"$folder/version" <<'X'
import numpy, torch
assert torch.from_numpy(numpy.ones(2, numpy.float32)).sum() == 2
x = torch.ones(1, 1, 4, 4, requires_grad=True)
torch.nn.functional.conv2d(x, torch.ones(1, 1, 3, 3)).sum().backward()
print(torch.__version__.partition("+")[0], torch.version.cuda or "none")
X
python3 -W ignore -m compileall -q -f --invalidation-mode unchecked-hash . || :
"""


def version(text):
    """The value of --torch. Raises Failure if it is none."""
    if text != DEBIAN and not re.fullmatch(r"[0-9]+(\.[0-9]+)+", text):
        raise Failure("setup: --torch %s: expected a version such as %s, or %s; see ./fer setup --help"
                      % (text, PINNED, DEBIAN), 2)
    return text


def is_pinned(wanted):
    return wanted == PINNED and os.uname().machine == "x86_64"


def key(wanted):
    content = wanted.encode()
    if is_pinned(wanted):
        with open(REQUIREMENTS, "rb") as f:
            content = f.read()
    return hashlib.sha256(content).hexdigest()[:16]


def is_complete(place):
    found = host.marker(place)
    return "torch" in found and found["key"] == key(found["torch"])


def place_of(folder, wanted):
    """Where a version is kept in a folder of environments."""
    return os.path.join(folder, "torch-%s-%s" % (wanted, key(wanted)))


def chosen(folder):
    """The installation that is used with a folder of environments; None for Debian's PyTorch."""
    try:
        with open(os.path.join(folder, CHOICE)) as f:
            place = os.path.join(folder, os.path.basename(f.read().strip()))
    except OSError:
        return None
    return place if is_complete(place) else None


def choose(folder, place):
    """Uses an installation from now on; None: Debian's PyTorch."""
    choice = os.path.join(folder, CHOICE)
    if place:
        with open(choice + ".new", "w") as f:
            f.write(os.path.basename(place) + "\n")
        os.replace(choice + ".new", choice)
    elif os.path.exists(choice):
        os.remove(choice)


class Steps(host.Steps):
    """Shows large downloads, too."""

    @staticmethod
    def step(line):
        download = re.match(r" *Downloading (?:\S*/)?([\w.]+-[\w.]+)-\S*\.whl \(((\d+)\.\d+ MB)\)", line)
        if download and int(download.group(3)) >= 50:
            return "downloading %s, %s" % download.group(1, 2)
        if line.startswith("Installing collected packages"):
            return "unpacking, which takes a minute or more on a busy disk"
        return host.Steps.step(line)


def install(place, wanted, run):
    """Installs a version in the folder `place` if that is missing. run: a function that runs a command inside of the
    environment, with options for subprocess, and returns its status."""
    def work(partial, tmp, lock, output):
        host.say("installing PyTorch %s from PyPI%s" % (wanted, "" if is_pinned(wanted) else
                 ", with what pip chooses to go with it; env/torch.txt pins %s for x86-64" % PINNED))
        host.say("with CUDA this downloads 3.8 GB, and needs 10 GB of disk while it installs and 6 GB afterwards; the "
                 "packages named nvidia have NVIDIA's licence")
        host.say("its log: %s" % output.name)
        packages = ["--no-deps", "--require-hashes", "-r", REQUIREMENTS] if is_pinned(wanted) else ["torch==" + wanted]
        status = run(["sh", "-c", INSTALL, "sh", partial] + packages, stdout=output, stderr=output,
                     stdin=subprocess.DEVNULL, pass_fds=[lock.fileno()], pass_to=None, tick=Steps(output.name),
                     variables={"TMPDIR": tmp})
        host.check(status, output)
        os.mkdir(os.path.join(partial, "etc"))
        with open(os.path.join(partial, "version")) as f:
            found, cuda = f.read().split()
        with open(os.path.join(partial, host.MARKER), "w") as f:
            f.write("key %s\ntorch %s\ncuda %s\n" % (key(wanted), found, cuda))
    host.make(place, "torch.lock", is_complete, work, NEEDED, KEPT, place + ".tmp")


def has_cuda(place):
    """Whether an installation computes on cards. place: None for Debian's PyTorch."""
    return place is not None and host.marker(place)["cuda"] != "none"


def report(place):
    """The line of `./fer setup` on an installation. place: None for Debian's."""
    if not place:
        return "torch       Debian's, without CUDA; ./fer setup --torch %s installs a faster one with CUDA" % PINNED
    found = host.marker(place)
    return "torch       %s with %s: %s; ./fer setup --torch %s goes back to Debian's" % (
        found["torch"], "CUDA " + found["cuda"] if has_cuda(place) else "no CUDA", place, DEBIAN)
