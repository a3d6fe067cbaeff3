"""One training by several processes on two nodes: the same result as by one process, whoever starts the processes."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from clones import EXPERIMENT, Clone
from private_slurm import LIBC, MS_BIND, check, free_ports
from small_experiment import copy_project

BACKBONE = Path("results", "backbones", "simclr")
TARGET = str(BACKBONE / "model.safetensors")
# Few steps: rounding grows, and a ReLU that is on in one training and off in another changes gradients by percents.
TRAINING = EXPERIMENT.replace("epochs: 1", "epochs: 2").replace(
    "batch_size: 256", "batch_size: 256\n    precision: fp32\n    learning_rate: 0.01"
)
STEPS = 10
SUBMITIT = """
launcher:
  {method: submitit, cluster: slurm, nodes: 2, gpus_per_node: GPUS, cpus_per_process: 1, memory_gb: 2, minutes: 30}
"""


@pytest.fixture(scope="module")
def names(slurm):
    """The nodes' names lead to their addresses, as on a real cluster."""
    hosts = slurm.folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost node1 node2 {socket.gethostname()}\n")
    check(LIBC.mount(str(hosts).encode(), b"/etc/hosts", None, MS_BIND, None))


@pytest.fixture(scope="module")
def trained(slurm, names, tmp_path_factory):
    """A clone in which one process trained, without Slurm."""
    clone = Clone(tmp_path_factory.mktemp("trained"))
    copy_project(clone.folder)
    clone.configure(TRAINING)
    clone.run_here(TARGET)
    return clone


@pytest.fixture
def clone(trained, tmp_path):
    """The same clone before the training."""
    made = Clone(tmp_path / "clone")
    shutil.copytree(trained.folder, made.folder)
    shutil.rmtree(made.folder / BACKBONE)
    shutil.rmtree(made.folder / "logs" / "pretrain")
    made.configure(TRAINING + SUBMITIT.replace("GPUS", "1"))
    yield made
    for driver in made.drivers if hasattr(made, "drivers") else []:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()


def start(clone):
    driver = clone.start("--", TARGET, DEEPCLUST_CHECKPOINT_SECONDS="0.2")
    clone.drivers = [*getattr(clone, "drivers", []), driver]
    return driver


def assert_same_training(folder, trained):
    expected, found = (load_file(each / BACKBONE / "model.safetensors") for each in (trained.folder, folder))
    for name, value in expected.items():
        assert np.linalg.norm(found[name] - value) <= 0.2 * np.linalg.norm(value), name
    logs = ((each / BACKBONE / "training.jsonl").read_text().splitlines() for each in (trained.folder, folder))
    for line, own in zip(*logs, strict=True):
        assert json.loads(own)["loss"] == pytest.approx(json.loads(line)["loss"], rel=1e-3)


def log_of(clone):
    """What is in it so far; Snakemake removes it when the job starts anew."""
    try:
        return (clone.folder / "logs" / "pretrain" / "simclr.log").read_text()
    except FileNotFoundError:
        return ""


def printed(clone):
    """What the processes of the job printed."""
    return "".join(path.read_text() for path in (clone.folder / BACKBONE / ".state-submitit").glob("*_log.out"))


def tasks(slurm):
    """The processes that train."""
    found = []
    for process in slurm.own_processes():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "--keep_state" in words and words[1].endswith("pretrain.py"):
            found.append(process)
    return found


def hold(slurm, clone, driver):
    """Wait for a checkpoint, then stop the processes where they are; gives the job's number."""
    wanted = clone.folder / BACKBONE
    slurm.wait(lambda: list(wanted.glob(".state-*/*.pt")) or driver.poll() is not None, "a checkpoint", seconds=240)
    held = tasks(slurm)
    assert len(held) == 2, clone.said()[-3000:]
    for process in held:
        process.suspend()
    assert all(int(path.name[:9]) < STEPS for path in wanted.glob(".state-*/*.pt")), "the training was over already"
    return held, json.loads((wanted / ".state-submitit" / "job.json").read_text())["id"]


def test_restart_of_the_driver_attaches_to_the_job_on_two_nodes(slurm, trained, clone):
    driver = start(clone)
    held, number = hold(slurm, clone, driver)
    assert slurm.details(number)["NumNodes"] == "2"
    for process in [*psutil.Process(driver.pid).children(recursive=True), driver]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it asks Slurm now and then
            process.kill()
    driver.wait()
    assert clone.run("--unlock").returncode == 0

    again = start(clone)
    slurm.wait(lambda: f"attached to Slurm job {number}" in log_of(clone), "the new driver to attach", seconds=120)
    for process in held:
        process.resume()
    assert again.wait(400) == 0, clone.said()[-3000:]
    assert "2 processes" in log_of(clone)
    assert len([job for job in slurm.jobs() if job["id"] == number]) == 1
    assert not [job for job in slurm.jobs() if int(job["id"].split("_")[0]) > int(number)]
    assert_same_training(clone.folder, trained)
    assert not list((clone.folder / BACKBONE).glob(".state-*"))


def test_end_of_its_time_puts_the_job_back_into_the_queue(slurm, trained, clone):
    """Slurm sends the signal that it sends before the time limit."""
    driver = start(clone)
    held, number = hold(slurm, clone, driver)
    slurm.ask("scancel", "--signal=USR2", number)
    for process in held:
        process.resume()
    slurm.wait(lambda: slurm.details(number).get("Restarts") == "1", "the job to be requeued")
    assert "stopped by signal" in printed(clone), printed(clone)
    slurm.wait(lambda: slurm.details(number)["JobState"] == "PENDING", "the job to wait")
    slurm.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
    assert driver.wait(400) == 0, clone.said()[-3000:]
    assert "continuing from" in log_of(clone)
    assert_same_training(clone.folder, trained)


def test_preempted_and_requeued(slurm, trained, clone):
    """The signal ends the training on both nodes, and no task reports an end before Slurm has put the job back."""
    gres = SUBMITIT.replace("GPUS", "1").replace("minutes: 30", 'minutes: 30, sbatch: {gres: "gpu:1"}')
    clone.configure(TRAINING + gres)
    driver = start(clone)
    _, number = hold(slurm, clone, driver)
    assert slurm.details(number)["TresPerNode"] == "gres:gpu:1"
    slurm.preempt("node2")
    slurm.wait(lambda: slurm.details(number)["JobState"] == "PENDING", "the job to be requeued")
    slurm.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
    assert driver.wait(400) == 0, clone.said()[-3000:]
    assert slurm.details(number)["Restarts"] == "1"
    assert "continuing from" in log_of(clone)
    assert_same_training(clone.folder, trained)


def test_more_gpus_than_a_node_has(slurm, clone):
    """It is not tried at all."""
    clone.configure(TRAINING + SUBMITIT.replace("GPUS", "8"))
    done = clone.run("--", TARGET)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line == "launcher: 8 GPUs are more than any node of partition main has (1)"
    assert not (clone.folder / "logs" / "pretrain").exists()


def test_what_only_slurm_knows_to_be_wrong(slurm, clone):
    clone.configure(TRAINING + SUBMITIT.replace("GPUS", "1").replace("minutes: 30", "minutes: 30, constraint: none"))
    done = clone.run("--retries", "0", "--", TARGET)
    assert done.returncode == 1
    (line,) = [line for line in log_of(clone).splitlines() if line.startswith("error: ")]
    assert line.startswith("error: the job is refused (launcher): ")
    assert "feature specification" in line


def test_torchrun_on_two_nodes(slurm, trained, tmp_path):
    """By hand: one torchrun on each node."""
    record = json.loads((trained.folder / BACKBONE / "model.provenance.json").read_text())
    out = tmp_path / BACKBONE
    words = [word.replace(str(BACKBONE), str(out)) for word in record["command"]]
    (port,) = free_ports(1)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=0"]
    torchrun += ["--rdzv-backend=c10d", f"--rdzv-endpoint=node1:{port}", "--rdzv-id=one", "--"]
    srun = ["srun", "--nodes=2", "--ntasks-per-node=1", "--mem=2G", "--time=20"]
    done = subprocess.run(
        [*srun, *torchrun, *words],
        cwd=trained.folder,
        env=Clone(trained.folder).env(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 processes" in done.stdout
    assert_same_training(tmp_path, trained)
