"""Small trees of images, made in an order that is not theirs."""
import os

import cv2
import numpy as np
import pytest


@pytest.fixture
def picture(tmp_path):
    """Writes a small image of one grey value below the test's folder."""
    def write(path, value=0, shape=(4, 6)):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(target), np.full(shape, value, np.uint8))
    return write


@pytest.fixture
def text(tmp_path):
    """Writes a text file below the test's folder."""
    def write(path, content, encoding="utf-8"):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode(encoding))
    return write


@pytest.fixture(params=[False, True], ids=["listed in order", "listed backwards"])
def any_listing(request, monkeypatch):
    """The file system may list a folder in any order."""
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *where: sorted(listdir(*where), reverse=request.param))
