"""A source distribution from an index, without running anything of it. The index is a folder."""
import hashlib
import io
import os
import tarfile

import pytest

from common.errors import UserError
from tools.weights import pypi


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Sets pip to use an index that has the package `small` 1.2 alone, and returns the digest of its file."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    (tmp_path / "simple" / "small").mkdir(parents=True)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        setup = f"open({str(tmp_path / 'was run')!r}, 'w')\n".encode()
        info = tarfile.TarInfo("small-1.2/setup.py")
        info.size = len(setup)
        archive.addfile(info, io.BytesIO(setup))
    (tmp_path / "small-1.2.tar.gz").write_bytes(content.getvalue())
    (tmp_path / "small-1.2-py3-none-any.whl").write_bytes(b"a wheel")
    (tmp_path / "simple" / "small" / "index.html").write_text(
        "<!DOCTYPE html><html><body>" + "".join(
            f'<a href="{(tmp_path / name).as_uri()}">{name}</a>'
            for name in ("small-1.2.tar.gz", "small-1.2-py3-none-any.whl")) + "</body></html>")
    return hashlib.sha256(content.getvalue()).hexdigest()


def test_the_file_is_there_and_nothing_was_run(tmp_path, index, capfd):
    out = tmp_path / "folder" / "package.tar.gz"
    pypi.fetch("small", "1.2", index, str(out))
    assert out.read_bytes() == (tmp_path / "small-1.2.tar.gz").read_bytes()
    assert os.listdir(out.parent) == ["package.tar.gz"]
    assert not (tmp_path / "was run").exists()
    assert capfd.readouterr() == ("", "")


def test_another_digest(tmp_path, index):
    with pytest.raises(UserError, match=f"^small 1.2: the file has the SHA-256 {index}, expected {'0' * 64}$"):
        pypi.fetch("small", "1.2", "0" * 64, str(tmp_path / "folder" / "package.tar.gz"))
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.parametrize("package, version", (("small", "1.3"), ("large", "1.2")))
def test_what_the_index_does_not_have(tmp_path, index, package, version):
    with pytest.raises(UserError, match=f"^{package} {version}: pip finds no source distribution"):
        pypi.fetch(package, version, index, str(tmp_path / "package.tar.gz"))


def test_an_index_that_cannot_be_reached(tmp_path, index, monkeypatch):
    # Nobody listens on this port.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(UserError, match="^small 1.2: pip finds no source distribution: Could not fetch URL .*refused"):
        pypi.fetch("small", "1.2", index, str(tmp_path / "package.tar.gz"))


def test_a_file_that_the_index_names_and_does_not_have(tmp_path, index):
    os.remove(tmp_path / "small-1.2.tar.gz")
    with pytest.raises(UserError, match="^small 1.2: pip cannot download it: 404"):
        pypi.fetch("small", "1.2", index, str(tmp_path / "package.tar.gz"))


def test_a_foreign_file_stays(tmp_path, index):
    (tmp_path / "package.tar.gz").write_text("mine")
    with pytest.raises(UserError, match="exists and was not made by caffe-fer"):
        pypi.fetch("small", "1.2", index, str(tmp_path / "package.tar.gz"))
