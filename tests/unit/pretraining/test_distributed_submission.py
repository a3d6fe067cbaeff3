"""Pretraining as a job of its own, here with submitit's executor for one machine; on Slurm see tests/slurm."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from pretrain_processes import SCRIPTS, written

from deepclust.core.errors import DeepclustError
from deepclust.core.images import write_raw
from deepclust.pretraining.launch import submission
from deepclust.pretraining.launch.launcher_options import LauncherOptions
from deepclust.pretraining.launch.submission import Submission, task_arguments

SUBMITIT = {"method": "submitit", "cluster": "local", "processes_per_node": 2, "gpus_per_node": 0}


def test_what_is_the_drivers_own_does_not_reach_the_job():
    argv = ["--method", "simclr", "--launcher.method", "submitit", "--launcher.nodes=2", "--minutes", "9"]
    argv += ["--input.images", "a", "b", "--threads=3", "--epochs=5"]
    words = task_arguments(argv, LauncherOptions(gpus_per_node=4, cpus_per_process=2))
    assert words == [
        *("--method", "simclr", "--input.images", "a", "b", "--epochs=5"),
        *("--keep_state", "true", "--threads", "8"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "slurm"}, "no sbatch"),
        ({"cluster": "local", "nodes": 2}, "needs Slurm"),
        ({"nodes": 3}, "nodes is 3"),
    ],
)
def test_a_cluster_that_is_not_there(tmp_path, monkeypatch, options, message):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeepclustError, match=message):
        Submission(LauncherOptions(**options), tmp_path / "model.json", ["true"])


def test_a_job_under_other_options_is_not_disturbed(tmp_path):
    """It is another process, which runs from the same folder."""
    options = LauncherOptions(**SUBMITIT)
    first = Submission(options, tmp_path / "model.json", ["true"])
    first.folder.mkdir()
    job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(first.folder)])
    try:
        first.record.write_text(json.dumps({"id": str(job.pid), "key": first.key}))
        with pytest.raises(DeepclustError, match=rf"job {job.pid} still trains.*kill {job.pid}"):
            Submission(options, tmp_path / "model.json", ["false"]).run(lambda stop: None)
    finally:
        job.kill()
        job.wait()


def test_a_job_that_is_being_started_runs(tmp_path):
    """Its command is readable a moment after it is there."""
    job = Submission(LauncherOptions(**SUBMITIT), tmp_path / "model.json", ["true"])
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(job.folder)])
        try:
            assert job._in_queue(str(process.pid))
        finally:
            process.kill()
            process.wait()
        assert not job._in_queue(str(process.pid))


@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_the_job_runs_the_command_as_one_of_a_team(tmp_path, cluster):
    program = f"import os, pathlib; pathlib.Path({str(tmp_path / 'seen')!r}).write_text(os.environ['WORLD_SIZE'])"
    options = LauncherOptions(**SUBMITIT | {"cluster": cluster, "processes_per_node": 1})
    submission = Submission(options, tmp_path / "model.json", [sys.executable, "-c", program])
    submission.run(lambda stop: None)
    assert (tmp_path / "seen").read_text() == "1"
    submission.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["seen"]


def test_an_error_of_the_job_is_told_in_one_line(tmp_path):
    program = "import sys; print('error: too few images', file=sys.stderr); sys.exit(1)"
    command = [sys.executable, "-c", program]
    with pytest.raises(DeepclustError, match="^job .*: too few images$"):
        Submission(LauncherOptions(**SUBMITIT), tmp_path / "model.json", command).run(lambda stop: None)


TIME_IS_UP = """
import os, signal, sys, time
with open(sys.argv[1], "a") as file:
    print("begun", file=file)
os.kill(os.getppid(), signal.SIGUSR2)
time.sleep(60)
"""


@pytest.mark.parametrize(("time_slices", "begun"), [(1, 1), (2, 2), (5, 5), (20, 6)])
def test_a_job_on_one_machine_uses_up_its_time_slices(tmp_path, monkeypatch, time_slices, begun):
    """Each ends with the signal by which submitit announces the time limit; it begins a job 6 times at most."""
    monkeypatch.setattr(submission, "POLL", 0.2)
    options = LauncherOptions(**SUBMITIT | {"processes_per_node": 1, "minutes": 1, "time_slices": time_slices})
    command = [sys.executable, "-c", TIME_IS_UP, str(tmp_path / "begun")]
    with pytest.raises(DeepclustError, match="ended before its time"):
        Submission(options, tmp_path / "model.json", command).run(lambda stop: None)
    assert (tmp_path / "begun").read_text().split() == ["begun"] * begun


@pytest.mark.parametrize(
    ("sbatch", "asked"),
    [
        ({}, ["--gpus-per-node=2"]),
        ({"qos": "long"}, ["--gpus-per-node=2"]),
        ({"gres": "gpu:a100:2"}, ["--gres=gpu:a100:2"]),
        ({"gres": "disk:2"}, ["--gpus-per-node=2", "--gres=disk:2"]),
        ({"gpus": "a100:4"}, ["--gpus=a100:4"]),
        ({"gpus_per_node": "a100:2"}, ["--gpus-per-node=a100:2"]),
    ],
)
def test_slurm_is_asked_for_gpus_in_one_way(tmp_path, monkeypatch, sbatch, asked):
    """It refuses two. Here its commands only take the job's script, and know no job afterwards.

    submitit itself runs, which looks for srun before it submits.
    """
    programs = {"sbatch": "echo Submitted batch job 17", "squeue": ":", "sacct": ":", "srun": "exit 1"}
    for name, program in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    options = LauncherOptions(method="submitit", cluster="slurm", nodes=2, gpus_per_node=2, sbatch=sbatch)
    submission = Submission(options, tmp_path / "model.json", ["true"])
    with pytest.raises(DeepclustError, match="Slurm job 17: it ended before its time"):
        submission.run(lambda stop: None)
    script = (submission.folder / "17_submission.sh").read_text()
    assert re.findall(r"--(?:gpus|gres).*", script) == asked
    assert "--ntasks-per-node=2\n" in script


WAITS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not (folder / "pid").exists():
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(300)
"""


def is_gone(number, seconds):
    """Whether a process ends within some seconds."""
    try:
        psutil.Process(number).wait(seconds)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    return True


@pytest.mark.parametrize(("hearing", "patience"), [("well", 90), ("deaf", 1)])
def test_a_cancelled_job_ends_and_the_next_start_trains(tmp_path, monkeypatch, hearing, patience):
    """By itself where it hears the signal, else by force; a task that waits for Slurm would wait for ten minutes."""
    monkeypatch.setattr(submission, "POLL", 0.2)
    monkeypatch.setattr(submission, "CANCEL_PATIENCE", patience)
    options = LauncherOptions(**SUBMITIT | {"processes_per_node": 1})
    job = Submission(options, tmp_path / "model.json", [sys.executable, "-c", WAITS, str(tmp_path), hearing])
    ended = []

    def listen(stop):
        def stop_when_it_trains():
            while not (tmp_path / "pid").exists():
                time.sleep(0.1)
            time.sleep(1)
            ended.append(time.monotonic())
            stop(signal.SIGTERM)

        threading.Thread(target=stop_when_it_trains, daemon=True).start()

    with pytest.raises(DeepclustError, match="is cancelled"):
        job.run(listen)
    assert time.monotonic() - ended[0] < 60
    assert is_gone(int((tmp_path / "pid").read_text()), 10)
    job.run(lambda stop: None)


def is_training(process, folder):
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "--keep_state" in words and f"--output.model={folder / 'model.json'}" in words


def test_a_driver_started_again_attaches_to_its_job(tmp_path):
    images = tmp_path / "images"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    write_raw(images, [pixels], (1, 8, 8))
    out = tmp_path / "out"
    arguments = {"method": "simclr", "dataset": "noise", "input.images": images / "images.bin"}
    arguments |= {f"output.{name}": file for name, file in written(out).items()}
    arguments |= {"provenance": out / "provenance.json", "checkpoint_seconds": 0.01}
    arguments |= {"architecture": "resnet10_w32", "batch_size": 20, "epochs": 4, "learning_rate": 0.01}
    arguments |= {f"launcher.{name}": value for name, value in SUBMITIT.items()}
    command = [
        sys.executable,
        str(SCRIPTS / "pretrain.py"),
        *(f"--{name}={value}" for name, value in arguments.items()),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DEEPCLUST_DEVICE": "cpu"}

    def start(log):
        with (tmp_path / log).open("w") as file:
            return subprocess.Popen(command, env=environment, stdout=file, stderr=file)

    driver = start("first.log")
    while not list(out.glob(".state-*/*.pt")) and driver.poll() is None:
        time.sleep(0.05)
    held = [process for process in psutil.process_iter() if is_training(process, out)]
    assert len(held) == 2
    for process in held:
        process.suspend()
    (record,) = out.glob(".state-submitit/job.json")
    number = json.loads(record.read_text())["id"]
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    again = start("second.log")
    while "attached" not in (tmp_path / "second.log").read_text() and again.poll() is None:
        time.sleep(0.05)
    for process in held:
        process.resume()
    assert again.wait() == 0, (tmp_path / "second.log").read_text()
    said = (tmp_path / "second.log").read_text()
    assert f"attached to job {number}" in said
    assert said.count('"epoch": 4,') == 1
    assert "2 processes" in said
    assert set(json.loads((out / "provenance.json").read_text())["outputs"]) == {"model", "weights", "native", "log"}
    assert list(out.glob(".state-*")) == []
