"""There need not be a GPU: a program stands in for the driver's."""

import os
import stat
import time

import pytest

from deepclust.core import gpu_use


def driver(folder, text, monkeypatch):
    """An `nvidia-smi` that says `text` and writes down what it was asked."""
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\nprintf "{text}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(gpu_use, "FIRST", 0.01)


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_the_mean_of_all_gpus(tmp_path, monkeypatch):
    driver(tmp_path, r"90\n50\n", monkeypatch)
    use = gpu_use.Utilization(["GPU-a", "GPU-b"])
    wait_for(lambda: use.mean() is not None)
    assert use.mean() == pytest.approx(0.7)
    asked = (tmp_path / "asked").read_text().split()
    assert "--id=GPU-a,GPU-b" in asked and "--query-gpu=utilization.gpu" in asked


@pytest.mark.parametrize("text", ["", r"[N/A]\n", r"No devices were found\n"])
def test_a_driver_that_does_not_tell(tmp_path, monkeypatch, text):
    driver(tmp_path, text, monkeypatch)
    use = gpu_use.Utilization(["GPU-a"])
    wait_for((tmp_path / "asked").exists)
    time.sleep(0.1)
    assert use.mean() is None


def test_a_process_without_a_gpu():
    assert set(gpu_use.gpu_use()) == {"peak_gpu_memory_mb", "gpu_memory_mb", "gpu_utilization"}
