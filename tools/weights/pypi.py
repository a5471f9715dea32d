"""Downloads the source distribution of a package from the package index that pip is set to use.

`pip download` would also run the package's setup.py, to learn its dependencies. So pip finds and transfers the file
here, with all its settings (index, proxy, certificates), and nothing of it is run. The environment has a fixed version
of pip, 20.3.4, whose inner modules are used.
"""
import hashlib
import logging
from collections.abc import Iterator
from typing import Any

from common import files, progress
from common.errors import UserError

CHUNK = 1 << 20
# Of pip's messages, those that say why an index could not be read.
FAILURE = "Could not fetch URL"


def fetch(package: str, version: str, digest: str, out: str) -> None:
    """Downloads the source distribution of a package.

    digest: its SHA-256 in hexadecimal digits; out: the path of the file, which is complete or not there. Raises
    UserError if the index cannot be reached or has no such file, if the file has another digest, and as
    `files.replacing` does.
    """
    from pip._internal.commands import create_command
    from pip._internal.exceptions import PipError
    from pip._vendor.packaging.specifiers import SpecifierSet
    from pip._vendor.requests.exceptions import RequestException
    from pip._vendor.urllib3.exceptions import HTTPError
    what = f"{package} {version}"
    command: Any = create_command("download")
    reasons = _Reasons()
    try:
        with reasons, command.main_context():
            options, _ = command.parse_args(["--no-binary", ":all:"])
            session = command.get_default_session(options)
            finder = command._build_package_finder(options=options, session=session)
            found = finder.find_best_candidate(package, SpecifierSet("==" + version)).best_candidate
            if found is None:
                raise UserError(f"{what}: pip finds no source distribution" + reasons.last())
            response = session.get(found.link.url_without_fragment, headers={"Accept-Encoding": "identity"},
                                   stream=True)
            response.raise_for_status()
            sha = hashlib.sha256()
            with files.replacing(out) as partial, open(partial, "wb") as stream:
                for chunk in _shown(what, response):
                    sha.update(chunk)
                    stream.write(chunk)
                if sha.hexdigest() != digest:
                    raise UserError(f"{what}: the file has the SHA-256 {sha.hexdigest()}, expected {digest}")
    except (PipError, RequestException, HTTPError) as error:
        raise UserError(f"{what}: pip cannot download it: {error}") from None


def _shown(what: str, response: Any) -> Iterator[bytes]:
    """The parts of a download, whose progress is shown in MB."""
    total = int(response.headers.get("Content-Length", 0))
    with progress.bar(f"{what}, MB", round(total / 1e6)) as bar:
        done = 0
        for chunk in iter(lambda: response.raw.read(CHUNK), b""):
            yield chunk
            before, done = done, done + len(chunk)
            bar.update(round(done / 1e6) - round(before / 1e6))


class _Reasons(logging.Handler):
    """Keeps pip's messages from the terminal, and its reasons for a failure."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._reasons: list[str] = []
        self._logger = logging.getLogger("pip")

    def __enter__(self) -> "_Reasons":
        self._before = self._logger.level, self._logger.propagate
        self._logger.addHandler(self)
        self._logger.setLevel(logging.DEBUG)
        self._logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(FAILURE):
            self._reasons.append(message)

    def last(self) -> str:
        """The last reason as the end of a sentence; nothing if there is none."""
        return ": " + self._reasons[-1] if self._reasons else ""
