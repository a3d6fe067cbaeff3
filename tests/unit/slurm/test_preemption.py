"""With programs in the place of Slurm's that know two jobs; on a real Slurm see tests/slurm/test_interruptions.py."""

import os

import pytest

from deepclust.slurm.cluster import Cluster, Request, SlurmPartition
from deepclust.slurm.preemption import PreemptionWatch, lost_if_preempted


@pytest.fixture
def preempted(tmp_path, monkeypatch):
    """Sets the numbers of the jobs that are preempted."""

    def program(name, text):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def set_jobs(*numbers):
        rows = [f"{number}|PREEMPTED|rule_pretrain_wildcards_simclr|{tmp_path}\n" for number in numbers]
        (tmp_path / "jobs").write_text("".join(rows))

    program("squeue", f"cat {tmp_path}/jobs")
    program("scontrol", f'test -e {tmp_path}/refuses && echo disabled >&2 && exit 1; echo "$@" >> {tmp_path}/asked')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return set_jobs


def test_only_ones_own_jobs_are_put_back(tmp_path, preempted):
    """Others in the same folder were an earlier Snakemake's: two jobs would train one backbone."""
    preempted(6)
    watch = PreemptionWatch(tmp_path)
    preempted(6, 7)
    watch.requeue()
    assert (tmp_path / "asked").read_text().splitlines() == ["requeue 7"]


def test_a_refusal_is_said_once_and_tried_again(tmp_path, preempted, capsys):
    preempted()
    watch = PreemptionWatch(tmp_path)
    preempted(7)
    (tmp_path / "refuses").touch()
    watch.requeue()
    watch.requeue()
    (line,) = capsys.readouterr().out.splitlines()
    assert "7 (pretrain simclr)" in line and "disabled" in line
    (tmp_path / "refuses").unlink()
    watch.requeue()
    assert "back in the queue" in capsys.readouterr().out


def test_partitions_that_would_lose_jobs():
    partitions = {"main": SlurmPartition(60), "killable": SlurmPartition(60, cancels=True)}
    cluster = Cluster(partitions, "main", False, frozenset())
    assert lost_if_preempted([Request("a"), Request("b", "main")], cluster) == []
    (line,) = lost_if_preempted([Request("a", "main,killable"), Request("b", "killable")], cluster)
    assert "killable" in line
