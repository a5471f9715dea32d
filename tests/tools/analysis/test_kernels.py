"""Kernel matrices by hand, and how many fits memory allows."""
import types

import numpy as np
import pytest

from tools.analysis import kernels

VECTORS = {"train": np.float32([[1, 0], [0, 1], [1, 1]]), "val": np.float32([[2, 0]])}


def test_matrices_by_hand():
    made = kernels.Kernels(VECTORS)
    np.testing.assert_array_equal(made.matrix("val", None), [[2, 0, 2]])
    np.testing.assert_allclose(made.matrix("val", 0.5), [np.exp([-0.5, -2.5, -1])], rtol=1e-12)
    np.testing.assert_allclose(made.matrix("train", 2.0), np.exp([[0, -4, -2], [-4, 0, -2], [-2, -2, 0]]), rtol=1e-12)
    assert made.matrix("train", None).dtype == np.float64


@pytest.mark.parametrize("gamma", [None, 2.0])
def test_matrices_do_not_depend_on_blocks(monkeypatch, gamma):
    random = np.random.RandomState(0)
    vectors = {split: random.rand(count, 4).astype(np.float32) for split, count in (("train", 17), ("test", 6))}
    made = kernels.Kernels(vectors)
    whole = [made.matrix(split, gamma) for split in ("train", "test")]
    monkeypatch.setattr(kernels, "BLOCK", 5)
    for split, expected in zip(("train", "test"), whole):
        np.testing.assert_array_equal(made.matrix(split, gamma), expected)


@pytest.mark.parametrize("free, expected", [(100e9, 3), (12e6 + 2.5e9, 2), (1e6, 1)])
def test_as_many_are_fitted_at_a_time_as_memory_allows(free, expected, monkeypatch):
    monkeypatch.setattr(kernels.machine, "memory", lambda: (0, free))
    monkeypatch.setattr(kernels, "all_cores", lambda: types.SimpleNamespace(threads=8))
    assert kernels.side_by_side(1000) == expected
