import math

import pytest

from deepclust.slurm.cluster import (
    Cluster,
    Node,
    Request,
    SlurmPartition,
    gpus_of,
    misfits,
    read_cluster,
    slurm_minutes,
)

CLUSTER = Cluster(
    partitions={
        "cpu": SlurmPartition(1440, [Node(64, 250_000, {})]),
        "gpu": SlurmPartition(math.inf, [Node(32, 500_000, {"a100": 4}), Node(32, 500_000, {"v100": 2, "a100": 1})]),
    },
    default="cpu",
    accounting=True,
    accounts=frozenset({"vision", "audio"}),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30:00", 30), ("2:30:00", 150), ("1-12:00:00", 2160), ("45", 0.75), ("infinite", math.inf)],
)
def test_time_limits(text, expected):
    assert slurm_minutes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:a100:4(S:0,2),gpu:v100:2,tmpdisk:100", {"a100": 4, "v100": 2}),
        ("gpu:2", {"": 2}),
        ("gpu", {"": 1}),
        ("gpu:h100", {"h100": 1}),
        ("(null)", {}),
    ],
)
def test_gpus(text, expected):
    assert gpus_of(text) == expected


@pytest.mark.parametrize(
    "request_",
    [
        Request("a"),
        Request("a", "gpu", "vision", 100_000, 32, 500_000, 4),
        Request("a", "gpu", gpus=4, gpu_model="a100"),
        Request("a", "cpu,gpu", "vision,audio", 2000, cpus=64),
    ],
)
def test_what_fits(request_):
    assert misfits([request_], CLUSTER) == []


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (Request("a", "gup"), "did you mean 'gpu'"),
        (Request("a", account="visoin"), "did you mean 'vision'"),
        (Request("a", minutes=1441), "1441 minutes"),
        (Request("a", cpus=65), "65 CPUs"),
        (Request("a", memory_mb=250_001), "250001 MB"),
        (Request("a", memory_mb=100_000, last_memory_mb=400_000), "mem_mb: min(100000 * attempt, 250000)"),
        (Request("a", memory_mb=300_000, last_memory_mb=900_000), "300000 MB of memory are more"),
        (Request("a", gpus=1), "1 GPUs are more than any node of partition cpu has (0)"),
        (Request("a", "gpu", gpus=5), "5 GPUs"),
        (Request("a", "gpu", gpus=3, gpu_model="v100"), "3 v100 GPUs are more than any node of partition gpu has (2)"),
        (Request("a", "gpu", gpus=1, gpu_model="a10"), "no node of partition gpu has a GPU a10; did you mean 'a100'"),
    ],
)
def test_what_does_not_fit(request_, word):
    (line,) = misfits([request_, request_], CLUSTER)
    assert line.startswith("a: ") and word in line


def test_rules_with_the_same_problem_share_a_line():
    requests = [Request(rule, account="visoin") for rule in ("probe", "cluster", "probe")]
    assert misfits(requests, CLUSTER) == ["cluster, probe: you have no Slurm account visoin; did you mean 'vision'?"]


CONFIG = """Configuration data as of 2024-05-01T12:00:00
AccountingStorageType   = accounting_storage/none
EmptyOne                =
JobRequeue              = 0
MinJobAge               = 30 sec

Slurmctld(primary) at head is UP
"""


def test_what_slurm_says(tmp_path, monkeypatch):
    """Nodes that differ have lines of their own, and a value may be missing."""
    rows = (
        "main*|1-00:00:00|32|256000|OFF|(null)",
        "main*|1-00:00:00|8|48000|OFF|gpu:a100:2(S:0)",
        "low|infinite|8|1|CANCEL|",
    )
    (tmp_path / "rows").write_text("\n".join(rows))
    (tmp_path / "config").write_text(CONFIG)
    for name, program in {
        "sinfo": f"case $* in *%P*) cat {tmp_path}/rows;; *) echo node1;; esac",
        "scontrol": f"cat {tmp_path}/config",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    main = SlurmPartition(1440, [Node(32, 256_000, {}), Node(8, 48_000, {"a100": 2})])
    partitions = {"main": main, "low": SlurmPartition(math.inf, [Node(8, 1, {})], cancels=True)}
    hosts = frozenset({"node1"})
    assert read_cluster() == Cluster(partitions, "main", False, frozenset(), hosts, remembers=30, requeues=False)
