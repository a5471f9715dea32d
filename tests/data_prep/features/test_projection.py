"""PCA and LDA from sums against scikit-learn's, and where the data do not suffice."""
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from common.errors import UserError
from data_prep.features import projection
from data_prep.features.projection import Fitter, Projection


def data(count=300, blocks=3, dimension=12, classes=4, seed=0):
    random = np.random.RandomState(seed)
    labels = random.randint(classes, size=count)
    means = random.normal(size=(classes, blocks, dimension))
    mixing = random.normal(size=(blocks, dimension, dimension)) * np.linspace(1, .05, dimension)
    raw = means[labels] + np.einsum("mbd,bde->mbe", random.normal(size=(count, blocks, dimension)), mixing)
    return raw.astype(np.float32), labels


def fitted(raw, labels, classes, pieces=1):
    fitter = Fitter(classes, *raw.shape[1:])
    for part, its_labels in zip(np.array_split(raw, pieces), np.array_split(labels, pieces)):
        fitter.add(part, its_labels)
    return fitter.finish()


def test_equals_scikit_learn(monkeypatch):
    monkeypatch.setattr(projection, "RIDGE", 0)
    raw, labels = data()
    found = np.matmul(raw.transpose(1, 0, 2), fitted(raw, labels, 4).matrices)
    for block in range(3):
        pca = PCA(0.99, svd_solver="full").fit(raw[:, block].astype(np.float64))
        assert 1 < pca.n_components_ < 12
        reduced = pca.transform(raw[:, block].astype(np.float64))
        expected = LinearDiscriminantAnalysis(solver="eigen").fit(reduced, labels).transform(reduced)
        for direction in range(3):
            assert abs(np.corrcoef(found[block, :, direction], expected[:, direction])[0, 1]) > 0.99999


def test_threads_change_no_bit():
    raw, labels = data()
    fitter = Fitter(4, *raw.shape[1:])
    fitter.add(raw, labels)
    one, two = fitter.finish(1), fitter.finish(2)
    assert np.ptp(one.matrices) > 0
    np.testing.assert_array_equal(one.matrices, two.matrices)
    np.testing.assert_array_equal(one.offsets, two.offsets)


def test_within_class_variance_is_one_and_the_mean_is_zero(monkeypatch):
    monkeypatch.setattr(projection, "RIDGE", 0)
    raw, labels = data()
    made = fitted(raw, labels, 4)
    projected = np.matmul(raw.transpose(1, 0, 2), made.matrices) - made.offsets[:, None]
    np.testing.assert_allclose(projected.mean(axis=1), 0, atol=1e-4)
    centred = projected - np.stack([projected[:, labels == label].mean(axis=1) for label in range(4)], 1)[:, labels]
    np.testing.assert_allclose(np.matmul(centred.transpose(0, 2, 1), centred) / 300, np.tile(np.eye(3), (3, 1, 1)),
                               atol=1e-3)


def test_output_is_one_vector_of_norm_one_and_zero_stays_zero():
    raw, labels = data()
    made = fitted(raw, labels, 4)
    vectors = made(raw)
    assert vectors.shape == (300, 9) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(Projection(np.zeros((3, 12, 3), np.float32), np.zeros((3, 3), np.float32))(raw), 0)


def test_pieces_do_not_matter(monkeypatch):
    raw, labels = data()
    whole = fitted(raw, labels, 4)
    monkeypatch.setattr(projection, "BATCH", 50)
    np.testing.assert_allclose(fitted(raw, labels, 4, pieces=7)(raw), whole(raw), atol=1e-4)


def test_absent_class_and_constant_block_give_zeros():
    raw, labels = data()
    raw[:, 1] = 3
    made = fitted(raw[labels != 2], labels[labels != 2], 4)
    vectors = made(raw).reshape(300, 3, 3)
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors[:, 1], 0)
    np.testing.assert_array_equal(vectors[:, :, 2], 0)
    assert (np.abs(vectors[:, 0, :2]).max(axis=0) > 0).all()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_fewer_images_than_dimensions(count):
    raw, labels = data(count)
    assert np.isfinite(fitted(raw, labels, 4)(raw)).all()


def test_saved_and_loaded(tmp_path):
    raw, labels = data()
    made, path = fitted(raw, labels, 4), str(tmp_path / "gsf.npz")
    made.save(path)
    np.testing.assert_array_equal(Projection.load(path)(raw), made(raw))
    first = open(path, "rb").read()
    made.save(path)
    assert open(path, "rb").read() == first


def test_wrong_files_are_named(tmp_path):
    path = tmp_path / "gsf.npz"
    with pytest.raises(UserError, match="gsf.npz: no projection"):
        Projection.load(str(path))
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="gsf.npz: no projection"):
        Projection.load(str(path))
    np.savez(str(path), matrices=np.zeros((2, 3, 4)))
    with pytest.raises(UserError, match="gsf.npz: no projection.*offsets"):
        Projection.load(str(path))
    np.savez(str(path), matrices=np.zeros((2, 3, 4)), offsets=np.zeros((2, 3)))
    with pytest.raises(UserError, match="gsf.npz: no projection: matrices"):
        Projection.load(str(path))
    np.savez(str(path), matrices=np.array([{}]), offsets=np.zeros(2))
    with pytest.raises(UserError, match="gsf.npz: no projection"):
        Projection.load(str(path))


def test_other_blocks_are_refused():
    raw, labels = data()
    with pytest.raises(ValueError, match="expected"):
        fitted(raw, labels, 4)(raw[:, :2])
