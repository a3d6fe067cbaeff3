import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import expected_mutual_information

from deepclust.evaluation import bootstrap
from deepclust.evaluation.bootstrap import Cells, interval, mean_interval, resample_counts, score_intervals
from deepclust.evaluation.metrics import METRICS, contingency, scores

EXACT = 1e-12
DRAWS = st.tuples(st.integers(1, 60), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))


def draw(parameters):
    """Partitions into scattered classes and clusters, some of which stay empty, and half a random assignment."""
    images, classes, clusters, seed = parameters
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    assigned = np.where(generator.random(images) < 0.5, labels % clusters, generator.integers(clusters, size=images))
    return 3 * labels + 2, 5 * assigned + 1


def scores_of(labels, clusters):
    return scores(labels, clusters, contingency(labels, clusters, labels.max() + 1, clusters.max() + 1))


@given(DRAWS)
def test_many_tables_at_once_agree_with_the_scores_of_each(parameters):
    labels, clusters = draw(parameters)
    cells = Cells.of(labels, clusters)
    for counts in resample_counts(len(labels), 4):
        resampled = cells.scores(cells.membership @ counts)
        for column in range(counts.shape[1]):
            images = np.repeat(np.arange(len(labels)), counts[:, column].astype(int))
            expected = scores_of(labels[images], clusters[images])
            for name in ("acc", "nmi", "ari", "purity"):
                assert resampled[name][column] == pytest.approx(expected[name], abs=EXACT), name


@given(DRAWS)
def test_all_images_give_the_score_itself(parameters):
    labels, clusters = draw(parameters)
    cells = Cells.of(labels, clusters)
    once = cells.scores(cells.membership @ np.ones((len(labels), 1)))
    expected = scores_of(labels, clusters)
    table = contingency(labels, clusters, labels.max() + 1, clusters.max() + 1)
    occupied = table[table.any(axis=1)][:, table.any(axis=0)]
    if abs(expected_mutual_information(occupied, len(labels)) - np.log(len(labels))) < EXACT:
        expected["ami"] = once["ami"][0]  # every image is a class and a cluster of its own: 0 / 0
    assert {name: values[0] for name, values in once.items()} == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("labels", "clusters"),
    [([0], [0]), ([0, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 1, 2]), ([0, 1, 2], [0, 0, 0]), ([0, 0, 7, 7], [9, 9, 4, 4])],
)
def test_degenerate_partitions(labels, clusters):
    labels, clusters = np.array(labels), np.array(clusters)
    cells = Cells.of(labels, clusters)
    once = cells.scores(cells.membership @ np.ones((len(labels), 1)))
    assert once["nmi"][0] == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=EXACT)
    assert once["ari"][0] == pytest.approx(adjusted_rand_score(labels, clusters), abs=EXACT)
    assert once["ami"][0] == pytest.approx(adjusted_mutual_info_score(labels, clusters), abs=EXACT)


def test_singletons_are_a_perfect_match():
    cells = Cells.of(np.arange(5), np.arange(5)[::-1])
    once = cells.scores(cells.membership @ np.ones((5, 1)))
    assert {name: values[0] for name, values in once.items()} == pytest.approx(dict.fromkeys(METRICS, 1.0), abs=EXACT)


def noisy(images, classes, right, seed, seeds=1):
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    random = generator.integers(classes, size=(seeds, images))
    return labels, np.where(generator.random((seeds, images)) < right, labels, random)


def test_accuracy_interval_is_that_of_a_proportion():
    labels, clusters = noisy(2000, 5, 0.6, seed=1)
    accuracy = scores_of(labels, clusters[0])["acc"]
    low, high = score_intervals(labels, clusters, 1000, 0.95)["acc"]
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / len(labels))
    assert (accuracy - low, high - accuracy) == pytest.approx((half, half), rel=0.15)


def test_seeds_share_their_resamples():
    """The same assignment for five seeds tells no more than one."""
    labels, clusters = noisy(500, 4, 0.5, seed=2)
    once = score_intervals(labels, clusters, 200, 0.9)
    five_times = score_intervals(labels, np.repeat(clusters, 5, axis=0), 200, 0.9)
    for name in METRICS:
        assert five_times[name] == pytest.approx(once[name], abs=EXACT)


@pytest.mark.parametrize("limit", [200, 0])
def test_intervals_lie_around_scores_of_large_tables(monkeypatch, limit):
    """Few images per cell, where resampled agreement comes out far too high; with and without matching anew."""
    monkeypatch.setattr(bootstrap, "REMATCH_LIMIT", limit)
    labels, clusters = noisy(1000, 60, 0.5, seed=3, seeds=2)
    intervals = score_intervals(labels, clusters, 100, 0.95)
    for name in METRICS:
        mean = np.mean([scores_of(labels, assigned)[name] for assigned in clusters])
        assert intervals[name][0] < mean < intervals[name][1]
        assert intervals[name][1] - intervals[name][0] < 0.1


def test_intervals_do_not_depend_on_chunks(monkeypatch):
    labels, clusters = noisy(100, 4, 0.5, seed=4, seeds=2)
    whole = score_intervals(labels, clusters, 50, 0.95)
    monkeypatch.setattr(bootstrap, "CHUNK", 700)
    in_parts = score_intervals(labels, clusters, 50, 0.95)
    for name in METRICS:
        assert in_parts[name] == pytest.approx(whole[name], abs=EXACT)


def test_every_resample_draws_as_many_images():
    counts = np.concatenate(list(resample_counts(50, 20)), axis=1)
    assert counts.shape == (50, 20)
    assert (counts.sum(axis=0) == 50).all()
    assert len(np.unique(counts, axis=1).T) == 20


def test_mean_interval_is_that_of_a_mean():
    values = np.random.default_rng(5).normal(0.2, 0.1, size=1000)
    low, high = mean_interval(values, 2000, 0.95, lowest=-1.0)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_intervals_stay_within_the_range_of_the_score():
    assert interval(0.999, [0.9, 0.95, 1.0, 1.0], 0.95)[1] == 1.0
    assert interval(0.001, [0.1, 0.0, 0.0, 0.0], 0.95)[0] == 0.0
