"""Debian's Caffe with CUDA, for ../fer: how it is built, and what it needs of this machine's cards and driver. It
needs the standard library only."""
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import host
import pytorch
from host import Failure

CONTENT = ("apt.sh", "gpu.sh", "gpu.patch")
# Where the build is seen in the environment and in a Docker image, and the driver's libraries in the environment.
INSIDE = "/caffe-fer-gpu"
DRIVER = "/caffe-fer-driver"
# Compute capabilities without their dot. For the newest one there is PTX too, which drivers compile for newer cards.
ARCHITECTURES = (60, 70, 75, 80, 86)
# Those that the compiler of CUDA 11.2 knows.
KNOWN = (35, 37, 50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86)
# Bytes: of the system that is built in and thrown away, and of what is kept.
NEEDED, KEPT = 8 * 10**9, 10**9
# Commands that take --gpu.
COMMANDS = ("demo", "train", "evaluate", "predict", "features", "respond-ratio", "reproduce", "study")
CARDS = "/dev/nvidia[0-9]*"
LIBRARIES = ("libcuda.so.1", "libnvidia-ptxjitcompiler.so.1", "libnvidia-ml.so.1")
# Where drivers put their libraries if ldconfig does not know them.
FOLDERS = (DRIVER, "/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib64",
           "/usr/lib64/nvidia", "/usr/lib/nvidia", "/usr/local/nvidia/lib64", "/run/opengl-driver/lib",
           "/usr/lib/wsl/lib")

# Asks the driver for the cards, in a process of its own: name, and compute capability without its dot.
QUERY = """
import ctypes, sys
cuda = ctypes.CDLL(sys.argv[1])
def ask(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        sys.exit("%s: error %d" % (name, status))
count, device, value, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
ask("cuInit", 0)
ask("cuDeviceGetCount", ctypes.byref(count))
for number in range(count.value):
    ask("cuDeviceGet", ctypes.byref(device), number)
    ask("cuDeviceGetName", name, 256, device)
    capability = 0
    for attribute in 75, 76:
        ask("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        capability = 10 * capability + value.value
    print(capability, name.value.decode())
"""


# ---------------------------------------------------------------- what is asked for

def card(words):
    """What follows --gpu (or -gpu, for Caffe itself) in a command line of ../fer; None if there is none. Raises Failure
    if it is not the number of a card or, for PyTorch, of several with commas between, or `all`."""
    command, options = _split(words)
    names = ("-gpu", "--gpu") if command in ("caffe", "engine") else ("--gpu",) if command in COMMANDS else ()
    value = _value(options, names)
    torch = on_torch(words)
    if value is not None and not re.fullmatch("[0-9]+(,[0-9]+)*|all" if torch else "[0-9]+", value):
        expected = "the number of a card, such as 0; of several, such as 0,1; or all" if torch else \
            "the number of one card, such as 0; Caffe runs Python layers, which the nets here have, on one card only"
        raise Failure("%s %s: expected %s" % (names[0], value or "without a value", expected), 2)
    return value


def on_torch(words):
    """Whether a command line of ../fer computes on PyTorch."""
    command, options = _split(words)
    named = _value(options, ("--engine",))
    return command == "engine" or command in COMMANDS and (
        named == "torch" or named is None and command == "train" and options[:1] != [] and _trains_on(options[0]))


def _trains_on(folder):
    """Whether a run, or a run of a group, is trained on PyTorch: a training goes on with its own engine."""
    runs = glob.glob(os.path.join(glob.escape(folder), "*", "run.json"))
    for path in [os.path.join(folder, "run.json")] + sorted(runs):
        try:
            with open(path, encoding="utf-8") as f:
                return json.load(f).get("engine") == "torch"
        except (OSError, ValueError, AttributeError):  # no run: the command itself says what is wrong
            pass
    return False


def _split(words):
    """The command, and what follows it."""
    return next(((word, words[i + 1:]) for i, word in enumerate(words) if word != "--debug"), ("", []))


def _value(options, names):
    """The last value of an option, "" where it has none; None if the option is not there."""
    value = None
    for i, word in enumerate(options):
        name, equals, given = word.partition("=")
        if name in names:
            value = given if equals else options[i + 1] if i + 1 < len(options) else ""
    return value


def architectures(text):
    """The numbers in the value of --arch, in rising order. Raises Failure if the compiler does not know one."""
    numbers = [word.strip().replace(".", "") for word in text.split(",")]
    for number in numbers:
        if number not in map(str, KNOWN):
            raise Failure("--arch %s: expected compute capabilities such as 7.0,8.6, of: %s" % (
                text, ", ".join(map(dotted, KNOWN))), 2)
    return tuple(sorted(set(map(int, numbers))))


def dotted(number):
    """86 -> "8.6"."""
    return "%d.%d" % divmod(number, 10)


# ---------------------------------------------------------------- the build

def key():
    digest = hashlib.sha256()
    for name in CONTENT:
        with open(os.path.join(host.HERE, name), "rb") as f:
            digest.update(f.read())
    return digest.hexdigest()[:16]


def is_complete(place):
    return host.marker(place).get("key") == key()


def place_of(folder, numbers):
    """Where the build for these architectures is kept."""
    return os.path.join(folder, "gpu-%s-%s" % (key(), "-".join(map(str, numbers))))


def kept(folder):
    """The build in a folder of environments that was made last; None if there is none."""
    places = [place for place in glob.glob(os.path.join(glob.escape(folder), "gpu-*")) if is_complete(place)]
    return max(places, key=lambda place: os.stat(os.path.join(place, host.MARKER)).st_mtime, default=None)


def built_for(place):
    """The architectures of a build."""
    return [int(number) for number in host.marker(place)["architectures"].split(",")]


class Steps(host.Steps):
    """Shows each file that is compiled, too."""

    @staticmethod
    def step(line):
        compiled = re.match(r"(\[ *\d+%\]) (?:Building|Linking) .*?(\w+(?:\.\w+)+)$", line)
        if compiled:
            name = re.sub(r"^cuda_compile_\d+_generated_|\.o$", "", compiled.group(2))
            return "%s %s" % (compiled.group(1), name)
        return host.Steps.step(line)


def build(place, numbers, check):
    """Builds for these architectures in the folder `place` if that is missing. check: a function that is called with
    the finished folder before it is kept, and raises Failure if the Caffe in it does not run."""
    def work(partial, tmp, lock, output):
        host.tools_for_building(output)
        host.require_subordinate_ids()
        host.say("building Debian's Caffe with CUDA for cards of compute capability %s" %
                 ", ".join(map(dotted, numbers)))
        host.say("this takes about 30 minutes on two cores, downloads 1.7 GB, and needs 8 GB of disk while it "
                 "builds and 0.4 GB afterwards, once")
        host.say("NVIDIA's CUDA toolkit 11.2 comes from Debian's section non-free, under NVIDIA's licence; its "
                 "text is kept in %s" % os.path.join(place, "copyright"))
        host.say("its log: %s" % output.name)
        archive = os.path.join(tmp, "gpu.tar")
        host.check(bootstrap(numbers, archive, tmp, lock, output), output)
        host.check(host.run(["tar", "-x", "-C", partial, "-f", archive, "--strip-components=1",
                             "--no-same-owner"], stdout=output, stderr=output), output)
        check(partial)
    host.make(place, "gpu.lock", is_complete, work, NEEDED, KEPT)


def bootstrap(numbers, archive, tmp, lock, output):
    """Runs gpu.sh in a Debian 11 that is thrown away, writes what it makes into an archive, and returns the status."""
    def command(mode):
        return host.bootstrap(mode, "null", "-", CONTENT, 'gpu.sh "%s"' % " ".join(map(str, numbers)),
                              "tar-out %s %s" % (INSIDE, host.shlex.quote(archive)))
    common = dict(stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=host.build_variables(tmp),
                  pass_fds=[lock.fileno()], tick=Steps(output.name))
    if os.geteuid() == 0:
        return host.run(host.namespaces() + ["--mount-proc"] + command("root"), **common)
    return host.run(host.GUARD + command("unshare"), end=signal.SIGTERM, start_new_session=True, **common)


# ---------------------------------------------------------------- this machine

def driver():
    """The driver's libraries, and nvidia-smi: name -> path, of those that are there."""
    found = {}
    program = shutil.which("ldconfig", path=host.tool_path())
    if program:
        listed = subprocess.run([program, "-p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                universal_newlines=True).stdout
        for name, path in re.findall(r"(?m)^\s*(\S+) \(libc6,(?:x86-64|AArch64)[^)]*\) => (.+)$", listed):
            if name in LIBRARIES and os.path.exists(path):
                found.setdefault(name, os.path.realpath(path))
    for name in LIBRARIES:
        for folder in FOLDERS:
            if os.path.exists(os.path.join(folder, name)):
                found.setdefault(name, os.path.realpath(os.path.join(folder, name)))
    program = shutil.which("nvidia-smi", path=host.tool_path())
    if "libcuda.so.1" in found and program:
        found["nvidia-smi"] = os.path.realpath(program)
    return found


def version(found):
    """The driver's version, from the name of its library; "unknown version" if that does not say it."""
    numbers = re.search(r"libcuda\.so\.(\d+(?:\.\d+)+)$", found["libcuda.so.1"])
    return numbers.group(1) if numbers else "unknown version"


def require(asked, folder, has_torch=None):
    """The build and the driver's libraries, for a command line with "--gpu `asked`". folder: of environments; None
    inside of an environment; has_torch: for the engine, which needs no build, whether there is a PyTorch with CUDA.
    Raises Failure, which names what is missing."""
    place = None if has_torch is not None else kept(folder) if folder else INSIDE if host.marker(INSIDE) else None
    found, missing = driver(), []
    if has_torch is False:
        missing.append("a PyTorch with CUDA, which ./fer setup --torch %s installs" % pytorch.PINNED)
    elif has_torch is None and not place:
        missing.append("Caffe for cards, which %s builds" % (
            "./fer setup --gpu" if folder else "docker build --target gpu"))
    if not glob.glob(CARDS):
        missing.append("a card of NVIDIA (there is no /dev/nvidia0)")
    if "libcuda.so.1" not in found:
        missing.append("NVIDIA's driver (there is no libcuda.so.1)")
    if missing:
        raise Failure("--gpu %s: missing here: %s" % (asked, "; ".join(missing)))
    program = shutil.which("nvidia-modprobe", path=host.tool_path())
    if program and not os.path.exists("/dev/nvidia-uvm"):
        # Otherwise libcuda would call it, which it cannot inside.
        subprocess.run([program, "-u", "-c", "0"], stderr=subprocess.DEVNULL)
    return place, found


def arguments(place, found):
    """What enter.sh takes to show a build, if it is not None, and the driver's libraries inside."""
    return (["gpu=" + place] if place else []) + ["driver=%s=%s" % item for item in sorted(found.items())]


def variables(words):
    """The variables of a command inside an environment, where nothing is to be shown any more. words: `arguments`."""
    folders = [os.path.dirname(word.split("=", 2)[2]) for word in words if word.startswith("driver=libcuda.so.1=")]
    return {"LD_LIBRARY_PATH": folders[0]} if folders else {}


def cards(library):
    """The cards as the driver sees them: (compute capability without its dot, name) each. Raises Failure if the
    driver does not answer."""
    try:
        p = subprocess.run([sys.executable, "-c", QUERY, library], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           universal_newlines=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise Failure("it does not answer") from None
    if p.returncode:
        raise Failure((p.stderr.strip().split("\n") or [""])[-1] or "it ended with status %d" % p.returncode)
    return [(int(number), name) for number, _, name in (line.partition(" ") for line in p.stdout.splitlines())]


def fit(capability, numbers):
    """How a card of a compute capability runs what was built for `numbers`: in its own code "", or what is to know."""
    if any(number // 10 == capability // 10 and number <= capability for number in numbers):
        return ""
    if capability > max(numbers):
        return "newer than %s: the driver compiles Caffe's own kernels for it (PTX) at the start; cuBLAS 11.2 may " \
               "refuse it" % dotted(max(numbers))
    return "Caffe was not built for it: ./fer setup --gpu --arch %s" % dotted(capability)


def report(place):
    """The lines of `./fer setup` on cards. place: of the build; None if there is none."""
    found = driver()
    lines = ["gpu caffe   " + (
        "for compute capability %s: %s" % (", ".join(map(dotted, built_for(place))), place) if place
        else "not built; ./fer setup --gpu builds it")]
    if "libcuda.so.1" not in found:
        return lines + ["gpu driver  none of NVIDIA (there is no libcuda.so.1)"]
    lines.append("gpu driver  %s: %s" % (version(found), found["libcuda.so.1"]))
    if not glob.glob(CARDS):
        return lines + ["gpu card    none of NVIDIA (there is no /dev/nvidia0)"]
    try:
        seen = cards(found["libcuda.so.1"])
    except Failure as e:
        return lines + ["gpu card    the driver cannot be asked: %s" % e]
    for number, (capability, name) in enumerate(seen):
        said = fit(capability, built_for(place)) if place else ""
        lines.append("gpu card %d  %s, compute capability %s%s" % (number, name, dotted(capability),
                                                                  "; " + said if said else ""))
    return lines
