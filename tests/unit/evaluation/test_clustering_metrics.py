from itertools import combinations, permutations
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepclust.evaluation.metrics import METRICS, UNMATCHED, Comparison, accuracy_per_class, contingency, match

EXACT = 1e-12
SMALL = st.integers(1, 4).flatmap(
    lambda size: st.lists(st.tuples(st.integers(0, size), st.integers(0, 5 - size)), min_size=1, max_size=6)
)


def partitions(pairs):
    labels, clusters = np.array(pairs).T
    return labels, clusters, contingency(labels, clusters, int(labels.max()) + 1, int(clusters.max()) + 1)


def best_matching(table):
    """Most images that any one-to-one matching puts right, by trying all."""
    table = table if len(table) <= table.shape[1] else table.T
    return max(
        sum(table[row, column] for row, column in enumerate(columns))
        for columns in permutations(range(table.shape[1]), len(table))
    )


def entropy(values):
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return -sum(share * log(share) for share in shares)


def mutual_information(labels, clusters):
    return entropy(labels) + entropy(clusters) - entropy([f"{a},{b}" for a, b in zip(labels, clusters)])


def pair_counts(labels, clusters):
    """Pairs together in both partitions, in the classes, in the clusters, and all pairs."""
    pairs = list(combinations(range(len(labels)), 2))
    by_class = {pair for pair in pairs if labels[pair[0]] == labels[pair[1]]}
    by_cluster = {pair for pair in pairs if clusters[pair[0]] == clusters[pair[1]]}
    return len(by_class & by_cluster), len(by_class), len(by_cluster), len(pairs)


@given(SMALL)
def test_accuracy_is_the_best_one_to_one_matching(pairs):
    labels, clusters, table = partitions(pairs)
    assert Comparison.of(labels, clusters).score()["acc"] == pytest.approx(best_matching(table) / len(labels), abs=EXACT)


@given(SMALL)
def test_normalized_mutual_information_by_definition(pairs):
    labels, clusters, table = partitions(pairs)
    mean = (entropy(labels) + entropy(clusters)) / 2
    expected = mutual_information(labels, clusters) / mean if mean else 1.0
    assert Comparison.of(labels, clusters).score()["nmi"] == pytest.approx(expected, abs=EXACT)


@given(SMALL)
def test_adjusted_rand_index_by_definition(pairs):
    labels, clusters, table = partitions(pairs)
    both, by_class, by_cluster, total = pair_counts(labels, clusters)
    by_chance = by_class * by_cluster / total if total else 0.0
    most = (by_class + by_cluster) / 2
    expected = (both - by_chance) / (most - by_chance) if abs(most - by_chance) > EXACT else 1.0
    assert Comparison.of(labels, clusters).score()["ari"] == pytest.approx(expected, abs=EXACT)


@given(SMALL)
def test_adjusted_mutual_information_by_definition(pairs):
    """The expectation is over all relabellings, here by enumeration."""
    labels, clusters, table = partitions(pairs)
    chance = np.mean([mutual_information(labels, shuffled) for shuffled in permutations(clusters)])
    room = (entropy(labels) + entropy(clusters)) / 2 - chance
    if room > EXACT:
        expected = (mutual_information(labels, clusters) - chance) / room
        assert Comparison.of(labels, clusters).score()["ami"] == pytest.approx(expected, abs=1e-9)


@given(SMALL, st.permutations(range(7)), st.permutations(range(7)))
def test_scores_do_not_depend_on_names(pairs, class_names, cluster_names):
    labels, clusters, table = partitions(pairs)
    renamed = Comparison.of(np.array(class_names)[labels], np.array(cluster_names)[clusters])
    assert renamed.score() == pytest.approx(Comparison.of(labels, clusters).score(), abs=EXACT)


def test_unmatched_clusters_count_as_wrong():
    """Two pure clusters per class: majority mapping would give 1."""
    labels = np.repeat([0, 1], 10)
    clusters = np.repeat([0, 1, 2, 3], 5)
    table = contingency(labels, clusters, 2, 4)
    score = Comparison.of(labels, clusters).score()
    assert score["acc"] == 0.5
    assert score["purity"] == 1.0
    assert sorted(match(table)) == [UNMATCHED, UNMATCHED, 0, 1]


def test_fewer_clusters_than_classes():
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    table = contingency(labels, np.zeros(10, int), 3, 1)
    assert match(table).tolist() == [0]
    assert Comparison.of(labels, np.zeros(10, int)).score()["acc"] == 0.5
    assert accuracy_per_class(table, match(table)) == [1.0, 0.0, 0.0]


def test_empty_classes_and_clusters_are_not_matched():
    labels, clusters = np.array([0, 0, 3]), np.array([2, 2, 0])
    table = contingency(labels, clusters, 5, 4)
    assert table.shape == (5, 4)
    assert match(table).tolist() == [3, UNMATCHED, 0, UNMATCHED]
    assert accuracy_per_class(table, match(table)) == [1.0, None, None, 1.0, None]


@given(SMALL)
def test_accuracy_per_class_adds_up(pairs):
    labels, clusters, table = partitions(pairs)
    per_class = accuracy_per_class(table, match(table))
    right = sum(share * size for share, size in zip(per_class, table.sum(axis=1)) if share is not None)
    assert right / len(labels) == pytest.approx(Comparison.of(labels, clusters).score()["acc"], abs=EXACT)
