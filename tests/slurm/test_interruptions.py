"""Whatever ends a training or a head before its time, it goes on where it was, and ends the same to the last bit."""

import os
import re
import shutil
import signal

import pytest

from clones import EXPERIMENT, Clone
from small_experiment import copy_project

TARGET = "results/backbones/simclr/model.safetensors"
TRAINING = EXPERIMENT.replace("epochs: 1", "epochs: 4").replace("batch_size: 256", "batch_size: 64")


@pytest.fixture(scope="module")
def trained(slurm, tmp_path_factory):
    """A clone in which the training ran once without Slurm and without interruption."""
    clone = Clone(tmp_path_factory.mktemp("trained"))
    copy_project(clone.folder)
    clone.configure(TRAINING)
    clone.run_here(TARGET)
    return clone


class Interrupted:
    """A training that runs as a Slurm job and is held still after its first checkpoint."""

    def __init__(self, slurm, clone, expected):
        self.slurm, self.clone, self.expected = slurm, clone, expected

    def start(self):
        self.driver = self.clone.start("--", TARGET)
        self.hold()
        return self

    def hold(self):
        """Wait for a checkpoint, then stop the process where it is; Slurm wakes it when it sends a signal."""
        states = self.clone.folder / "results" / "backbones" / "simclr"
        done = self.driver.poll
        self.slurm.wait(lambda: list(states.glob(".state-*/*.pt")) or done() is not None, "a checkpoint", seconds=240)
        (process,) = self.slurm.training()
        process.suspend()
        self.job = self.slurm.job_of("pretrain", "RUNNING")
        self.process = process

    def release(self):
        """Let a requeued job start now: Slurm would have it wait for two minutes."""
        number = self.job["id"]
        self.slurm.wait(lambda: self.state() == "PENDING", "the job to be requeued")
        self.slurm.ask("scontrol", "update", f"JobId={number}", "StartTime=now")

    def state(self):
        return next((job["state"] for job in self.slurm.jobs() if job["id"] == self.job["id"]), None)

    def finish(self):
        """Wait for the end, and compare."""
        assert self.driver.wait(300) == 0, self.clone.said()[-5000:]
        log = (self.clone.folder / "logs" / "pretrain" / "simclr.log").read_text()
        place = re.search(r"continuing from .*: epoch (\d+), step (\d+)", log)
        assert place and (int(place[1]), int(place[2])) > (1, 0), log
        assert (self.clone.folder / TARGET).read_bytes() == self.expected
        assert not list((self.clone.folder / "results" / "backbones" / "simclr").glob(".state-*"))


@pytest.fixture
def training(slurm, trained, tmp_path):
    folder = tmp_path / "clone"
    shutil.copytree(trained.folder, folder)
    expected = (folder / TARGET).read_bytes()
    shutil.rmtree(folder / "results" / "backbones")
    shutil.rmtree(folder / "logs" / "pretrain")
    made = Interrupted(slurm, Clone(folder), expected)
    yield made
    if made.driver.poll() is None:
        os.killpg(made.driver.pid, signal.SIGKILL)
        made.driver.wait()


def test_preempted_and_requeued(slurm, training):
    training.start()
    slurm.preempt(training.job["node"])
    training.release()
    training.finish()
    assert len([job for job in slurm.jobs() if job["id"] == training.job["id"]]) == 1
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", training.job["id"])


def test_preempted_and_cancelled(slurm, training):
    training.clone.edit_profile(("# slurm_partition: gpu ", "slurm_partition: killable "))
    training.start()
    slurm.preempt(training.job["node"])
    training.release()
    training.finish()
    assert f"Slurm job {training.job['id']} (pretrain simclr) was preempted: back in the queue" in training.clone.said()


def test_cancelled_by_hand(slurm, training):
    training.start()
    slurm.ask("scancel", training.job["id"])
    training.finish()


def test_killed(slurm, training):
    training.start()
    training.process.kill()
    training.finish()


def test_out_of_memory(slurm, training):
    """Slurm kills what takes more than it asked for; every attempt asks for more, until it is enough (some 620 MB)."""
    clone = training.clone
    clone.edit_profile(("mem_mb: min(32000 * attempt, 64000)", "mem_mb: 450 * attempt"))
    training.driver = clone.start("--", TARGET)
    assert training.driver.wait(500) == 0, clone.said()[-5000:]
    jobs = sorted((int(job["id"]), job["state"]) for job in slurm.jobs() if job["folder"] == str(clone.folder))
    asked = [slurm.details(str(number))["MinMemoryNode"] for number, _ in jobs]
    assert len(jobs) > 1 and asked == [f"{450 * attempt}M" for attempt in range(1, len(jobs) + 1)]
    assert [state for _, state in jobs if state == "COMPLETED"] == [jobs[-1][1]]
    for number, _ in jobs[:-1]:
        assert "exceeded memory limit" in (clone.folder / f"logs/slurm/rule_pretrain/simclr/{number}.log").read_text()
    assert (clone.folder / TARGET).read_bytes() == training.expected


def test_death_of_a_node(slurm, training):
    """It goes on on the other node: a node that comes back is told to end what it ran, also what it just started."""
    training.start()
    node = training.job["node"]
    slurm.kill_node(node)
    try:
        slurm.wait(lambda: slurm.node_state(node).startswith("down"), "Slurm to notice")
        training.release()
        training.finish()
    finally:
        slurm.ask("scancel", training.job["id"], check=False)  # whatever failed, it must not run when the node is back
        slurm.start_node(node)
    assert slurm.job_of("pretrain", "COMPLETED")["node"] not in ("", node)
    slurm.wait(lambda: slurm.node_state(node) == "idle", "the node to be back")


def test_end_of_the_time_limit(slurm, training):
    """It hangs, so it cannot end by itself in time; Slurm wakes it with the signal that ends it."""
    training.clone.edit_profile(("runtime: 720", "runtime: 1"))
    training.start()
    slurm.wait(lambda: training.state() == "TIMEOUT", "Slurm to end it", seconds=150)
    training.finish()
    assert slurm.job_of("pretrain")["id"] != training.job["id"]


def test_death_of_snakemake(slurm, training):
    """Started again, it does not submit twice what still runs, nor again what ended meanwhile."""
    training.start()
    os.killpg(training.driver.pid, signal.SIGKILL)
    training.driver.wait()
    unlocked = training.clone.run("--unlock")
    assert unlocked.returncode == 0, unlocked.stderr

    refused = training.clone.run("--", TARGET)
    assert refused.returncode == 1
    (line,) = [line for line in refused.stderr.splitlines() if "still in the queue" in line]
    assert "pretrain simclr (running)" in line and f"scancel {training.job['id']}" in line
    assert len(slurm.jobs("RUNNING,PENDING")) == 1

    training.process.resume()
    slurm.wait(lambda: training.state() == "COMPLETED", "the job to end")
    again = training.clone.run("--", TARGET)
    assert again.returncode == 0 and "Nothing to be done" in again.stderr, again.stderr[-3000:]
    assert (training.clone.folder / TARGET).read_bytes() == training.expected


HEAD = "results/clustering/digits/pixels/scan/k10-held-out"
HEADS = """
datasets: {digits: {loader: digits}}
backbones: {pixels: {method: pixels}}
heads: {scan: {method: scan, neighbors: 5, heads: 5, epochs: 200}}
runs: [{dataset: digits, backbones: [pixels], heads: [scan], k: 10}]
seeds: 6
neighbors: {k: 5}
"""


@pytest.fixture
def clustered(slurm, clone):
    """A clone in which a head was fitted once without Slurm and without interruption."""
    clone.configure(HEADS)
    clone.run_here(f"{HEAD}/clusters.safetensors")
    return clone


def hold_head(slurm, clone, driver, count):
    """Wait for `count` seeds, then stop the process where it is; gives it and when the seeds were written."""

    def written():
        return {path: path.stat().st_mtime_ns for path in (clone.folder / HEAD).glob(".seeds-*/[0-9].safetensors")}

    slurm.wait(lambda: len(written()) >= count or driver.poll() is not None, f"{count} seeds", seconds=300)
    (process,) = slurm.training("cluster")
    process.suspend()
    return process, written()


def test_a_head_between_its_seeds(slurm, clustered):
    """Killed after its first seeds and cancelled after some more, it fits each seed once."""
    clusters = clustered.folder / HEAD / "clusters.safetensors"
    expected = clusters.read_bytes()
    shutil.rmtree(clusters.parent)
    driver = clustered.start("--", f"{HEAD}/clusters.safetensors")
    try:
        process, first = hold_head(slurm, clustered, driver, 1)
        process.kill()
        process, second = hold_head(slurm, clustered, driver, len(first) + 1)
        assert len(second) < 6 and first.items() <= second.items()
        slurm.ask("scancel", slurm.job_of("cluster", "RUNNING")["id"])
        assert driver.wait(500) == 0, clustered.said()[-5000:]
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
    assert clusters.read_bytes() == expected
    assert all(path.stat().st_mtime_ns == when for path, when in second.items())
    assert len([job for job in slurm.jobs() if job["folder"] == str(clustered.folder)]) == 3
