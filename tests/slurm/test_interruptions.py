"""Whatever ends a training before its time, it goes on where it was, and its weights are the same to the last bit."""

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
        self.slurm.wait(lambda: list(states.glob(".state-*/*.pt")) or self.driver.poll() is not None, "a checkpoint")
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


def urgent(slurm, node):
    """A more urgent job that wants the node's GPU, for a moment."""
    words = ["--partition=urgent", f"--nodelist={node}", "--gres=gpu:1", "--output=/dev/null"]
    slurm.ask("sbatch", *words, "--wrap", "sleep 1")


def test_preempted_and_requeued(slurm, training):
    training.start()
    urgent(slurm, training.job["node"])
    training.release()
    training.finish()
    assert len([job for job in slurm.jobs() if job["id"] == training.job["id"]]) == 1
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", training.job["id"])


def test_preempted_and_cancelled(slurm, training):
    training.clone.edit_profile(("# slurm_partition: gpu ", "slurm_partition: killable "))
    training.start()
    urgent(slurm, training.job["node"])
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


def test_death_of_a_node(slurm, training):
    training.start()
    node = training.job["node"]
    slurm.kill_node(node)
    slurm.wait(lambda: slurm.node_state(node).startswith("down"), "Slurm to notice")
    slurm.start_node(node)
    training.release()
    training.finish()


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
