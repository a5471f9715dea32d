"""The part of ../fer that works on the host: running a child process that cannot outlive it, and building the
environment. It needs the standard library only."""
import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time

import subordinate_ids

HERE = os.path.dirname(os.path.realpath(__file__))
CONTENT = ("apt.txt", "pip.txt", "dpkg.cfg", "apt.sh", "install.sh")  # the content of the environment depends on these
SUITE = "bullseye"
MARKER = "etc/caffe-fer"
NEEDED = 3 * 10**9  # bytes: the environment, and the temporary files of the set-up
KEYRINGS = ["/usr/share/keyrings/debian-archive-%s" % name
            for name in ("keyring.gpg", "keyring.pgp", "removed-keys.gpg", "removed-keys.pgp")]
PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_PROXY",
             "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES")
CERTIFICATE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem")
SI_KERNEL = 0x80
# For an ordinary user, mmdebstrap makes the namespaces itself, and would first finish its step when it is told to end.
# So a shell above it ends its whole process group.
GUARD = ["sh", "-c", "trap 'kill -9 0' TERM; \"$@\" & wait $!", "sh"]
# Signals within so many seconds count as one: timeout(1) sends two.
SAME = 0.5


class Failure(Exception):
    """An expected failure. The user sees its text alone. status: the exit status."""

    def __init__(self, text, status=1):
        super().__init__(text)
        self.status = status


def say(text, mark="fer: "):
    try:
        os.write(2, ("%s%s\n" % (mark, text)).encode("utf-8", "replace"))
    except OSError:  # stderr was closed, which is no reason to stop a set-up
        pass


# ---------------------------------------------------------------- children

def run(argv, tick=None, end=signal.SIGKILL, pass_to=None, hangup=signal.SIGTERM, **options):
    """Runs a command to its end and returns its exit status, 128 + n after signal n.

    If another process sends a signal to this one, the child is ended by the signal `end`; it also ends when this
    process dies. A signal from the terminal (Ctrl-C) reaches the child itself, so the child handles it.
    tick: a function that is called once a second; with it, signals from the terminal end the child too.
    pass_to: a function that takes the child's process number and returns the number of the process to which the first
    SIGINT or SIGTERM is passed on, which then ends in its own way; None if there is no such process yet.
    hangup: the signal that is passed on in place of SIGHUP, which a terminal sends when it is closed. With `pass_to`
    the processes in between ignore SIGHUP: they would end first, and the command with them.
    """
    passed = None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    caught = {signal.SIGCHLD} | {s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
                                 if signal.getsignal(s) != signal.SIG_IGN}  # as under nohup
    before = signal.pthread_sigmask(signal.SIG_BLOCK, caught)
    try:
        child = start(argv, end=end, mask=before, ignored=[signal.SIGHUP] if pass_to else [], **options)
        while child.poll() is None:
            got = signal.sigtimedwait(caught, 1) if tick else signal.sigwaitinfo(caught)
            if tick:
                tick()
            if got is None or got.si_signo == signal.SIGCHLD:
                continue
            if not tick and got.si_code == SI_KERNEL and got.si_signo in (signal.SIGINT, signal.SIGQUIT):
                continue
            if pass_to and got.si_signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if passed is not None and time.monotonic() - passed < SAME:
                    continue
                number = hangup if got.si_signo == signal.SIGHUP else got.si_signo
                if passed is None and pass_on(pass_to(child.pid), number):
                    passed = time.monotonic()
                    continue
            child.send_signal(end)
            child.wait()
            return 128 + got.si_signo
        return child.returncode if child.returncode >= 0 else 128 - child.returncode
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pass_on(process, number):
    """Sends a signal to a process, and returns whether there was one."""
    try:
        if process:
            os.kill(process, number)
    except OSError:
        return False
    return bool(process)


def command_in_namespaces(unshare):
    """The number of the process that runs the command. enter.sh starts it as the child of unshare's child."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as f:
                    parents[int(f.read().rpartition(")")[2].split()[1])] = int(name)
            except (OSError, IndexError):  # the process has ended meanwhile
                continue
    return parents.get(parents.get(unshare))


def start(argv, end=signal.SIGKILL, mask=None, ignored=(), **options):
    libc = ctypes.CDLL(None)

    def prepare():
        libc.prctl(1, int(end), 0, 0, 0)  # PR_SET_PDEATHSIG
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return subprocess.Popen(argv, preexec_fn=prepare, **options)


def tool_path():
    """The PATH for the tools of the host, with the sbin folders, which some accounts lack."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


def namespaces():
    """The first words of a command line that runs the others in new namespaces."""
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child"] + (
        ["--map-root-user"] if os.geteuid() else [])


def check_namespaces():
    for tool in ("unshare", "mount", "chroot"):
        if not shutil.which(tool, path=tool_path()):
            raise Failure("the program %s is missing (packages util-linux and coreutils)" % tool)
    test = namespaces() + ["sh", "-c", "mount -t tmpfs fer /usr"]
    if subprocess.run(test, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                      env=dict(os.environ, PATH=tool_path())).returncode:
        raise Failure(
            "this system does not let %s create mount and PID namespaces; %s, or use the Dockerfile"
            % (("ordinary users", "see the sysctls kernel.unprivileged_userns_clone and "
                "kernel.apparmor_restrict_unprivileged_userns, run as root") if os.geteuid() else
               ("root", "a container needs to be started with --privileged")))


# ---------------------------------------------------------------- building

def key():
    digest = hashlib.sha256()
    for name in CONTENT:
        with open(os.path.join(HERE, name), "rb") as f:
            digest.update(f.read())
    return digest.hexdigest()[:16]


def marker(root="/"):
    """The file that install.sh writes at its end: {"key": ..., package: version}; {} if there is none."""
    try:
        with open(os.path.join(root, MARKER)) as f:
            return dict(line.split() for line in f)
    except (OSError, ValueError):
        return {}


def is_complete(place):
    return marker(place).get("key") == key()


def build(place):
    """Makes the environment in the folder `place` if it is missing. Raises Failure if that is not possible."""
    def work(partial, tmp, lock, output):
        tools_for_building(output)
        require_subordinate_ids()
        say("building the environment (Debian 11 with Caffe) in %s; this takes about 2 minutes and 1.4 GB, once"
            % place)
        say("its log: %s" % output.name)
        (build_as_root if os.geteuid() == 0 else build_as_user)(partial, tmp, lock, output)
    make(place, "lock", is_complete, work, NEEDED, NEEDED)


def make(place, lock, is_complete, work, needed, kept, tmp=None):
    """Makes a folder whole or not at all, if it is missing. Raises Failure if that is not possible.

    lock: the name of a file in the parent folder that is locked meanwhile; is_complete: a function of `place`; needed,
    kept: bytes of the folder of temporary files `tmp` and of the result; work: fills the folder. Its arguments are the
    folder to fill, `tmp`, the lock's file and the log's file.
    """
    if is_complete(place):
        return
    parent = os.path.dirname(place)
    with locked(parent, lock) as held:
        if is_complete(place):
            return
        partial, log, tmp = place + ".partial", place + ".log", tmp or scratch(place)
        # What a killed set-up has left. Its processes and mounts are gone, since they hold the lock too.
        for folder in (partial, place, tmp):
            remove(folder)
        check_namespaces()
        check_space(os.path.dirname(tmp), needed)
        check_space(parent, kept)
        began = time.time()
        try:
            os.mkdir(partial)
            os.mkdir(tmp)
            os.chmod(tmp, 0o755)
            with open(log, "w") as output:
                work(partial, tmp, held, output)
            say("  %3d s  writing to the disk" % (time.time() - began))
            ctypes.CDLL(None).syncfs(held.fileno())  # dpkg does not sync, see dpkg.cfg
            os.rename(partial, place)
        except OSError as e:
            raise Failure("the set-up failed: %s" % e) from None
        finally:
            remove(partial)
            remove(tmp)
        say("ready after %d s: %s" % (time.time() - began, place))


@contextlib.contextmanager
def locked(parent, name):
    """Holds the lock `name` in a folder, which is made if it is missing. Gives the lock's file."""
    try:
        os.makedirs(parent, exist_ok=True)
        lock = open(os.path.join(parent, name), "a")  # if the user has a file of this name, its text stays
    except OSError as e:
        raise Failure("cannot write %s (%s); set FER_ENV_DIR to another folder" % (parent, e.strerror)) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up in %s" % parent)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def scratch(place):
    """The folder for mmdebstrap's temporary files. For an ordinary user, mmdebstrap works under subordinate ids,
    which may not enter a private home."""
    if os.geteuid() == 0:
        return place + ".tmp"
    name = "fer-%d-%s" % (os.geteuid(), hashlib.sha256(os.fsencode(place)).hexdigest()[:16])
    return os.path.join(os.environ.get("TMPDIR") or "/var/tmp", name)


def remove(folder):
    for _ in range(50):  # a process that was told to end may still write
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            break
        if os.geteuid() and shutil.which("mmdebstrap", path=tool_path()):  # files may belong to the subordinate ids
            subprocess.run(["mmdebstrap", "--unshare-helper", "rm", "-rf", folder], stderr=subprocess.DEVNULL)
        time.sleep(0.1)
    else:
        raise Failure("cannot remove %s, which an earlier set-up has left; please remove it" % folder)


def check_space(folder, needed=None):
    """needed: bytes; by default what an environment needs."""
    needed, free = NEEDED if needed is None else needed, shutil.disk_usage(folder).free
    if free < needed:
        raise Failure("%s: %.1f GB are free, but the set-up needs %.0f GB" % (folder, free / 1e9, needed / 1e9))


def missing_tools():
    names = [] if shutil.which("mmdebstrap", path=tool_path()) else ["mmdebstrap"]
    if not any(map(os.path.exists, KEYRINGS)):
        names.append("debian-archive-keyring")
    if os.geteuid() and not shutil.which("newuidmap", path=tool_path()):
        names.append("uidmap")
    return names


def tools_for_building(output):
    names = missing_tools()
    if not names:
        return
    if os.geteuid() or not shutil.which("apt-get", path=tool_path()):
        raise Failure("this machine lacks %s; install it with the package manager of the system, "
                      "%sor use the Dockerfile" % (" and ".join(names),
                                                   "let root run ./fer setup, " if os.geteuid() else ""))
    say("installing %s on this machine" % " and ".join(names))
    options = dict(stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                   env=dict(os.environ, PATH=tool_path(), DEBIAN_FRONTEND="noninteractive"))
    install = ["apt-get", "-y", "--no-install-recommends", "install"] + names
    if run(install, **options):  # a fresh machine has no package lists
        run(["apt-get", "update"], **options)
        run(install, **options)
    names = missing_tools()
    if names:
        failed(output)
        raise Failure("the set-up failed: apt-get cannot install %s on this machine (log: %s); install it by hand "
                      "or use the Dockerfile" % (" and ".join(names), output.name))


def require_subordinate_ids():
    """Raises Failure where an ordinary user cannot build for lack of subordinate ids."""
    if os.geteuid() == 0:
        return
    advice = subordinate_ids.advice()
    if advice:
        raise Failure("you have no range of %d subordinate user and group ids: let root run %s"
                      % (subordinate_ids.COUNT, advice))
    tried = subprocess.run(["mmdebstrap", "--unshare-helper", "true"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, universal_newlines=True,
                           env=dict(os.environ, PATH=tool_path(), LC_ALL="C"))
    if tried.returncode:
        said = [line for line in tried.stdout.split("\n") if line.strip()]
        raise Failure("this system does not let you use your subordinate ids (%s); let root run ./fer setup, or use "
                      "the Dockerfile" % (said[-1] if said else "exit status %d" % tried.returncode))


def build_as_root(partial, tmp, lock, output):
    status = run(namespaces() + ["--mount-proc"] + mmdebstrap("root", partial), stdout=output, stderr=output,
                 stdin=subprocess.DEVNULL, env=build_variables(tmp), pass_fds=[lock.fileno()], tick=Steps(output.name))
    check(status, output)


def build_as_user(partial, tmp, lock, output):
    """Unpacks a tar, so that each file belongs to the user, who can remove it with rm -rf."""
    tar = start(["tar", "-C", partial, "-x", "--no-same-owner", "--exclude=./dev/*"], stdin=subprocess.PIPE,
                stdout=output, stderr=output, pass_fds=[lock.fileno()])
    status = run(GUARD + mmdebstrap("unshare", "-"), end=signal.SIGTERM, start_new_session=True, stdout=tar.stdin,
                 stderr=output, stdin=subprocess.DEVNULL, env=build_variables(tmp), pass_fds=[lock.fileno()],
                 tick=Steps(output.name))
    tar.stdin.close()
    unpacked = tar.wait()
    check(status or unpacked, output)
    subprocess.check_call(["chmod", "-R", "u+rwX", partial])


def mmdebstrap(mode, target):
    """The command line that makes the environment: as a folder, or for "-" as a tar."""
    return bootstrap(mode, "tar" if target == "-" else "directory", target, CONTENT, "install.sh")


def bootstrap(mode, form, target, content, script, *hooks):
    """The command line that makes a minimal Debian 11 and runs a script in it. form, target: of the result; content:
    files of this folder that the script needs; script: a line of shell; hooks: what mmdebstrap does afterwards."""
    inside = "/caffe-fer-env"
    files = [os.path.join(HERE, name) for name in content]
    bundle = certificates()
    argv = ["mmdebstrap", "--mode=" + mode, "--variant=minbase", "--format=" + form, "--aptopt=Acquire::Retries \"3\"",
            "--aptopt=Acquire::http::Timeout \"30\""]
    argv += ["--keyring=" + name for name in KEYRINGS if os.path.exists(name)]
    given = keyring()
    if given:
        argv.append("--keyring=" + given)
    with open(os.path.join(HERE, "dpkg.cfg")) as f:
        argv += ["--dpkgopt=" + line.strip() for line in f if not line.startswith("#")]
    mirror = os.environ.get("FER_DEBIAN_MIRROR")
    if not mirror:  # see install.sh about the suites beside the main one
        argv.append("""--setup-hook=sed -i '/-security\\|-updates/d' "$1/etc/apt/sources.list" """)
    argv.append("""--customize-hook=mkdir "$1%s" """ % inside)
    # copy-in, because a hook may have no right to read the folders of the user.
    for name in files:
        argv.append("--customize-hook=copy-in %s %s" % (shlex.quote(name), inside))
    variables = ""
    for variable, file, name in (("FER_CA", bundle, "ca.crt"), ("FER_DEBIAN_KEYRING", given, "keyring")):
        if file:
            argv.append("--customize-hook=upload %s %s/%s" % (shlex.quote(file), inside, name))
            variables += "%s=%s/%s " % (variable, inside, name)
    argv.append("""--customize-hook=env %s chroot "$1" %s/%s""" % (variables, inside, script))
    argv += ["--customize-hook=" + hook for hook in hooks]
    argv.append("""--customize-hook=rm -r "$1%s"; touch "$1/etc/resolv.conf" "$1/etc/hosts" """ % inside)
    if form == "tar":
        argv.append("--customize-hook=echo 'fer: copying, so that all files belong to you' >&2")
    return argv + [SUITE, target] + (["deb %s %s main" % (mirror, SUITE)] if mirror else [])


def keyring():
    """The file of FER_DEBIAN_KEYRING; None where it is not set."""
    name = os.environ.get("FER_DEBIAN_KEYRING")
    if name and not os.path.isfile(name):
        raise Failure("FER_DEBIAN_KEYRING is %s, but there is no such file" % name, 2)
    return os.path.abspath(name) if name else None


def certificates():
    """The host's file of CA certificates, None if it is not found."""
    names = [os.environ.get(name) for name in CERTIFICATE_VARIABLES]
    return next((name for name in names + list(CERTIFICATES) if name and os.path.isfile(name)), None)


def build_variables(tmp):
    names = ("FER_DEBIAN_MIRROR", "HOME") + PASSED_ON
    env = {k: v for k, v in os.environ.items() if k in names or k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    env.update(PATH=tool_path(), LC_ALL="C.UTF-8", TMPDIR=tmp)
    return env


class Steps:
    """Prints on stderr the steps that a script and mmdebstrap write into the log."""

    def __init__(self, log):
        self.file = open(log, errors="replace")
        self.began = time.time()
        self.rest = ""

    def __call__(self):
        lines = (self.rest + self.file.read()).split("\n")
        self.rest = lines.pop()
        for line in lines:
            step = self.step(line)
            if step:
                say("  %3d s  %s" % (time.time() - self.began, step))

    @staticmethod
    def step(line):
        """What is shown of a line of the log; None for nothing."""
        if line.startswith("I: removing tempdir"):  # mmdebstrap's words
            return "removing temporary files, which takes a minute on a busy disk"
        return line[5:] if line.startswith("fer: ") else None


def check(status, output):
    if status in (128 + s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        raise Failure("the set-up was interrupted, and nothing was kept", status)
    if status:
        raise failed(output)


OTHER_MIRROR = ("set FER_DEBIAN_MIRROR to the address of another one, for example of Debian's archive "
                "(archive.debian.org), see docs/installation.md")
REASONS = (
    ("No space left on device|enough free space", "no space left on the disk"),
    ("EXPKEYSIG", "the signature of the Debian mirror has expired: set FER_DEBIAN_KEYRING, see docs/installation.md"),
    ("NO_PUBKEY|is not signed|BADSIG|REVKEYSIG", "the Debian mirror's signature cannot be verified"),
    ("CERTIFICATE_VERIFY_FAILED|certificate verif", "a server's certificate cannot be verified"),
    ("DO NOT MATCH THE HASHES", "a package from PyPI differs from the one in env/pip.txt"),
    ("from versions: [0-9]", "PyPI has no such version of a package for the environment's Python 3.9"),
    ("Max retries|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|No matching distribution",
     "PyPI cannot be reached: PIP_INDEX_URL sets another index of Python packages"),
    ("does not have a Release file|404 +Not Found", "the Debian mirror does not have Debian 11: " + OTHER_MIRROR),
    ("Could not resolve|Temporary failure|Could not connect|Unable to connect|onnection refused|"
     "Network is unreachable|Failed to fetch|onnection timed out",
     "the Debian mirror cannot be reached: " + OTHER_MIRROR),
)


def failed(output):
    with open(output.name, errors="replace") as f:
        text = f.read()
    lines = [line for line in text.split("\n") if line.strip()]
    reason = next((reason for pattern, reason in REASONS if re.search(pattern, text)), None)
    reason = reason or next((line for line in lines if line.startswith("E: ")), "see the log")
    for line in lines[-8:]:
        say(line, "  | ")
    return Failure("the set-up failed: %s (log: %s)" % (reason, output.name))
