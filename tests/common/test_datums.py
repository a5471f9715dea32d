"""LMDBs of Datums are opened once in a process. tests/data_prep/test_lmdb_io.py and tests/engine/test_data.py read
them."""
import gc
import shutil

import lmdb
import pytest

from common import datums
from common.errors import UserError


def write(path, value):
    with lmdb.open(str(path), map_size=1 << 20, lock=False) as environment, environment.begin(write=True) as writing:
        writing.put(b"0", value)
    return str(path)


def read(environment):
    with environment.begin() as transaction:
        return transaction.get(b"0")


def test_readers_share_an_environment_until_none_needs_it(tmp_path):
    path = write(tmp_path / "db", b"old")
    first, second = datums.environment(path), datums.environment(str(tmp_path / "." / "db"))
    assert first is second and read(second) == b"old"
    del first
    gc.collect()
    assert read(second) == b"old"
    del second
    gc.collect()
    assert not datums._opened


def test_a_new_lmdb_at_the_same_path_is_opened_anew(tmp_path):
    path = write(tmp_path / "db", b"old")
    old = datums.environment(path)
    shutil.rmtree(path)
    write(tmp_path / "db", b"new")
    assert read(datums.environment(path)) == b"new" and read(old) == b"old"


def test_no_lmdb(tmp_path):
    with pytest.raises(UserError, match="no LMDB here, .*data.mdb cannot be read: No such file or directory"):
        datums.environment(str(tmp_path / "none"))
