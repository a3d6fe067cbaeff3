import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from deepclust.core.errors import DeepclustError
from deepclust.models.model import build_network
from deepclust.pretraining import scan
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.engine.monitors import (
    LIMITS,
    check_collapse,
    cluster_record,
    mutual_information,
)


def test_sizes_of_clusters():
    record = cluster_record(torch.tensor([0, 0, 0, 2, -1]), torch.tensor([0, 1, -1, 2, 1]), 4)
    assert record == pytest.approx(
        {
            "cluster_min": 0,
            "cluster_max": 3,  # 3 of 4 images, where 1 is the mean
            "cluster_entropy": -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(4),
            "empty_clusters": 2,
            "agreement": 2 / 3,
        }
    )


def test_the_first_epoch_agrees_with_nothing():
    assert "agreement" not in cluster_record(torch.tensor([0, 1]), torch.tensor([-1, -1]), 2)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_entropy_lies_between_one_cluster_and_equal_ones(labels):
    record = cluster_record(torch.tensor(labels), torch.tensor(labels), 5)
    assert -1e-9 <= record["cluster_entropy"] <= 1 + 1e-9
    assert record["cluster_min"] <= 1 <= record["cluster_max"] <= 5
    assert record["agreement"] == 1
    assert (record["cluster_entropy"] < 1e-9) == (len(set(labels)) == 1)


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_ends_a_training(name):
    limit = LIMITS[name][0]
    check_collapse({"loss": 0.0, name: 2 * limit}, 3)
    with pytest.raises(DeepclustError, match=rf"collapsed in epoch 4: {name} is .*; try "):
        check_collapse({"loss": 0.0, name: limit / 2}, 3)


@pytest.mark.parametrize("clusters", [2, 10, 1000])
def test_equal_probabilities_end_a_training_after_its_first_epoch(clusters):
    equal, unequal = ({"mean_max_probability": multiple / clusters} for multiple in (1.01, 1.03))
    with pytest.raises(DeepclustError, match=rf"epoch 2: mean_max_probability is .* 1/{clusters}: .*; try "):
        check_collapse(equal, 1, clusters)
    check_collapse(equal, 0, clusters)
    check_collapse(equal, 1)
    check_collapse(unequal, 1, clusters)


def test_scan_is_watched_for_equal_probabilities():
    facts = ImageFacts(9, (2, 2), [0.5], [0.25], torch.zeros(9, 20, dtype=torch.int32))
    backbone = build_network({"name": "resnet10_w32", "stem": "cifar", "in_channels": 1})
    method = scan.Scan(scan.Options(dataset="d", start_from="s", clusters=7), backbone, facts)
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    scores = method.embed([torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)])
    record = {name: value.item() for name, value in method.loss(scores, torch.arange(4)).items()}
    with pytest.raises(DeepclustError, match="1/7"):
        check_collapse(record, 1, method.clusters)


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 3)), min_size=1, max_size=40))
def test_mutual_information_is_that_of_scikit_learn(pairs):
    known = [pair for pair in pairs if min(pair) >= 0]
    if known:
        first, second = zip(*pairs)
        expected = normalized_mutual_info_score(*zip(*known))
        found = mutual_information(torch.tensor(first, dtype=torch.int32), torch.tensor(second, dtype=torch.int32))
        assert found == pytest.approx(expected, abs=1e-9)
