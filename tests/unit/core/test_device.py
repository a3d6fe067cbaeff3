import pytest
import torch

from deepclust.core.device import choose_device, choose_devices
from deepclust.core.errors import DeepclustError


@pytest.mark.parametrize(("named", "expected"), [("cpu", ["cpu"]), ("cpu,cpu", ["cpu", "cpu"])])
def test_devices_can_be_named(monkeypatch, named, expected):
    monkeypatch.setenv("DEEPCLUST_DEVICE", named)
    assert choose_devices() == [torch.device(name) for name in expected]
    assert choose_device() == torch.device(expected[0])


@pytest.mark.parametrize("named", ["gpu", "cuda:x", "cpu,cuda:64", "cpu,meta", "mps", "meta", "mps,mps"])
def test_devices_that_are_not_there_are_refused(monkeypatch, named):
    monkeypatch.setenv("DEEPCLUST_DEVICE", named)
    with pytest.raises(DeepclustError, match=rf"^DEEPCLUST_DEVICE: [^\n]*{named.rpartition(',')[2]}[^\n]*$"):
        choose_devices()


def test_by_default_all_gpus_or_the_cpu_are_chosen(monkeypatch):
    monkeypatch.delenv("DEEPCLUST_DEVICE", raising=False)
    devices = choose_devices()
    assert len(devices) == max(1, torch.cuda.device_count())
    assert {device.type for device in devices} == {"cuda" if torch.cuda.is_available() else "cpu"}


@pytest.fixture
def without_a_driver(monkeypatch):
    """PyTorch for CUDA on a machine whose driver it cannot use."""
    for name in ("DEEPCLUST_DEVICE", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return monkeypatch


@pytest.mark.parametrize(("name", "value"), [("CUDA_VISIBLE_DEVICES", "0,1"), ("SLURM_JOB_GPUS", "3")])
def test_a_job_that_was_given_gpus_does_not_compute_on_the_cpu(without_a_driver, name, value):
    without_a_driver.setenv(name, value)
    with pytest.raises(DeepclustError, match=rf"^this job was given GPUs \({name}={value}\).*CUDA 13.0[^\n]*$"):
        choose_device()
    without_a_driver.setenv("DEEPCLUST_DEVICE", "cpu")
    assert choose_device() == torch.device("cpu")


@pytest.mark.parametrize("value", [None, "", "-1", "NoDevFiles"])
def test_a_job_without_gpus_computes_on_the_cpu(without_a_driver, value):
    """Also one that hides those that Slurm gave it."""
    if value is not None:
        without_a_driver.setenv("SLURM_JOB_GPUS", "0")
    if value is not None:
        without_a_driver.setenv("CUDA_VISIBLE_DEVICES", value)
    assert choose_devices() == [torch.device("cpu")]
