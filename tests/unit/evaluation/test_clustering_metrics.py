from itertools import permutations
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn import metrics as reference
from sklearn.metrics.cluster import contingency_matrix

from deepclust.evaluation import metrics
from deepclust.evaluation.bootstrap import resample_counts
from deepclust.evaluation.metrics import METRICS, UNMATCHED, Comparison, accuracy_per_class, contingency, match

EXACT = 1e-12


@st.composite
def partitions(draw, most=60):
    """Scattered classes and clusters, some without images, of which none to all agree."""
    images, classes, k = draw(st.integers(1, most)), draw(st.integers(1, most)), draw(st.integers(1, most))
    agreeing = draw(st.sampled_from([0.0, 0.5, 1.0]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = generator.integers(classes, size=images)
    random = generator.integers(k, size=images)
    return 3 * labels + 2, np.where(generator.random(images) < agreeing, labels % k, random)


def references(labels, clusters):
    """Scores as scipy and scikit-learn compute them."""
    table = contingency_matrix(labels, clusters)
    return {
        "acc": table[linear_sum_assignment(-table)].sum() / len(labels),
        "nmi": reference.normalized_mutual_info_score(labels, clusters),
        "ari": reference.adjusted_rand_score(labels, clusters),
        "ami": reference.adjusted_mutual_info_score(labels, clusters),
        "purity": table.max(axis=0).sum() / len(labels),
    }


def without_ami_of_singletons(labels, clusters, scores):
    """Where every image is a class and a cluster of its own, scikit-learn's AMI is a quotient of rounding errors."""
    if len(np.unique(labels)) == len(np.unique(clusters)) == len(labels) > 1:
        assert scores.pop("ami") != 0
    return scores


@pytest.mark.filterwarnings("ignore:The number of unique classes")
@given(partitions())
def test_scores_agree_with_references(pair):
    expected = without_ami_of_singletons(*pair, references(*pair))
    scores = Comparison.of(*pair).score()
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(
    ("labels", "clusters"),
    [([0], [0]), ([0, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 1, 2]), ([0, 1, 2], [0, 0, 0]), ([0, 0, 7, 7], [9, 9, 4, 4])],
)
def test_scores_of_degenerate_partitions_agree_with_references(labels, clusters):
    assert Comparison.of(np.array(labels), np.array(clusters)).score() == pytest.approx(
        references(labels, clusters), abs=EXACT
    )


def test_singletons_are_a_perfect_match():
    assert Comparison.of(np.arange(5), np.arange(5)[::-1]).score() == pytest.approx(
        dict.fromkeys(METRICS, 1.0), abs=EXACT
    )


@pytest.mark.filterwarnings("ignore:The number of unique classes")
@given(partitions(most=30))
def test_resamples_agree_with_references(pair):
    """All but AMI, which keeps the expectation of all images."""
    labels, clusters = pair
    comparison = Comparison.of(labels, clusters)
    (counts,) = resample_counts(len(labels), 3)
    resampled = comparison.scores(comparison.membership @ counts)
    for column in range(3):
        images = np.repeat(np.arange(len(labels)), counts[:, column].astype(int))
        expected = references(labels[images], clusters[images])
        for name in ("acc", "nmi", "ari", "purity"):
            assert resampled[name][column] == pytest.approx(expected[name], abs=EXACT), name


def entropy(values):
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return -sum(share * log(share) for share in shares)


def mutual_information(labels, clusters):
    return entropy(labels) + entropy(clusters) - entropy([f"{a},{b}" for a, b in zip(labels, clusters)])


@given(partitions(most=6))
def test_accuracy_is_the_best_one_to_one_matching(pair):
    """By trying all ways to give every cluster a class of its own, or none."""
    labels, clusters = pair
    names = [*np.unique(labels), *[None] * len(np.unique(clusters))]
    best = max(
        sum(label == mapping[cluster] for label, cluster in zip(labels, np.unique(clusters, return_inverse=True)[1]))
        for mapping in set(permutations(names, len(np.unique(clusters))))
    )
    assert Comparison.of(labels, clusters).score()["acc"] == pytest.approx(best / len(labels), abs=EXACT)


@given(partitions(most=6))
def test_adjusted_mutual_information_by_definition(pair):
    """The expectation is over all relabellings of the images, here by enumeration."""
    labels, clusters = pair
    chance = np.mean([mutual_information(labels, shuffled) for shuffled in permutations(clusters)])
    room = (entropy(labels) + entropy(clusters)) / 2 - chance
    if room > EXACT:
        expected = (mutual_information(labels, clusters) - chance) / room
        assert Comparison.of(labels, clusters).score()["ami"] == pytest.approx(expected, abs=1e-9)


def test_unmatched_clusters_count_as_wrong():
    """Two pure clusters per class: majority mapping would give 1."""
    labels, clusters = np.repeat([0, 1], 10), np.repeat([0, 1, 2, 3], 5)
    scores = Comparison.of(labels, clusters).score()
    assert (scores["acc"], scores["purity"]) == (0.5, 1.0)
    assert sorted(match(contingency(labels, clusters, 2, 4))) == [UNMATCHED, UNMATCHED, 0, 1]


def test_fewer_clusters_than_classes():
    labels, clusters = np.repeat([0, 1, 2], [5, 3, 2]), np.zeros(10, int)
    table = contingency(labels, clusters, 3, 1)
    assert match(table).tolist() == [0]
    assert Comparison.of(labels, clusters).score()["acc"] == 0.5
    assert accuracy_per_class(table, match(table)) == [1.0, 0.0, 0.0]


def test_empty_classes_and_clusters_are_not_matched():
    table = contingency(np.array([0, 0, 3]), np.array([2, 2, 0]), 5, 4)
    assert table.shape == (5, 4)
    assert match(table).tolist() == [3, UNMATCHED, 0, UNMATCHED]
    assert accuracy_per_class(table, match(table)) == [1.0, None, None, 1.0, None]


@given(partitions())
def test_occupied_cells_are_matched_as_well_as_whole_tables(pair):
    labels, clusters = pair
    table = contingency(labels, clusters, labels.max() + 1, clusters.max() + 1)
    cells = table.toarray()
    expected = cells[linear_sum_assignment(cells, maximize=True)].sum()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "DENSE_LIMIT", 0)
        matching = match(table)
    matched = np.flatnonzero(matching != UNMATCHED)
    found = cells[matching[matched], matched]
    assert len(set(matching[matched])) == len(matched)
    assert found.min() > 0
    assert found.sum() == expected


@given(partitions())
def test_accuracy_per_class_adds_up(pair):
    labels, clusters = pair
    table = contingency(labels, clusters, labels.max() + 1, clusters.max() + 1)
    per_class = accuracy_per_class(table, match(table))
    right = sum(share * size for share, size in zip(per_class, table.sum(axis=1)) if share is not None)
    assert right / len(labels) == pytest.approx(Comparison.of(labels, clusters).score()["acc"], abs=EXACT)
