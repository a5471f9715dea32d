"""Files that are whole or not there."""
import errno
import os

import pytest

from data_prep import files


def test_a_full_disk_names_the_file(tmp_path):
    path = str(tmp_path / "table.md")
    with pytest.raises(OSError) as error:
        with files.replacing(path) as partial:
            open(partial, "w").close()
            with open("/dev/full", "w") as stream:
                stream.write("more than there is room for")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, path)
    assert os.listdir(str(tmp_path)) == []


def test_other_errors_are_as_they_were(tmp_path):
    with pytest.raises(BrokenPipeError) as error:
        with files.replacing(str(tmp_path / "table.md")):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert error.value.filename is None
