import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.heads import kmeans
from deepclust.heads.kit import lloyd
from deepclust.heads.kit.head import TrainingData


def fit(features, k, seeds=(0,), **options):
    arrays = features if isinstance(features, list) else [features]
    return list(kmeans.fit(TrainingData(arrays), k, list(seeds), kmeans.Options(**options), Progress()))


def assign(result, features, **options):
    arrays = features if isinstance(features, list) else [features]
    return kmeans.predict(result.weights, arrays, kmeans.Options(**options)).assignments


def accuracy(labels, assignments):
    table = np.zeros((labels.max() + 1, assignments.max() + 1))
    np.add.at(table, (labels, assignments), 1)
    return table[linear_sum_assignment(-table)].sum() / len(labels)


def same_weights(a, b):
    return a.weights.keys() == b.weights.keys() and all(np.array_equal(a.weights[n], b.weights[n]) for n in a.weights)


@pytest.fixture(scope="module")
def digits():
    return load_digits().data.astype(np.float32)


OPTIONS = [
    {},
    {"normalize": "l2"},
    {"normalize": "center"},
    {"normalize": "standardize"},
    {"normalize": "whiten", "components": 7},
    {"spherical": True},
    {"sample": 200},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_recovers_a_separable_mixture_from_every_seed(options):
    points, labels = make_blobs(600, 16, centers=8, cluster_std=0.5, random_state=3)
    for result in fit(points.astype(np.float16), 8, range(5), n_init=10, **options):
        assert accuracy(labels, assign(result, points, **options)) >= 0.99


def test_objective_is_not_worse_than_that_of_scikit_learn(digits):
    blobs = make_blobs(2000, 10, centers=12, cluster_std=4, random_state=0)[0].astype(np.float32)
    for points, k in ((digits, 10), (digits, 25), (blobs, 12)):
        reference = KMeans(k, n_init=10, max_iter=300, random_state=0).fit(points).inertia_
        best = min(result.objective for result in fit(points, k, range(3)))
        assert best <= reference * 1.002


def test_restarts_are_ranked_when_they_have_converged(digits, monkeypatch):
    """The best that the same starting points lead to in scikit-learn, for nearly every seed; products are rounded."""
    given = []

    def spy(points, starts, *arguments, **named):
        given.append(starts)
        return lloyd.iterate(points, starts, *arguments, **named)

    monkeypatch.setattr(kmeans, "iterate", spy)
    excess = []
    for result in fit(digits, 10, range(10)):
        starts = given[result.seed].numpy() + digits.mean(0)
        best = min(KMeans(10, init=start, n_init=1, tol=0).fit(digits).inertia_ for start in starts)
        excess.append(result.objective / best - 1)
    assert np.sort(excess)[-2] < 1.5e-4


@pytest.mark.parametrize("normalize", ["none", "l2", "standardize"])
def test_every_image_belongs_to_its_nearest_centroid(digits, normalize):
    [result] = fit(digits, 10, normalize=normalize)
    centroids = result.weights["centroids"].astype(np.float64)
    points = digits.astype(np.float64)
    if normalize == "l2":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    if normalize == "standardize":
        deviation = points.std(0)
        points = (points - points.mean(0)) / np.where(deviation > 0, deviation, 1)
    squared = ((points[:, None] - centroids) ** 2).sum(2)
    assignments = assign(result, digits, normalize=normalize)
    chosen = squared[np.arange(len(points)), assignments]
    np.testing.assert_allclose(chosen, squared.min(1), rtol=1e-4)
    assert (assignments == squared.argmin(1)).mean() > 0.999
    assert result.objective == pytest.approx(chosen.sum(), rel=1e-4)
    # A fixed point of Lloyd's iterations, to within their tolerance: centroids are the means of their points.
    means = np.stack([points[assignments == c].mean(0) for c in range(10)])
    assert ((points - means[assignments]) ** 2).sum() == pytest.approx(chosen.sum(), rel=1e-4)


def test_spherical_assigns_by_cosine_to_unit_centroids(digits):
    [result] = fit(digits, 10, spherical=True)
    centroids = result.weights["centroids"].astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
    directions = digits / np.linalg.norm(digits.astype(np.float64), axis=1, keepdims=True)
    cosine = directions @ centroids.T
    chosen = cosine[np.arange(len(digits)), assign(result, digits, spherical=True)]
    np.testing.assert_allclose(chosen, cosine.max(1), atol=1e-5)
    assert result.objective == pytest.approx((2 - 2 * chosen).sum(), rel=1e-3)
    scaled = digits * np.random.default_rng(0).uniform(0.1, 10, (len(digits), 1)).astype(np.float32)
    assert (assign(result, scaled, spherical=True) == assign(result, digits, spherical=True)).mean() > 0.999


def test_a_seed_gives_the_same_bits_whatever_runs_with_it(digits):
    together = {result.seed: result for result in fit(digits, 10, [3, 1, 2], n_init=3)}
    for seed in (1, 2, 3):
        [alone] = fit(digits, 10, [seed], n_init=3)
        assert same_weights(alone, together[seed])
        assert alone.objective == together[seed].objective
    assert not same_weights(together[1], together[2])


@pytest.mark.parametrize("options", [{}, {"spherical": True}, {"sample": 500}])
def test_restarts_of_all_seeds_at_once(digits, monkeypatch, options):
    """As on an accelerator, up to rounding; seeds that draw a sample take turns there, too."""
    alone = fit(digits, 10, [3, 0, 1], n_init=3, **options)
    monkeypatch.setattr(kmeans, "stacks", lambda seeds, device: [list(seeds)])
    together = fit(digits, 10, [3, 0, 1], n_init=3, **options)
    assert [result.seed for result in together] == [3, 0, 1]
    for one, other in zip(alone, together):
        assert other.objective == pytest.approx(one.objective, rel=1e-3)
        assert len(other.log) == 3
        assert accuracy(assign(one, digits, **options), assign(other, digits, **options)) > 0.9


def test_more_restarts_are_never_worse_and_extend_the_same_sequence(digits):
    few, many = fit(digits, 20, n_init=2)[0], fit(digits, 20, n_init=6)[0]
    for entry, other in zip(few.log, many.log):
        assert entry["objective"] == pytest.approx(other["objective"], rel=0.02)
    assert min(entry["objective"] for entry in many.log) <= min(entry["objective"] for entry in few.log)
    assert many.objective <= min(entry["objective"] for entry in many.log)


def test_all_points_are_used_not_a_sample():
    """A far group of 5 points among 4000 would hardly be in a sample of 256 per centroid."""
    points = np.random.default_rng(0).normal(0, 1, (4000, 2)).astype(np.float32)
    points[:5] += 1000
    assignments = assign(fit(points, 2)[0], points)
    assert np.bincount(assignments).min() == 5


def test_several_backbones_are_read_together():
    """Each backbone tells two groups apart, both together four."""
    labels = np.arange(400) % 4
    noise = np.random.default_rng(0).normal(0, 0.05, (2, 400, 3)).astype(np.float32)
    first = noise[0] + np.eye(3, dtype=np.float32)[labels % 2]
    second = 1000 * (noise[1] + np.eye(3, dtype=np.float32)[labels // 2])
    [result] = fit([first, second], 4)
    assert accuracy(labels, assign(result, [first, second])) == 1


def test_features_far_from_the_origin_keep_their_precision():
    points, labels = make_blobs(300, 8, centers=4, cluster_std=0.02, center_box=(-1, 1), random_state=1)
    far = (points + 5000).astype(np.float32)
    assert accuracy(labels, assign(fit(far, 4)[0], far)) == 1


@pytest.mark.parametrize("spherical", [False, True])
def test_exactly_as_many_different_rows_as_clusters(spherical):
    rows = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    labels = np.repeat(np.arange(6), [200, 1, 50, 1, 1, 7])
    for result in fit(rows[labels], 6, range(3), spherical=spherical):
        assert accuracy(labels, assign(result, rows[labels], spherical=spherical)) == 1


def test_very_imbalanced_groups():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [1000, 10])
    points = (generator.normal(0, 1, (1010, 4)) + 20 * labels[:, None]).astype(np.float32)
    assert accuracy(labels, assign(fit(points, 2)[0], points)) == 1


@pytest.mark.parametrize(("count", "k"), [(1, 1), (5, 5), (7, 1), (6, 5)])
def test_few_images(count, k):
    points = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    [result] = fit(points, k)
    assert sorted(set(assign(result, points).tolist())) == list(range(k))


@pytest.mark.parametrize("value", [0.0, 3.5])
@pytest.mark.parametrize("options", [{}, {"normalize": "standardize"}, {"spherical": True}])
def test_constant_features_fail_the_seed_with_the_reason(value, options):
    [result] = fit(np.full((100, 5), value, np.float32), 3, n_init=2, **options)
    assert "1 of 3 clusters" in result.failure
    assert result.objective is None
    assert result.weights == {}
    [single] = fit(np.full((100, 5), value, np.float32), 1, n_init=2, **options)
    assert single.failure is None


def test_more_clusters_than_images_is_an_error():
    with pytest.raises(DeepclustError, match="11 clusters.*10"):
        fit(np.zeros((10, 2), np.float32), 11)


def test_more_clusters_than_the_sample_is_an_error():
    with pytest.raises(DeepclustError, match="11 clusters.*sample is 10"):
        fit(np.zeros((100, 2), np.float32), 11, sample=10)


def test_restarts_on_a_sample_end_on_all_images(digits):
    [sampled], [whole] = fit(digits, 10, sample=400), fit(digits, 10)
    assert sampled.objective <= whole.objective * 1.01
    chosen = assign(sampled, digits)
    means = np.stack([digits[chosen == c].mean(0) for c in range(10)])
    assert ((digits - means[chosen]) ** 2).sum() == pytest.approx(sampled.objective, rel=1e-3)


def test_values_that_are_not_finite_are_an_error():
    with pytest.raises(DeepclustError, match="NaN or infinite"):
        fit(np.full((10, 2), np.nan, np.float32), 2)
