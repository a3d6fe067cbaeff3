import pytest
import torch

from deepclust.common.device import choose_device, choose_devices


@pytest.mark.parametrize(("named", "expected"), [("cpu", ["cpu"]), ("cpu,cpu", ["cpu", "cpu"]), ("cuda:1", ["cuda:1"])])
def test_devices_can_be_named(monkeypatch, named, expected):
    monkeypatch.setenv("DEEPCLUST_DEVICE", named)
    assert choose_devices() == [torch.device(name) for name in expected]
    assert choose_device() == torch.device(expected[0])


def test_by_default_all_gpus_or_the_cpu_are_chosen(monkeypatch):
    monkeypatch.delenv("DEEPCLUST_DEVICE", raising=False)
    devices = choose_devices()
    assert len(devices) == max(1, torch.cuda.device_count())
    assert {device.type for device in devices} == {"cuda" if torch.cuda.is_available() else "cpu"}
