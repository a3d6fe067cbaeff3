import csv
from pathlib import Path

import pytest

from deepclust.core.errors import DeepclustError
from deepclust.reporting import published
from deepclust.reporting.published import PROTOCOLS, Published, comparable, read_published

TABLE = Path(published.__file__).with_name("published.csv")
HEADER = "dataset,method,backbone,protocol,acc,nmi,ari,source,note\n"


def write(tmp_path, line):
    path = tmp_path / "published.csv"
    path.write_text(HEADER + line)
    return path


def result(method, protocol, acc, dataset="CIFAR-10"):
    return Published(dataset, method, "ResNet-18", protocol, {"acc": acc}, "a paper", "")


def test_every_published_number_has_source_protocol_and_a_possible_value():
    rows = read_published(TABLE)
    assert {row.dataset for row in rows} == {
        "CIFAR-10",
        "CIFAR-100-20",
        "CIFAR-100",
        "STL-10",
        "ImageNet-10",
        "ImageNet-Dogs",
        "Tiny-ImageNet",
        "ImageNet-1k",
    }
    for row in rows:
        assert row.source and row.method and row.backbone
        assert row.protocol in PROTOCOLS
        assert all(0.1 < score < 1 for score in row.scores.values())


def test_no_result_is_listed_twice():
    rows = read_published(TABLE)
    keys = [(row.dataset, row.method, row.backbone, row.protocol, row.source) for row in rows]
    assert len(set(keys)) == len(keys)


def test_scores_that_cannot_come_from_one_partition_carry_a_note():
    # Ten balanced classes: ARI is smallest, for a given ACC, when all errors of nine classes are in the tenth cluster.
    for row in read_published(TABLE):
        if row.dataset == "CIFAR-10" and {"acc", "ari"} <= row.scores.keys():
            assert row.scores["ari"] > smallest_ari(row.scores["acc"]) - 0.002 or row.note, row


def smallest_ari(accuracy, classes=10, size=6000):
    def pairs(n):
        return n * (n - 1) / 2

    wrong = (1 - accuracy) * classes * size / (classes - 1)
    within = (classes - 1) * (pairs(size - wrong) + pairs(wrong)) + pairs(size)
    rows = classes * pairs(size)
    columns = (classes - 1) * pairs(size - wrong) + pairs(size + (classes - 1) * wrong)
    expected = rows * columns / pairs(classes * size)
    return (within - expected) / ((rows + columns) / 2 - expected)


def test_scores_are_read_as_fractions_and_gaps_are_left_out(tmp_path):
    (row,) = read_published(write(tmp_path, "STL-10,SCAN,ResNet-18,held-out,80.9,,64.6,a paper,\n"))
    assert row.scores == {"acc": pytest.approx(0.809), "ari": pytest.approx(0.646)}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("STL-10,SCAN,ResNet-18,held-out,80.9,,,,\n", "source"),
        ("STL-10,SCAN,ResNet-18,unsure,80.9,,,a paper,\n", "unsure"),
        ("STL-10,SCAN,ResNet-18,held-out,809,,,a paper,\n", "percent"),
        ("STL-10,SCAN,ResNet-18,held-out,,,,a paper,\n", "percent"),
        ("STL-10,SCAN,ResNet-18,held-out,eighty,,,a paper,\n", "eighty"),
    ],
)
def test_a_number_without_source_protocol_or_sense_is_refused(tmp_path, line, problem):
    with pytest.raises(DeepclustError, match=f"line 2.*{problem}"):
        read_published(write(tmp_path, line))


def test_a_table_without_sources_is_refused(tmp_path):
    path = tmp_path / "published.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerow(["dataset", "method", "acc"])
    with pytest.raises(DeepclustError, match="source"):
        read_published(path)


def test_results_under_the_same_protocol_come_first_then_the_best():
    rows = [
        result("a", "merged", 0.99),
        result("b", "held-out", 0.8),
        result("c", "held-out", 0.9),
        result("d", "held-out", 0.95, dataset="STL-10"),
        Published("CIFAR-10", "e", "ResNet-18", "held-out", {"nmi": 0.9}, "a paper", ""),
    ]
    assert [row.method for row in comparable(rows, "CIFAR-10", ["held-out"], "acc")] == ["c", "b", "a"]
    assert [row.method for row in comparable(rows, "CIFAR-10", ["held-out"], "acc", most=1)] == ["c"]
    assert comparable(rows, "", ["held-out"], "acc") == []
