import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from deepclust.heads.agreement import LinearFit, align, candidates, one_hot


@pytest.fixture(scope="module")
def sample():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 800).astype(np.int32)
    centers = generator.normal(0, 1, (4, 6))
    return (centers[labels] + generator.normal(0, 1, (800, 6))).astype(np.float32), labels


def test_pillai_trace_is_the_mean_squared_canonical_correlation(sample):
    points, labels = sample
    first, second = CCA(n_components=3, max_iter=5000, tol=1e-12).fit_transform(points, one_hot(labels, 4)[:, :3])
    correlations = [np.corrcoef(first[:, i], second[:, i])[0, 1] for i in range(3)]
    assert LinearFit(points).pillai_trace(labels, 4) == pytest.approx(np.mean(np.square(correlations)), abs=3e-3)


def test_pillai_trace_is_invariant(sample):
    points, labels = sample
    trace = LinearFit(points).pillai_trace(labels, 4)
    mixing = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0] * np.linspace(0.5, 2, 6)
    assert LinearFit((points @ mixing + 3).astype(np.float32)).pillai_trace(labels, 4) == pytest.approx(trace, abs=5e-3)
    assert LinearFit(points).pillai_trace(np.array([2, 0, 3, 1])[labels], 4) == pytest.approx(trace)
    order = np.random.default_rng(2).permutation(len(points))
    assert LinearFit(points[order]).pillai_trace(labels[order], 4) == pytest.approx(trace)
    assert 0 <= LinearFit(points).pillai_trace(labels[order], 4) < 0.1 < trace <= 1


def test_pillai_trace_of_separated_points_is_1_and_empty_clusters_add_nothing():
    labels = np.arange(300) % 3
    points = np.eye(3, dtype=np.float32)[labels]
    assert LinearFit(points).pillai_trace(labels, 3) == pytest.approx(1, abs=0.01)
    assert LinearFit(points).pillai_trace(labels, 5) == pytest.approx(0.5, abs=0.01)
    assert LinearFit(np.ones((300, 2), np.float32)).pillai_trace(labels, 3) == 0
    assert LinearFit(points).pillai_trace(np.zeros(300, int), 1) == 1


def test_least_squares(sample):
    points, labels = sample
    votes = one_hot(labels, 4)
    weight, bias = LinearFit(points).weights(votes)
    design = np.column_stack([points, np.ones(len(points))])
    expected = np.linalg.lstsq(design, votes, rcond=None)[0]
    np.testing.assert_allclose(points @ weight.T + bias, design @ expected, atol=5e-3)


def test_align_undoes_a_permutation(sample):
    votes = one_hot(sample[1], 4)
    np.testing.assert_array_equal(align(votes[:, [3, 1, 0, 2]], votes), votes)


def test_votes_of_noisy_partitions_are_better_than_each_of_them():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    points = (np.eye(4)[labels] * 4 + generator.normal(0, 1, (400, 4))).astype(np.float32)
    partitions = []
    for _ in range(7):
        wrong = generator.uniform(size=400) < 0.3
        noisy = np.where(wrong, generator.integers(0, 4, 400), labels)
        partitions.append(one_hot(generator.permutation(4)[noisy], 4))
    found = candidates(partitions, LinearFit(points))
    traces = [trace for _, trace in found]
    assert traces == sorted(traces, reverse=True)
    assert len(found) == 13
    best = align(found[0][0], one_hot(labels, 4)).argmax(1)
    assert (best == labels).mean() > 0.95
    assert all((align(votes, one_hot(labels, 4)).argmax(1) == labels).mean() < 0.85 for votes in partitions)
