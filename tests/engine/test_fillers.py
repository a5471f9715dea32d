"""Fillers, against the distributions of Caffe's."""
import numpy as np
import pytest
import torch
from google.protobuf import text_format

from engine import fillers, messages
from tests.engine import compare

# Shapes of which the fans in and out are not equal; many values, so that their statistics are close.
CONVOLUTION, PRODUCT = (40, 10, 7, 7), (50, 300)


def caffes(filler, shape):
    """What Caffe fills a blob with."""
    dims = " ".join(f"dim: {size}" for size in shape)
    net = compare.caffe_net('layer { name: "data" type: "DummyData" top: "data" '
                            f'dummy_data_param {{ shape {{ {dims} }} data_filler {{ {filler} }} }} }}')
    net.forward()
    return net.blobs["data"].data.copy()


def ours(filler, shape, seed=1):
    blob, generator = torch.full(shape, 7.0), torch.Generator()
    generator.manual_seed(seed)
    fillers.fill(blob, text_format.Parse(filler, messages.FillerParameter()), generator)
    assert blob.shape == shape and blob.dtype == torch.float32
    return blob.numpy()


def shares(values):
    """Sorted values at 101 places from the least to the greatest."""
    return np.percentile(values, np.arange(101))


@pytest.mark.parametrize("filler, shape", (
    ("", (2, 3)), ('type: "constant" value: 0.3', (2, 3)), ("value: -2", (5,)),
    *(('type: "bilinear"', (2, 3, size, size)) for size in (1, 2, 3, 4, 5, 6, 7)),
    ('type: "uniform" min: 0.5 max: 0.5', (3, 4))))
def test_values_without_chance_equal_caffes(filler, shape):
    np.testing.assert_allclose(ours(filler, shape), caffes(filler, shape), rtol=0, atol=2e-7)


@pytest.mark.parametrize("shape", (CONVOLUTION, PRODUCT, (20000,)))
@pytest.mark.parametrize("filler", (
    'type: "uniform"', 'type: "uniform" min: -3 max: 0.5', 'type: "gaussian"', 'type: "gaussian" mean: 2 std: 0.01',
    *(f'type: "{kind}" variance_norm: {norm}' for kind in ("xavier", "msra")
      for norm in ("FAN_IN", "FAN_OUT", "AVERAGE")),
    'type: "xavier"', 'type: "msra"'))
def test_distribution_is_caffes(filler, shape):
    theirs, mine = shares(caffes(filler, shape)), shares(ours(filler, shape))
    spread = theirs[75] - theirs[25]
    # Percentiles of two samples of 15000 and more differ by less than this; the least and the greatest value only where
    # they have a bound.
    assert np.abs(theirs - mine)[5:96].max() < 0.05 * spread
    if "uniform" in filler or "xavier" in filler:
        assert np.abs(theirs - mine)[[0, -1]].max() < 0.001 * spread


def test_xavier_and_msra_by_hand():
    # 40 x 10 x 7 x 7: 490 values go into each output; 1960 outputs have a weight for each channel.
    assert abs(ours('type: "xavier"', CONVOLUTION)).max() == pytest.approx((3 / 490) ** .5, rel=1e-3)
    assert abs(ours('type: "xavier" variance_norm: FAN_OUT', CONVOLUTION)).max() == pytest.approx((3 / 1960) ** .5,
                                                                                                 rel=1e-3)
    assert ours('type: "msra" variance_norm: AVERAGE', CONVOLUTION).std() == pytest.approx((2 / 1225) ** .5, rel=0.02)


def test_sparse_gaussian():
    filler = 'type: "gaussian" std: 2 sparse: 5'
    for values in (ours(filler, PRODUCT), caffes(filler, PRODUCT)):
        kept = values[values != 0]
        assert kept.size / values.size == pytest.approx(5 / 50, abs=0.01)
        assert kept.std() == pytest.approx(2, rel=0.05)


def test_positive_unitball():
    for values in (ours('type: "positive_unitball"', (30, 40, 5)), caffes('type: "positive_unitball"', (30, 40, 5))):
        assert values.min() >= 0
        np.testing.assert_allclose(values.sum((1, 2)), 1, rtol=1e-5)
        assert values.std() * 200 == pytest.approx(1 / 3 ** .5, rel=0.05)


def test_seed_decides():
    filler = 'type: "gaussian"'
    assert (ours(filler, PRODUCT) == ours(filler, PRODUCT)).all()
    assert (ours(filler, PRODUCT) != ours(filler, PRODUCT, seed=2)).any()


@pytest.mark.parametrize("filler, shape, words", (
    ('type: "gausian"', (2, 3), "there is no filler 'gausian'; did you mean gaussian?"),
    ('type: "uniform" min: 2', (2, 3), "from 2 to 1"), ('type: "gaussian" std: 0', (2, 3), "std 0"),
    ('type: "constant" sparse: 2', (2, 3), "sparse"), ('type: "bilinear"', (3, 3), "(3, 3)"),
    ('type: "bilinear"', (1, 1, 3, 4), "(1, 1, 3, 4)")))
def test_refuses(filler, shape, words):
    with pytest.raises(ValueError) as error:
        ours(filler, shape)
    assert words in str(error.value)
