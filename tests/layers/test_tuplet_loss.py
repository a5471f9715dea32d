"""Losses of tuplets: arithmetic in float64 against loops over the printed equations, and the layers in real Caffe."""

import numpy as np
import pytest

from layers.functions import tuplet_loss
from tests import caffe_nets, numeric

# Tuplets, positives, negatives, dimensions.
SHAPES = [(1, 1, 1, 1), (1, 3, 2, 2), (3, 6, 6, 4), (2, 5, 5, 3), (4, 3, 3, 7)]


def example(tuplets, positives, negatives, dimensions, seed=0, apart=0.0):
    """apart: how far the negatives lie from the positives: nothing is mined out where it is large."""
    f = np.random.RandomState(seed).randn(tuplets, positives + negatives, dimensions)
    f[:, positives:] += apart
    return f


def metric_of(dimensions, rank=None, seed=3):
    random = np.random.RandomState(seed)
    rank = rank or dimensions
    return tuplet_loss.Metric(random.randn(rank, dimensions), random.randn(rank, dimensions),
                              random.randn(dimensions), random.randn(1))


# ---------------------------------------------------------------- the equations, one example at a time

def distance(f, g):
    return sum((f[d] - g[d]) ** 2 for d in range(len(f)))


def score(f, g, m):
    """H of Eq. (8)."""
    af, ag, bf, bg = m.a.dot(f), m.a.dot(g), m.b.dot(f), m.b.dot(g)
    return 0.5 * af.dot(af) + 0.5 * ag.dot(ag) + bf.dot(bg) + m.linear.dot(f) + m.linear.dot(g) + m.constant[0]


def consistent_score(f, g, m):
    """H of Eq. (7) with a negative semi-definite A."""
    a, b = -m.a.T.dot(m.a), m.b.T.dot(m.b)
    return 0.5 * f.dot(a).dot(f) + 0.5 * g.dot(a).dot(g) + f.dot(b).dot(g) + m.linear.dot(f + g) + m.constant[0]


SCORES = {"printed": (1, score), "consistent": (-1, consistent_score)}


def slow_mined(positives, negatives):
    """Algorithm 1: indices of the kept positives, and the updated center."""
    center = sum(positives) / len(positives)
    nearest = min(distance(f, center) for f in negatives)
    kept = [i for i, f in enumerate(positives) if not distance(f, center) > nearest]
    if not kept:
        kept = [min(range(len(positives)), key=lambda i: distance(positives[i], center))]
    return kept, sum(positives[i] for i in kept) / len(kept)


def slow_tuplet(f, tau):
    """Eq. (1)."""
    return sum(np.log(1 + sum(np.exp(distance(row[0], row[1]) + tau - distance(row[0], negative))
                              for negative in row[2:])) for row in f)


def slow_fixed(f, count, threshold, tau):
    """Eq. (3)."""
    loss = 0
    for row in f:
        positives, negatives = row[:count], row[count:]
        kept, center = slow_mined(positives, negatives)
        loss += sum(max(0, distance(positives[i], center) - threshold + tau / 2) for i in kept) / len(kept)
        loss += sum(max(0, threshold + tau / 2 - distance(f, center)) for f in negatives) / len(negatives)
    return loss


def slow_adaptive(f, count, m, h=score):
    """Eq. (10)."""
    loss = 0
    for row in f:
        positives, negatives = row[:count], row[count:]
        kept, center = slow_mined(positives, negatives)
        hinges = [max(0, -h(positives[i], center, m) + 1) for i in kept] + [
            max(0, h(f, center, m) + 1) for f in negatives]
        loss += sum(hinges) / (len(negatives) + len(kept))
    return loss


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7 * max(1, np.abs(expected).max()))


# ---------------------------------------------------------------- mining

def test_mining_by_hand():
    # On a line: the mean of 0, 2 and 7 is 3; the nearest negative, 5, is 2 away: 2 (1 away) stays, 0 (3) and 7 (4) go.
    f = np.array([[[0.], [2.], [7.], [5.], [-9.]]])
    np.testing.assert_array_equal(tuplet_loss.mine(f, 3), [[False, True, False]])
    np.testing.assert_array_equal(tuplet_loss.hinges(f, tuplet_loss.mine(f, 3), False).center, [[2]])


def test_mining_keeps_what_is_as_far_as_the_nearest_negative():
    f = np.array([[[0.], [4.], [4.], [0.]], [[0.], [4.], [4.5], [9.]]])
    np.testing.assert_array_equal(tuplet_loss.mine(f, 2), [[True, True], [True, True]])


def test_mining_keeps_the_nearest_where_all_are_farther():
    # The mean of 0, 6 and 9 is 5, where a negative lies: 6 stays.
    np.testing.assert_array_equal(tuplet_loss.mine(np.array([[[0.], [6.], [9.], [5.]]]), 3), [[False, True, False]])


def test_mining_of_one_positive_and_of_equal_ones():
    np.testing.assert_array_equal(tuplet_loss.mine(np.zeros((1, 2, 3)), 1), [[True]])
    np.testing.assert_array_equal(tuplet_loss.mine(np.zeros((2, 7, 3)), 4), np.ones((2, 4)))


def test_each_tuplet_is_mined_by_itself():
    f = example(40, 4, 3, 2, apart=1)
    together = tuplet_loss.mine(f, 4)
    for number, row in enumerate(f):
        assert list(np.flatnonzero(together[number])) == slow_mined(row[:4], row[4:])[0]
    assert set(together.sum(axis=1)) == {1, 2, 3, 4}


# ---------------------------------------------------------------- losses and gradients

@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tau", [0, 2])
def test_tuplet(shape, tau):
    f = example(shape[0], 2, shape[2], shape[3])
    loss, gradient = tuplet_loss.tuplet(f, tau)
    assert loss == pytest.approx(slow_tuplet(f, tau))
    close(gradient, numeric.gradient(lambda moved: slow_tuplet(moved, tau), f))


def test_tuplet_of_far_features_does_not_overflow():
    f = np.array([[[0.], [100.], [0.]], [[0.], [0.], [100.]]])
    loss, gradient = tuplet_loss.tuplet(f, 2)
    assert loss == 10002 and np.isfinite(gradient).all()
    close(gradient.ravel(), [-200, 200, 0, 0, 0, 0])


def test_tuplet_of_equal_features():
    loss, gradient = tuplet_loss.tuplet(np.zeros((1, 8, 3)), 2)
    assert loss == pytest.approx(np.log(1 + 6 * np.exp(2))) and not gradient.any()


@pytest.mark.parametrize("apart", [0, 10])
@pytest.mark.parametrize("shape", SHAPES)
def test_fixed_clusters(shape, apart):
    f = example(*shape, apart=apart)
    kept = tuplet_loss.mine(f, shape[1])
    if apart:
        assert kept.all()
    threshold, tau = (3, 1.5) if not apart else (90, 30)
    loss, gradient = tuplet_loss.fixed_clusters(f, kept, threshold, tau)
    assert loss == pytest.approx(slow_fixed(f, shape[1], threshold, tau))
    close(gradient, numeric.gradient(lambda moved: slow_fixed(moved, shape[1], threshold, tau), f))


def test_fixed_clusters_by_hand():
    # Center 1 of 0 and 2, T = 2, tau = 2: positives max(0, 1 - 2 + 1) = 0; negatives at 2 and 4 away,
    # max(0, 2 + 1 - 1) = 2 and 0 (distance 9): 2 / 2. The negative at 2 is as near as the positives, which stay.
    loss, gradient = tuplet_loss.fixed_clusters(np.array([[[0.], [2.], [2.], [4.]]]), np.ones((1, 2), bool), 2, 2)
    assert loss == 1
    # d/df of 1/2 (3 - (f - c)^2) is -(f - c) = -1, and half of its opposite for each positive.
    np.testing.assert_allclose(gradient.ravel(), [0.5, 0.5, -1, 0])


def test_tight_and_far_clusters_have_no_loss():
    f = np.zeros((1, 4, 2))
    f[:, 2:] = 3
    loss, gradient = tuplet_loss.fixed_clusters(f, np.ones((1, 2), bool), 9, 17)
    assert loss == 0 and not gradient.any()


@pytest.mark.parametrize("metric", sorted(SCORES))
@pytest.mark.parametrize("apart", [0, 10])
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_adaptive_clusters(shape, rank, apart, metric):
    f, m = example(*shape, apart=apart), metric_of(shape[3], rank)
    kept = tuplet_loss.mine(f, shape[1])
    sign, h = SCORES[metric]
    loss, gradient, for_metric = tuplet_loss.adaptive_clusters(f, kept, m, sign)
    assert loss == pytest.approx(slow_adaptive(f, shape[1], m, h))
    close(gradient, numeric.gradient(lambda moved: slow_adaptive(moved, shape[1], m, h), f))
    for field in ("a", "b", "linear", "constant"):
        def moved_loss(moved, field=field):
            return slow_adaptive(f, shape[1], m._replace(**{field: moved}), h)
        close(getattr(for_metric, field), numeric.gradient(moved_loss, getattr(m, field)))


def test_examples_above_have_positives_that_are_mined_out():
    counts = [tuplet_loss.mine(example(*shape), shape[1]).sum(axis=1) for shape in SHAPES]
    assert any((count < shape[1]).any() for count, shape in zip(counts, SHAPES))


def test_a_score_of_threshold_minus_distance_makes_eq_10_eq_3():
    """With tau/2 = 1. Eq. (10) divides both sums by N + M*, Eq. (3) one by M* and one by N: where M* = N it is all
    the same but for a factor of 2, else each sum is, renormalised."""
    def as_distance(f, g, threshold):
        return threshold - distance(f, g)
    for shape, apart in (((3, 4, 4, 3), 2.5), ((3, 6, 4, 3), 2.5), ((3, 6, 4, 3), 0)):
        f, threshold = example(*shape, apart=apart), 9.0
        kept = tuplet_loss.mine(f, shape[1])
        joint, separate = tuplet_loss.hinges(f, kept, True), tuplet_loss.hinges(f, kept, False)
        scores = threshold - ((f - joint.center[:, None]) ** 2).sum(axis=2)
        eq_10, eq_3 = (tuplet_loss.hinge_loss(scores, sums, 1)[0] for sums in (joint, separate))
        assert eq_10 == pytest.approx(slow_adaptive(f, shape[1], threshold, as_distance))
        assert eq_3 == pytest.approx(slow_fixed(f, shape[1], threshold, 2))
        assert eq_3 == pytest.approx(tuplet_loss.fixed_clusters(f, kept, threshold, 2)[0])
        if kept.all() and shape[1] == shape[2]:
            assert 2 * eq_10 == pytest.approx(eq_3)
        count, negatives = kept.sum(axis=1, keepdims=True), shape[2]
        np.testing.assert_allclose(joint.weights[:, :shape[1]] * (negatives + count),
                                   separate.weights[:, :shape[1]] * count)
        np.testing.assert_allclose(joint.weights[:, shape[1]:] * (negatives + count),
                                   separate.weights[:, shape[1]:] * negatives)


def test_only_the_consistent_metric_can_be_threshold_minus_distance():
    """L_A and L_B of sqrt(2) times the identity, c = 0 and b = T: T - |f - g|^2. With the same ones, the printed metric
    is T + |f|^2 + |g|^2 + 2 f.g."""
    f, threshold, root = example(3, 4, 4, 3, apart=2.5), 9.0, np.sqrt(2) * np.eye(3)
    m = tuplet_loss.Metric(root, root, np.zeros(3), np.array([threshold]))
    kept = tuplet_loss.mine(f, 4)
    wanted = slow_adaptive(f, 4, threshold, lambda f, g, threshold: threshold - distance(f, g))
    assert wanted > 0.1
    assert tuplet_loss.adaptive_clusters(f, kept, m, -1)[0] == pytest.approx(wanted)
    assert tuplet_loss.adaptive_clusters(f, kept, m, 1)[0] > 2 * wanted


def test_positives_take_minus_h():
    """The sign that Eq. (9) misprints: raising H by raising b is good for positives and bad for negatives."""
    f, m = example(2, 3, 3, 2), metric_of(2)
    m = tuplet_loss.Metric(m.a * 0, m.b * 0, m.linear * 0, np.zeros(1))
    kept = np.ones((2, 3), bool)
    assert tuplet_loss.adaptive_clusters(f, kept, m, 1)[0] == pytest.approx(2)
    for constant, expected in ((1, [0, 2]), (-1, [2, 0])):
        loss, _, _ = tuplet_loss.adaptive_clusters(f, kept, m._replace(constant=np.array([constant])), 1)
        assert loss / 2 == pytest.approx(sum(expected) / 2)


# ---------------------------------------------------------------- in real nets

LAYERS = {"TupletLossLayer": dict(negatives=3),
          "FixedClustersLossLayer": dict(positives=3, negatives=2, threshold=3, tau=1.5),
          "AdaptiveClustersLossLayer": dict(positives=3, negatives=2, seed=5)}
# Layer and metric; None: the key is left out.
VARIANTS = [("TupletLossLayer", None), ("FixedClustersLossLayer", None), *(
    ("AdaptiveClustersLossLayer", metric) for metric in (None, "printed", "consistent"))]


def text(layer, features=(5,), rows=10, loss_weight=0.25, learnable=True, **param):
    shape = (rows,) + features
    blob = caffe_nets.parameter("x", shape) if learnable else caffe_nets.inputs(x=shape)
    return "\n".join([blob, caffe_nets.python_layer("loss", "tuplet_loss", layer, ["x"], loss_weight,
                                                    **dict(LAYERS[layer], **param))])


def slow_layer(layer, x, params, metric):
    f = x.reshape(2, 5, -1)
    if layer == "TupletLossLayer":
        return slow_tuplet(f, 2)
    return slow_fixed(f, 3, 3, 1.5) if layer == "FixedClustersLossLayer" else slow_adaptive(
        f, 3, tuplet_loss.Metric(*params), SCORES[metric or "printed"][1])


@pytest.mark.parametrize("normalization, divisor", [("batch", 2), ("none", 1)])
@pytest.mark.parametrize("shape", [(5,), (2, 1, 3)])
@pytest.mark.parametrize("layer, metric", VARIANTS)
def test_in_a_real_net(tmp_path, layer, metric, shape, normalization, divisor):
    given = dict(normalization=normalization, **({"metric": metric} if metric else {}))
    net = caffe_nets.net(tmp_path, text(layer, shape, **given))
    x = (0.7 * np.random.RandomState(1).randn(10, *shape)).astype(np.float32)
    caffe_nets.blob(net, "x").data[...] = x
    params = [blob.data.astype(float) for blob in net.params["loss"]] if "loss" in net.params else []
    x = x.astype(float)
    assert float(net.forward()["loss"]) == pytest.approx(slow_layer(layer, x, params, metric) / divisor, rel=1e-4)
    net.backward()
    expected = numeric.gradient(lambda moved: 0.25 / divisor * slow_layer(layer, moved, params, metric), x)
    np.testing.assert_allclose(net.params["x"][0].diff, expected, rtol=1e-3, atol=1e-4)
    for number, value in enumerate(params):
        def moved_loss(moved, number=number):
            return 0.25 / divisor * slow_layer(layer, x, params[:number] + [moved] + params[number + 1:], metric)
        expected = numeric.gradient(moved_loss, value)
        np.testing.assert_allclose(net.params["loss"][number].diff, expected, rtol=1e-3, atol=1e-4)


def test_metric_begins_with_the_xavier_filler(tmp_path):
    blobs = caffe_nets.net(tmp_path, text("AdaptiveClustersLossLayer", (300,), rank=20)).params["loss"]
    assert [tuple(blob.data.shape) for blob in blobs] == [(20, 300), (20, 300), (300,), (1,)]
    assert 0.099 < np.abs(blobs[0].data).max() <= 0.1 and abs(blobs[1].data.mean()) < 0.003
    assert (blobs[0].data != blobs[1].data).any()
    assert not blobs[2].data.any() and not blobs[3].data.any()


@pytest.mark.parametrize("metric", ["printed", "consistent"])
def test_solver_learns_features_and_metric(tmp_path, metric):
    solver = caffe_nets.solver(tmp_path, text("AdaptiveClustersLossLayer", loss_weight=1, metric=metric), base_lr=0.02,
                               momentum=0.9)
    caffe_nets.blob(solver.net, "x").data[...] = np.random.RandomState(2).randn(10, 5)
    before = [blob.data.copy() for blob in solver.net.params["loss"]]
    solver.step(1)
    first = float(solver.net.blobs["loss"].data)
    assert all((blob.data != old).any() for blob, old in zip(solver.net.params["loss"], before))
    solver.step(200)
    assert float(solver.net.blobs["loss"].data) < 0.2 * first


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_of_fixed_features_the_consistent_metric_learns_more(tmp_path, seed):
    """How often a positive has a higher H than a negative: with the printed metric less often than it is nearer in
    Euclidean distance, with the consistent one more often. Five Gaussian classes in four dimensions, and four
    dimensions of noise."""
    size, classes, positives, negatives = 8, 5, 4, 4
    random = np.random.RandomState(seed)
    means = random.randn(classes, size)
    means[:, 4:] = 0

    def features(tuplets):
        labels = []
        for _ in range(tuplets):
            own, *others = random.permutation(classes)
            labels += [own] * positives + others[:negatives]
        return means[labels] + 0.6 * random.randn(len(labels), size)

    def ordered(scores):
        return (scores[:, :positives, None] > scores[:, None, positives:]).mean()

    found = {}
    for metric in ("printed", "consistent"):
        random.seed(seed + 100)
        rows = 12 * (positives + negatives)
        layer = caffe_nets.python_layer("loss", "tuplet_loss", "AdaptiveClustersLossLayer", ["x"], 1, metric=metric,
                                        positives=positives, negatives=negatives, seed=seed)
        solver = caffe_nets.solver(tmp_path, caffe_nets.inputs(x=(rows, size)) + "\n" + layer, base_lr=0.02,
                                   momentum=0.9, weight_decay=0)
        for _ in range(400):
            solver.net.blobs["x"].data[...] = features(12)
            solver.step(1)
        m = tuplet_loss.Metric(*(blob.data.astype(float) for blob in solver.net.params["loss"]))
        f = features(300).reshape(300, -1, size)
        centers = f[:, :positives].mean(axis=1)
        h = SCORES[metric][1]
        found[metric] = ordered(np.array([[h(one, center, m) for one in row] for row, center in zip(f, centers)]))
        found["Euclidean"] = ordered(-((f - centers[:, None]) ** 2).sum(axis=2))
    assert found["printed"] < found["Euclidean"] < found["consistent"]


def test_gradients_add_up_over_iter_size(tmp_path):
    def moved(**settings):
        solver = caffe_nets.solver(tmp_path, text("AdaptiveClustersLossLayer", learnable=False), base_lr=0.1,
                                   momentum=0, weight_decay=0, **settings)
        solver.net.blobs["x"].data[...] = np.random.RandomState(2).randn(10, 5)
        solver.step(1)
        return [blob.data.copy() for blob in solver.net.params["loss"]]
    for once, twice in zip(moved(), moved(iter_size=2)):
        np.testing.assert_allclose(once, twice, rtol=1e-5, atol=1e-6)


def test_cut_tuplets_are_refused_by_name(tmp_path, capfd):
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, text("FixedClustersLossLayer", rows=12))
    assert "layer loss (FixedClustersLossLayer): 12 features, expected a multiple of 3 + 2" in capfd.readouterr().err
