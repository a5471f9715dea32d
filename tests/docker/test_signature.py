"""The signature of Debian 11's archive at other times. Needs the network, faketime and Debian's apt."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.docker
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "env"))
import host  # noqa: E402

ENVIRONMENT = pathlib.Path(os.environ.get("FER_ENV_DIR") or ROOT / ".fer").absolute() / host.key()
INSTALLED = "/usr/share/keyrings/debian-archive-keyring.gpg"  # here, and in the environment


def update(folder, day, keyring):
    """What apt says when it fetches the suite on this day, and its status. The keyring stands for all others."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    source = (ENVIRONMENT / "etc/apt/sources.list").read_text()
    (folder / "sources.list").write_text(source.replace("deb ", f"deb [signed-by={keyring}] "))
    options = {"Dir::Etc::SourceList": folder / "sources.list", "Dir::Etc::SourceParts": "-", "Dir::State::Lists":
               folder / "lists", "Dir::Cache": folder / "cache", "APT::Update::Error-Mode": "any",
               "Acquire::Languages": "none", "APT::Sandbox::User": "root"}
    argv = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    p = subprocess.run(["faketime", day, "apt-get"] + argv + ["update"], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, universal_newlines=True, timeout=300)
    return p.returncode, p.stdout


@pytest.mark.parametrize("where", ["host", "environment"])
def test_good_in_2029_and_expired_in_2031(tmp_path, where):
    if not shutil.which("faketime"):
        pytest.fail("no faketime: apt-get install faketime")
    keyring = INSTALLED
    if where == "environment":  # install.sh fetches the suite a second time, with the environment's own keys
        keyring = str(ENVIRONMENT) + INSTALLED
    status, said = update(tmp_path / "2029", "2029-06-01 12:00:00", keyring)
    assert status == 0, said
    status, said = update(tmp_path / "2031", "2031-06-01 12:00:00", keyring)
    assert status and "EXPKEYSIG" in said, said
    reason = next(reason for pattern, reason in host.REASONS if re.search(pattern, said))
    assert "FER_DEBIAN_KEYRING" in reason
