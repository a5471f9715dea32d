"""The launcher, seen from the host. Python's own unittest, because a host has no
pytest; `./fer test` runs these before the tests inside."""
import fcntl
import hashlib
import importlib.machinery
import importlib.util
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FER = os.path.join(ROOT, "fer")


def load():
    loader = importlib.machinery.SourceFileLoader("fer", FER)
    spec = importlib.util.spec_from_loader("fer", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


fer = load()
host = fer.host
if host.marker():
    raise unittest.SkipTest("for the host; this is the environment itself")

def setUpModule():
    """A call in the background, or under nohup, has signals ignored, and hands that down to what is tested here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Stands in for mmdebstrap: makes a folder (or a tar of one) that has the marker, after
# BEFORE, a line of shell.
FAKE = """
set -e; echo "fer: a step" >&2
if [ "$1" = - ]; then t=$(mktemp -d); else t=$1; fi
%s
mkdir -p "$t/etc"; echo "key %s" >"$t/etc/caffe-fer"
if [ "$1" = - ]; then tar -C "$t" -c .; rm -r "$t"; fi
"""

# A process that builds with that stand-in, to be killed or doubled.
BUILDER = """
import sys
sys.path.insert(0, sys.argv[1])
import host
host.missing_tools = list
host.NEEDED = 0
host.mmdebstrap = lambda mode, target: ["sh", "-c", sys.argv[3], "sh", target]
try:
    host.build(sys.argv[2])
except host.Failure as e:
    host.say(str(e))
    sys.exit(e.status)
"""


def fake(before=""):
    return FAKE % (before, host.key())


def mounts():
    with open("/proc/self/mountinfo") as f:
        return sorted(f)


def drain(terminal):
    """Reads what a terminal shows until its last program has ended."""
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


def content(file):
    with open(file) as f:
        return f.read()


def wait_for(condition, seconds=20):
    end = time.time() + seconds
    while not condition():
        if time.time() > end:
            raise AssertionError("waited %d s in vain" % seconds)
        time.sleep(0.05)


def alive(name):
    """The other processes that have `name` in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if name.encode() in f.read() and int(pid) != os.getpid():
                    found.append(pid)
        except OSError:
            pass
    return found


class Building(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fer test ")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.place = os.path.join(self.folder, "envs", "key")
        self.note = os.path.join(self.folder, "note")

    def builder(self, before=""):
        return subprocess.Popen([sys.executable, "-c", BUILDER, os.path.join(ROOT, "env"), self.place, fake(before)],
                                stderr=subprocess.PIPE, universal_newlines=True)

    def finish(self, process):
        error = process.communicate(timeout=60)[1]
        return process.returncode, error

    def test_complete_only_at_the_end(self):
        status, error = self.finish(self.builder("echo 'I: removing tempdir x...' >&2"))
        self.assertEqual((status, host.is_complete(self.place)), (0, True), error)
        self.assertRegex(error, r"\d s  a step\n.*\d s  removing temporary files.*\n.*\d s  writing to the disk\n")
        self.assertEqual(sorted(os.listdir(os.path.dirname(self.place))), ["key", "key.log", "lock"])

    def test_another_env_folder_is_another_environment(self):
        self.finish(self.builder())
        with mock.patch.object(host, "key", lambda: "other"):
            self.assertFalse(host.is_complete(self.place))

    def test_failure_is_one_sentence_and_leaves_nothing(self):
        mirror = r"FER_DEBIAN_MIRROR .*archive\.debian\.org.*docs/installation\.md"
        for line, reason in (("E: Failed to fetch x  Could not connect", "mirror cannot be reached: set " + mirror),
                             ("E: The repository 'x bullseye Release' does not have a Release file.",
                              "does not have Debian 11: set " + mirror),
                             ("E: Failed to fetch x  404  Not Found [IP: 1]", "does not have Debian 11: set " + mirror),
                             ("Max retries exceeded with url: Could not connect", "PyPI cannot be .*PIP_INDEX_URL"),
                             ("W: GPG error: x EXPKEYSIG 1 Debian; x is not signed", "expired: set FER_DEBIAN_KEYRING"),
                             ("tar: write error: No space left on device", "no space left"),
                             ("W: GPG error: NO_PUBKEY 123", "signature"),
                             ("E: something new", "something new")):
            status, error = self.finish(self.builder(f"echo '{line}' >&2; exit 3"))
            self.assertEqual(status, 1)
            self.assertRegex(error.strip().split("\n")[-1], rf"^fer: the set-up failed: .*{reason}")
            self.assertNotIn("Traceback", error)
            self.assertEqual(sorted(os.listdir(os.path.dirname(self.place))), ["key.log", "lock"])

    def test_killed_builds_leave_no_process_and_no_mount_and_the_next_one_succeeds(self):
        before = mounts()
        busy = f'mount -t tmpfs none "$t" 2>/dev/null || :; (exec sleep 1000) & : >"{self.note}"; wait'
        for number, status in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
            process = self.builder(busy)
            wait_for(lambda: os.path.exists(self.note))
            os.remove(self.note)
            process.send_signal(number)
            self.assertEqual(self.finish(process)[0], status)
            self.assertFalse(host.is_complete(self.place))
            wait_for(lambda: not alive(self.note))
            self.assertEqual(mounts(), before)
        status, error = self.finish(self.builder())
        self.assertEqual((status, host.is_complete(self.place)), (0, True), error)
        self.assertFalse(os.path.exists(self.place + ".partial"))

    def test_two_at_once_build_once(self):
        first = self.builder(f'echo x >>"{self.note}"; sleep 1')
        wait_for(lambda: os.path.exists(self.note))
        second = self.builder(f'echo x >>"{self.note}"')
        results = [self.finish(first), self.finish(second)]
        self.assertEqual([status for status, _ in results], [0, 0], results)
        self.assertIn("waiting for another set-up", results[1][1])
        with open(self.note) as f:
            self.assertEqual(f.read(), "x\n")

    def test_space_is_looked_at_first(self):
        with mock.patch.object(host, "NEEDED", 10**18), self.assertRaisesRegex(host.Failure, "GB are free"):
            host.build(self.place)
        self.assertFalse(os.path.exists(self.place + ".partial"))

    def test_missing_tools_are_named(self):
        with mock.patch.object(host, "KEYRINGS", []), mock.patch.object(host, "tool_path", lambda: self.folder):
            with self.assertRaisesRegex(host.Failure, "lacks mmdebstrap and debian-archive-keyring"):
                host.tools_for_building(None)

    def test_tools_that_cannot_be_installed_are_named(self):
        log = open(self.note, "w+")
        self.addCleanup(log.close)
        with mock.patch.multiple(host, missing_tools=lambda: ["mmdebstrap"], run=lambda *a, **k: 100,
                                 say=lambda *a: None), \
                mock.patch("os.geteuid", lambda: 0), mock.patch("shutil.which", lambda *a, **k: "/x"):
            with self.assertRaisesRegex(host.Failure, "apt-get cannot install mmdebstrap"):
                host.tools_for_building(log)

    def test_goes_on_when_nobody_listens(self):
        process = self.builder("sleep 3")
        process.stderr.close()
        self.assertEqual((process.wait(60), host.is_complete(self.place)), (0, True))

    def test_a_folder_that_cannot_be_written(self):
        with open(self.note, "w"):
            pass
        with self.assertRaisesRegex(host.Failure, "FER_ENV_DIR"):
            host.build(os.path.join(self.note, "envs", "key"))

    def test_never_without_signatures(self):
        argv = " ".join(host.mmdebstrap("root", "x"))
        self.assertNotRegex(argv.lower(), "unauthenticated|insecure|trusted=yes|weak")

    def test_an_ordinary_user_sees_that_files_are_copied(self):
        self.assertIn("--customize-hook=echo 'fer: copying, so that all files belong to you' >&2",
                      host.mmdebstrap("unshare", "-"))
        self.assertNotIn("fer: copying", " ".join(host.mmdebstrap("root", "x")))

    def test_more_keys_for_the_mirror(self):
        with mock.patch.dict(os.environ, FER_DEBIAN_KEYRING=FER):  # any file
            argv = host.mmdebstrap("root", "x")
        self.assertIn("--keyring=" + FER, argv)
        self.assertTrue([a for a in argv if "FER_DEBIAN_KEYRING=/caffe-fer-env/keyring " in a], argv)
        with mock.patch.dict(os.environ, FER_DEBIAN_KEYRING="/nonexistent"):
            with self.assertRaisesRegex(host.Failure, "FER_DEBIAN_KEYRING is /nonexistent, but there is no such file"):
                host.mmdebstrap("root", "x")
        with mock.patch.dict(os.environ):
            os.environ.pop("FER_DEBIAN_KEYRING", None)
            self.assertNotIn("FER_DEBIAN_KEYRING", " ".join(host.mmdebstrap("root", "x")))

    def test_other_mirror(self):
        with mock.patch.dict(os.environ, FER_DEBIAN_MIRROR="http://mirror.invalid/debian"):
            argv = host.mmdebstrap("root", "x")
        self.assertEqual(argv[-1], "deb http://mirror.invalid/debian bullseye main")
        self.assertFalse([a for a in argv if "security" in a])


class Leftovers(unittest.TestCase):
    """What killed set-ups have left."""
    KEY, OTHER = "0123456789abcdef", "fedcba9876543210"

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fer test ")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.envs, self.tmp = os.path.join(self.folder, "envs"), os.path.join(self.folder, "tmp")
        for name in (self.KEY, self.KEY + ".partial", self.OTHER + ".tmp", "mine.partial", self.OTHER + "0.partial"):
            os.makedirs(os.path.join(self.envs, name, "etc"))
        for name in ("lock", self.KEY + ".log"):
            with open(os.path.join(self.envs, name), "w"):
                pass
        os.mkdir(self.tmp)
        self.said = []

    def clean(self, user=0):
        with mock.patch.dict(os.environ, TMPDIR=self.tmp), mock.patch("os.geteuid", lambda: user), \
                mock.patch.object(host, "say", self.said.append):
            fer.leftovers.clean(self.envs)
        return sorted(os.listdir(self.envs)), sorted(os.listdir(self.tmp))

    def test_root(self):
        with open(os.path.join(self.envs, self.KEY + ".partial", "etc", "x"), "wb") as f:
            f.write(os.urandom(2 * 10**8))
        kept = sorted([self.KEY, self.KEY + ".log", "lock", "mine.partial", self.OTHER + "0.partial"])
        self.assertEqual(self.clean()[0], kept)
        self.assertEqual(self.said, [
            f"removed {self.envs}/{self.KEY}.partial (0.2 GB), which a set-up that was killed has left",
            f"removed {self.envs}/{self.OTHER}.tmp (0.0 GB), which a set-up that was killed has left"])
        self.said.clear()
        self.assertEqual((self.clean()[0], self.said), (kept, []))

    def test_nothing_of_a_set_up_that_is_running(self):
        before = sorted(os.listdir(self.envs))
        with open(os.path.join(self.envs, "lock")) as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            self.assertEqual(self.clean()[0], before)
        self.assertEqual(self.said, [])

    def test_a_build_for_cards(self):
        """It has a lock of its own: each of the two kinds may run while the other's leftovers are removed."""
        name = f"gpu-{self.KEY}-60-86"
        for ending in ("", ".partial", ".tmp", ".other"):
            os.makedirs(os.path.join(self.envs, name + ending, "etc"))
        os.mkdir(os.path.join(self.envs, "gpu-mine.partial"))
        ours = {self.KEY + ".partial", self.OTHER + ".tmp"}
        cards = {name + ".partial", name + ".tmp"}
        everything = {*os.listdir(self.envs), "gpu.lock"}
        with open(os.path.join(self.envs, "gpu.lock"), "w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            self.assertEqual(self.clean()[0], sorted(everything - ours))
        for leftover in ours:
            os.mkdir(os.path.join(self.envs, leftover))
        self.said.clear()
        with open(os.path.join(self.envs, "lock")) as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            self.assertEqual(self.clean()[0], sorted(everything - cards))
        self.assertEqual(self.said, [f"removed {self.envs}/{name}{ending} (0.0 GB), which a set-up that was killed has "
                                     "left" for ending in (".partial", ".tmp")])

    def test_an_ordinary_users_temporary_files_of_a_build_for_cards(self):
        user = os.geteuid() or 1234
        place = os.path.join(self.envs, f"gpu-{self.KEY}-86")
        ours = os.path.join(self.tmp, f"fer-{user}-{hashlib.sha256(place.encode()).hexdigest()[:16]}")
        os.mkdir(ours)
        for name in ("gpu.lock", f"gpu-{self.KEY}-86.log"):
            with open(os.path.join(self.envs, name), "w"):
                pass
        self.assertEqual(self.clean(user)[1], [])

    def test_an_ordinary_users_temporary_files(self):
        """Those of this folder of environments at once; those of another one, which may be busy, after a day. The
        names are FER-<user>-<the first 16 digits of SHA-256 of the environment's folder>."""
        user = os.geteuid() or 1234
        place = os.path.join(self.envs, self.KEY).encode()
        ours = f"fer-{user}-{hashlib.sha256(place).hexdigest()[:16]}"
        old, young, foreign, file = (f"fer-{user}-{c * 16}" for c in "abcd")
        others = f"fer-{user + 1}-{'a' * 16}"
        for name in (ours, old, young, foreign, others, "fer-x"):
            os.mkdir(os.path.join(self.tmp, name))
            if user != os.geteuid() and name != foreign:
                os.chown(os.path.join(self.tmp, name), user, user)
        with open(os.path.join(self.tmp, file), "w"):
            pass
        for name in (old, foreign, others, "fer-x", file):
            os.utime(os.path.join(self.tmp, name), (time.time() - 90000,) * 2)
        kept = {young, others, "fer-x", file} | ({foreign} if user != os.geteuid() else set())
        self.assertEqual(self.clean(user)[1], sorted(kept))


class SubordinateIds(unittest.TestCase):
    def advice(self, uid, subuid, subgid):
        with tempfile.TemporaryDirectory() as folder:
            names = [os.path.join(folder, name) for name in ("subuid", "subgid")]
            for name, text in zip(names, (subuid, subgid)):
                if text is not None:
                    with open(name, "w") as f:
                        f.write(text)
            user = mock.Mock(pw_name=f"user{uid}")
            with mock.patch("os.geteuid", lambda: uid), mock.patch("pwd.getpwuid", lambda _: user):
                return host.subordinate_ids.advice(names)

    def test_a_range_in_both_files_by_name_or_number_is_enough(self):
        self.assertIsNone(self.advice(1000, "user1000:100000:65536\n", "x:1:1\n1000:100000:65536\n"))

    def test_each_user_gets_a_range_of_their_own(self):
        # 10000000 + 1000 * 65536 = 75536000, and 65536 more for the next user.
        self.assertEqual(self.advice(1000, None, None), "usermod --add-subuids 75536000-75601535 "
                         "--add-subgids 75536000-75601535 user1000")
        self.assertIn(" 75601536-75667071 ", self.advice(1001, "", "user1001:100000:65536\n"))
        self.assertIn(" 75536000-75601535 ", self.advice(61000, "user61000:5:65535\n", ""))

    def test_a_range_that_another_user_has_is_not_advised(self):
        self.assertIn(" 75601536-75667071 ", self.advice(1000, "a:75601535:1\n", ""))
        self.assertIn(" 75667072-75732607 ", self.advice(1000, "a:75500000:65536\n", "b:75601536:65536\n\nnoise\n"))

    def test_it_is_said_before_anything_is_built(self):
        with tempfile.TemporaryDirectory() as folder, \
                mock.patch.object(host.subordinate_ids, "advice", lambda: "usermod x"), \
                mock.patch.multiple(host, missing_tools=list, check_namespaces=lambda: None, NEEDED=0,
                                    mmdebstrap=None), \
                mock.patch("os.geteuid", lambda: 1000), \
                self.assertRaisesRegex(host.Failure, "no range of 65536 subordinate .*: let root run usermod x"):
            host.build(os.path.join(folder, "key"))


class Variables(unittest.TestCase):
    def environ(self, **variables):
        with mock.patch.dict(os.environ, variables):
            return fer.environ()

    def test_the_hosts_python_stays_outside(self):
        made = self.environ(PYTHONHOME="/x", PYTHONPATH="/x", VIRTUAL_ENV="/x", LD_PRELOAD="/x", LD_LIBRARY_PATH="/x",
                            CONDA_PREFIX="/x", PYTHONHASHSEED="0", GLOG_minloglevel="2", MPLBACKEND="module://x")
        self.assertEqual(made["PYTHONPATH"], ROOT)
        self.assertEqual((made["PYTHONHASHSEED"], made["GLOG_minloglevel"]), ("0", "2"))
        self.assertFalse({"PYTHONHOME", "VIRTUAL_ENV", "LD_PRELOAD", "LD_LIBRARY_PATH", "CONDA_PREFIX",
                          "MPLBACKEND"} & set(made))

    def test_a_home_that_cannot_be_used(self):
        self.assertEqual(self.environ(HOME="/nonexistent")["HOME"], fer.CACHE)

    def test_kernel_is_left_where_set(self):
        self.assertEqual(self.environ(OPENBLAS_CORETYPE="Nehalem")["OPENBLAS_CORETYPE"], "Nehalem")

    def test_values_that_openblas_passes_over_are_refused(self):
        for name, wrong, right in (("OPENBLAS_NUM_THREADS", ("abc", "0", "-1", "1.5"), ("1", "64", "")),
                                   ("OPENBLAS_CORETYPE", ("Foo", "Haswell "), ("Nehalem", "core2", ""))):
            for value in wrong:
                with mock.patch.dict(os.environ, {name: value}), self.assertRaisesRegex(
                        host.Failure, f"{name} is '{value}', expected") as caught:
                    fer.environ()
                self.assertEqual(caught.exception.status, 2)
            for value in right:
                with mock.patch.dict(os.environ, {name: value}):
                    fer.environ()

    def test_a_kernel_that_this_processor_cannot_run_is_refused(self):
        for flags, kernel, missing in (("avx avx2 fma", "skylakex", "avx512f, avx512dq"),
                                       ("sse4_2", "Zen", "avx2, fma"),
                                       ("avx avx2 fma", "Steamroller", "fma4"), ("sse4_2", "Opteron", "3dnow"),
                                       ("avx avx2 fma", "Haswell", ""), ("sse4_2", "Nehalem", ""), ("", "Zen", "")):
            with tempfile.NamedTemporaryFile("w") as f:
                f.write("processor\t: 0\n" + (f"flags\t\t: {flags}\n" if flags else "") + "\nprocessor : 1\n")
                f.flush()
                if not missing:
                    fer.require_kernel(kernel, f.name)
                    continue
                with self.assertRaisesRegex(host.Failure, f"lacks its instructions \\({missing}") as caught:
                    fer.require_kernel(kernel, f.name)
                self.assertEqual(caught.exception.status, 2)
        fer.require_kernel("Zen", "/nonexistent")

    def test_kernel(self):
        avx512 = "avx avx2 fma avx512f avx512dq avx512bw avx512vl avx512cd"
        for vendor, flags, kernel in (("GenuineIntel", avx512, "SkylakeX"), ("AuthenticAMD", avx512, "SkylakeX"),
                                      ("GenuineIntel", "avx avx2 fma avx512f", "Haswell"),
                                      ("AuthenticAMD", "avx avx2 fma", "Zen"), ("GenuineIntel", "avx", "Sandybridge"),
                                      ("GenuineIntel", "sse4_2", None)):
            with tempfile.NamedTemporaryFile("w") as f:
                f.write(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n\nprocessor : 1\n")
                f.flush()
                self.assertEqual(fer.blas_kernel(f.name)[0], kernel, (vendor, flags))

    def test_setup_says_why_it_is_this_kernel(self):
        with mock.patch.object(fer, "blas_kernel", return_value=("Zen", "the processor is such")):
            self.assertEqual(fer.kernel_line({}), "kernel      Zen: the processor is such; `./fer bench kernels` "
                                                  "measures all that this processor can run")
            self.assertEqual(fer.kernel_line({"OPENBLAS_CORETYPE": "Zen"}), fer.kernel_line({}))
            self.assertIn("Nehalem: set by OPENBLAS_CORETYPE; otherwise Zen: the processor is such;",
                          fer.kernel_line({"OPENBLAS_CORETYPE": "Nehalem"}))
        with mock.patch.object(fer, "blas_kernel", return_value=(None, "there is nothing")):
            self.assertIn("none set: there is nothing;", fer.kernel_line({}))

    def test_a_colon_in_the_path(self):
        with mock.patch.object(fer, "ROOT", "/a:b"), self.assertRaisesRegex(host.Failure, "colon"):
            fer.environ()


class Shadowed(unittest.TestCase):
    """Arguments below /usr, /etc ...: what the environment has is its own, the rest is the host's."""

    def setUp(self):
        self.place = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.place)
        for name in ("usr/bin", "usr/share/full", "etc", "lib"):
            os.makedirs(os.path.join(self.place, name))
        with open(os.path.join(self.place, "usr/share/full/x"), "w") as f:
            f.write("x")

    def test_elsewhere_nothing_is_to_do(self):
        self.assertEqual(fer.shadowed(["/tmp/x", "--out=/tmp", "etc/x", "-x", "--a=b", "/", ""], self.place), [])

    def test_the_hosts_own(self):
        file = os.path.realpath(shutil.which("env"))
        self.assertTrue(file.startswith("/usr/"))
        self.assertEqual(fer.shadowed(["--model=" + file, file], self.place), [file])
        self.assertTrue(os.path.exists(self.place + file))
        self.assertEqual(fer.shadowed([file], self.place), [file], "the second time too")
        self.assertEqual(fer.shadowed([os.path.dirname(file)], self.place), [os.path.dirname(file)], "its folder too")

    def test_a_path_behind_a_name(self):
        file = os.path.realpath(shutil.which("env"))
        self.assertEqual(fer.shadowed(["fer2013-xie2019a=" + file], self.place), [file])
        self.assertEqual(fer.shadowed(["A=/no such folder/x", "solver.max_iter=3", "A=/usr/bin:/bin env"], self.place),
                         [])

    def test_a_relative_path_out_of_the_callers_folder(self):
        file = os.path.realpath(shutil.which("env"))
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/usr/share")
        self.assertEqual(fer.shadowed([os.path.relpath(file)], self.place), [file])

    def test_the_environments_own(self):
        with self.assertRaisesRegex(host.Failure, "folder of its own"):
            fer.shadowed(["/usr/share/no such folder/x"], self.place)

    def test_new_folder_below_the_root(self):
        with self.assertRaisesRegex(host.Failure, "to write there, make the folder /no such folder first"):
            fer.shadowed(["/no such folder/x"], self.place)


class Nowhere(unittest.TestCase):
    """What must not make an environment first."""

    def refused(self, *arguments, **options):
        with tempfile.TemporaryDirectory() as folder:
            p = subprocess.run([sys.executable, FER] + list(arguments), stderr=subprocess.PIPE, timeout=20,
                               universal_newlines=True, env=dict(os.environ, FER_ENV_DIR=folder), **options)
            self.assertEqual(os.listdir(folder), [])
        return p.returncode, p.stderr

    def test_unknown_command(self):
        self.assertEqual(self.refused("trian"), (
            2, "fer: there is no command 'trian'; did you mean train? See ./fer --help\n"))
        self.assertEqual(self.refused("xyz"), (2, "fer: there is no command 'xyz'; see ./fer --help\n"))

    def test_the_images_entrypoint_is_no_command_of_the_host(self):
        self.assertEqual(self.refused("--in-image", "true")[0], 2)

    def test_version(self):
        with open(os.path.join(ROOT, "VERSION")) as f:
            number = f.read().strip()
        with tempfile.TemporaryDirectory() as folder:
            for name in ("fer", "VERSION", "env"):
                os.symlink(os.path.join(ROOT, name), os.path.join(folder, name))
            with mock.patch.object(fer, "ROOT", folder):
                self.assertEqual(fer.version(), number)
                git = ["git", "-C", folder, "-c", "user.name=n", "-c", "user.email=e@example.org"]
                for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
                    subprocess.check_call(git + words)
                commit = subprocess.check_output(git + ["rev-parse", "HEAD"], universal_newlines=True).strip()
                clean = re.fullmatch(re.escape(number) + r" \(commit ([0-9a-f]{7,})\)", fer.version())
                self.assertTrue(clean and commit.startswith(clean.group(1)), fer.version())
                os.remove(os.path.join(folder, "env"))
                self.assertEqual(fer.version(), f"{number} (commit {clean.group(1)}, with local changes)")
        out = subprocess.check_output([sys.executable, FER, "--version"], universal_newlines=True,
                                      env=dict(os.environ, FER_ENV_DIR="/nonexistent"))
        self.assertTrue(out.startswith(f"caffe-fer {number}"), out)

    def test_deleted_folder(self):
        folder = tempfile.mkdtemp()
        status, error = self.refused("python", "-c", "pass", cwd=folder, preexec_fn=lambda: os.rmdir(folder))
        self.assertEqual((status, error), (1, "fer: the current folder no longer exists\n"))


class DockerContext(unittest.TestCase):
    def test_what_git_tracks_and_nothing_else(self):
        """tests/docker looks at what the image has; here only that no new name is forgotten."""
        if fer.commit("7") is None:
            self.skipTest("no git")
        tracked = subprocess.check_output(["git", "-C", ROOT, "ls-files"], universal_newlines=True).split("\n")
        with open(os.path.join(ROOT, ".dockerignore")) as f:
            lines = f.read().splitlines()
        names = {name.split("/")[0] for name in tracked if name} - {".dockerignore"}
        self.assertEqual(names - {line[1:] for line in lines if line.startswith("!")}, set())
        self.assertIn("*", lines)


# Of a training that does not end by itself.
SOLVER = """base_lr: 0.1 lr_policy: "fixed" max_iter: 100000000 display: 1 snapshot_prefix: "s" solver_mode: CPU
    net_param {
    layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 9 dim: 9 } } }
    layer { name: "f" type: "InnerProduct" bottom: "d" top: "f" inner_product_param { num_output: 9 } }
    layer { name: "r" type: "Reduction" bottom: "f" top: "r" loss_weight: 1 } }"""
ENVIRONMENT = os.path.join(os.environ.get("FER_ENV_DIR") or os.path.join(ROOT, ".fer"), host.key())


@unittest.skipUnless(host.is_complete(ENVIRONMENT), "the environment is not there: ./fer setup")
class Inside(unittest.TestCase):
    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="fer test "))
        self.addCleanup(shutil.rmtree, self.folder)

    def fer(self, *arguments, fer=FER, **options):
        options.setdefault("cwd", self.folder)
        p = subprocess.run([fer] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           universal_newlines=True, timeout=60, **options)
        return p.returncode, p.stdout, p.stderr

    def python(self, text, *arguments, **options):
        return self.fer("python", "-c", textwrap.dedent(text), *arguments, **options)

    def test_arguments_folder_and_streams(self):
        given = ["a b", "", "new\nline", "$x 'y' \"z\"", "*", "ü"]
        status, out, err = self.python("import sys, os; print(sys.argv[1:], os.getcwd(), sys.stdin.read())", *given,
                                       input="in")
        self.assertEqual((status, out, err), (0, f"{given} {self.folder} in\n", ""))

    def test_the_launcher_knows_the_commands(self):
        names = self.python("from tools.cli.main import COMMANDS; print(*COMMANDS)")[1].split()
        self.assertEqual(names, list(fer.WORK))
        for name in fer.COMMANDS[:-3]:
            self.assertRegex(fer.__doc__, rf"(?m)^  {name} ")

    def test_through_a_symlink(self):
        link = os.path.join(self.folder, "link to fer")
        os.symlink(FER, link)
        status, out, err = self.python("import sys; print(sys.path[1])", fer=link)
        self.assertEqual((status, out, err), (0, ROOT + "\n", ""))

    def test_status(self):
        self.assertEqual(self.python("import sys; sys.exit(7)")[0], 7)
        self.assertEqual(self.python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")[0], 137)
        self.assertEqual(self.python("import os; os.abort()")[0], 134)

    def test_files_belong_to_the_caller_and_lie_on_the_host(self):
        self.assertEqual(self.python("open('made', 'w').write('x')")[0], 0)
        self.assertEqual(os.stat(os.path.join(self.folder, "made")).st_uid, os.geteuid())

    def test_nothing_stays_mounted(self):
        before = mounts()
        self.assertEqual(self.python("pass")[0], 0)
        self.assertEqual(mounts(), before)

    def test_new_folders_below_the_root_are_refused(self):
        status, _, err = self.python("import os; os.mkdir('/fer' + 'made')")
        self.assertEqual(status, 1)
        self.assertRegex(err, "Read-only|Permission")

    def test_poor_path(self):
        where = os.path.dirname(sys.executable)
        self.assertEqual(self.python("pass", env=dict(os.environ, PATH=where + ":/usr/bin:/bin"))[0], 0)

    def test_certificates_of_the_host(self):
        """Their path may not exist inside, so its variables name the file in their place."""
        bundle = os.path.join(self.folder, "own.crt")
        with open(bundle, "w") as f:
            f.write("trusted here\n")
        status, out, _ = self.python("""
            import os
            print(*(os.environ.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE", "FER_CA")))
            print(open(os.environ["PIP_CERT"]).read())""", env=dict(os.environ, PIP_CERT="own.crt",
                                                                     SSL_CERT_FILE="/etc/host/only.crt"))
        file = "/etc/ssl/certs/ca-certificates.crt"
        self.assertEqual((status, out), (0, f"{file} {file} None\ntrusted here\n\n"))

    def test_orphans_are_gathered(self):
        status, out, _ = self.python("""
            import os, subprocess, time
            subprocess.run(["sh", "-c", "(sleep 0.1) & exit"])
            time.sleep(0.5)
            print(sum(")" + " Z" in open("/proc/%s/stat" % p).read() for p in os.listdir("/proc") if p.isdigit()))""")
        self.assertEqual((status, out), (0, "0\n"))

    def test_calls_have_other_process_numbers(self):
        """LMDB refuses a second reader of the same number, and two calls may read one data set at a time."""
        numbers = [int(self.python("import os; print(os.getpid())")[1]) for _ in range(4)]
        self.assertEqual(len(set(numbers)), 4, numbers)

    def test_signals_end_everything_at_once(self):
        note = os.path.join(self.folder, "running")
        stubborn = '(trap "" TERM INT HUP; : >"$0"; while :; do sleep 0.1; done) & wait'
        for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
            process = subprocess.Popen([FER, "shell", "-c", stubborn, note])
            wait_for(lambda: os.path.exists(note))
            os.remove(note)
            began = time.time()
            process.send_signal(number)
            self.assertEqual(process.wait(10), status)
            wait_for(lambda: not alive(note), 5)
            self.assertLess(time.time() - began, 5)

    def test_the_first_signal_is_passed_on_and_the_second_ends_everything(self):
        note = os.path.join(self.folder, "running")
        program = textwrap.dedent("""
            import signal, sys, time
            def handler(number, _):
                open(sys.argv[1] + ".got", "w").write(str(int(number)))
                if sys.argv[2] == "polite":
                    sys.exit(7)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, handler)
            open(sys.argv[1], "w").close()
            while True:
                time.sleep(0.1)""")
        for number in (signal.SIGINT, signal.SIGTERM):
            for manner, status in (("polite", 7), ("stubborn", 128 + number)):
                process = subprocess.Popen([FER, "python", "-c", program, note, manner])
                wait_for(lambda: os.path.exists(note))
                process.send_signal(number)
                process.send_signal(number)  # as timeout(1) does: counts as one
                wait_for(lambda: os.path.exists(note + ".got") and os.path.getsize(note + ".got"))
                with open(note + ".got") as f:
                    self.assertEqual(int(f.read()), number)
                if manner == "stubborn":
                    time.sleep(2 * host.SAME)
                    self.assertIsNone(process.poll())
                    process.send_signal(number)
                self.assertEqual(process.wait(10), status)
                wait_for(lambda: not alive(note), 5)
                os.remove(note)
                os.remove(note + ".got")

    def test_ctrl_c_lets_a_training_write_its_snapshot(self):
        """Also where the log goes through tee, which Ctrl-C ends at once."""
        with open(os.path.join(self.folder, "solver.prototxt"), "w") as f:
            f.write(SOLVER)
        for program, head, tail in ((program, *around) for program in ("caffe", "engine")
                                    for around in (("exec ", ""), ("", " | tee log"))):
            child, terminal = pty.fork()
            if not child:
                os.chdir(self.folder)
                os.execv("/bin/sh", ["sh", "-c", f"{head}'{FER}' {program} train -solver solver.prototxt 2>&1{tail}"])
            shown = b""
            while b"Iteration 9," not in shown and b"Iteration 9 " not in shown:
                shown += os.read(terminal, 4096)
            os.write(terminal, b"\x03")
            threading.Thread(target=drain, args=(terminal,), daemon=True).start()
            self.addCleanup(os.close, terminal)
            status = os.waitpid(child, 0)[1]
            wait_for(lambda: not alive(self.folder))
            made = [name for name in os.listdir(self.folder) if name.startswith("s_iter")]
            self.assertEqual(sorted(name.rpartition(".")[2] for name in made), ["caffemodel", "solverstate"],
                             program + tail)
            if not tail:
                self.assertEqual(status, 0)
            for name in made:
                os.remove(os.path.join(self.folder, name))

    def test_a_closed_terminal_lets_a_training_write_its_snapshot(self):
        """By Caffe itself and by the engine, which then stop, and by a training of ours; in a shell as on a terminal's
        tab, where job control gives each command a process group of its own."""
        random_images = ("import pathlib, sys; from tests import small_data; "
                         "print(small_data.prepared(pathlib.Path(sys.argv[1])))")
        with open(os.path.join(self.folder, "solver.prototxt"), "w") as f:
            f.write(SOLVER)
        status, data, err = self.python(random_images, self.folder)
        self.assertEqual(status, 0, err)
        train = ["train", "xie2019a/synthetic-toy-softmax", "--data", data.strip(), "--out", "run", "--threads", "1",
                 "--set", "solver.batch_size=8", "solver.max_iter=100000", "solver.display=1"]
        plain = ["train", "-solver", "solver.prototxt"]
        for words, log, snapshots in ((["caffe", *plain], "log", "s_iter"), (["engine", *plain], "log", "s_iter"),
                                      (train, "run/caffe.log", "run/snapshots/iter")):
            child, terminal = pty.fork()
            if not child:
                os.chdir(self.folder)
                os.execv("/bin/bash", ["bash", "-c", 'set -m; "$@" 2>log', "bash", FER, *words])
            log = os.path.join(self.folder, log)
            wait_for(lambda log=log: os.path.exists(log) and re.search("Iteration 9[, ]", content(log)), 60)
            os.close(terminal)
            os.waitpid(child, 0)
            wait_for(lambda: not alive(self.folder))
            where, _, start = os.path.join(self.folder, snapshots).rpartition("/")
            made = [name for name in os.listdir(where) if name.startswith(start)]
            # Caffe itself may write one at the terminal's signal, and one when it is stopped.
            self.assertEqual({name.rpartition(".")[2] for name in made}, {"caffemodel", "solverstate"}, words)
            for name in (log, *(os.path.join(where, name) for name in made)):
                os.remove(name)

    def test_a_folder_that_is_not_there(self):
        for name, said in (("/nonexist", "there is no such file or folder; to write there, make the folder /nonexist "
                            "first"), (self.folder + "/nonexist", "there is no such folder")):
            self.assertEqual(self.fer("watch", name), (1, "", f"fer: {name}: {said}\n"))

    def test_help_needs_no_environment(self):
        status, out, _ = self.fer("--help", env=dict(os.environ, FER_ENV_DIR="/nonexistent"))
        self.assertEqual(status, 0)
        self.assertTrue(re.search(r"(?m)^examples", out))
        self.assertEqual(self.fer()[0], 2)


if __name__ == "__main__":
    unittest.main()
