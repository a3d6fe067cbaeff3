"""A compiled network trains as the network itself does."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from deepclust.core.errors import DeepclustError
from deepclust.pretraining.engine import pretraining as engine
from deepclust.pretraining.engine.compilation import should_compile
from deepclust.pretraining.engine.distributed import ALONE, Team


class Tiny(nn.Module):
    """One layer, so that compiling takes seconds."""

    feature_dim = 6

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward_features(self, images):
        return self.layers(images)

    def forward(self, images):
        return self.layers(images).flatten(1)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that alone is searched for compilers."""
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(program):
    program.touch(mode=0o755)


def test_compiled_and_eager_agree(train, monkeypatch, programs):
    """Captured as for any backend; the one that calls a C++ compiler takes minutes, so none need be there."""
    install(programs / "g++")
    monkeypatch.setattr(engine, "build_network", lambda architecture: Tiny())
    calls = []
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda *a, **k: calls.append(a) or original(*a, **k, backend="aot_eager"))
    eager = train(name="eager", epochs=2)
    assert calls == []  # by default only on GPUs
    compiled = train(name="compiled", epochs=2, compile=True)
    assert len(calls) == 1
    expected, found = (load_file(result.path / "model.safetensors") for result in (eager, compiled))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4, msg=name)


def complete(monkeypatch, folder):
    """Triton and Python's header, which a build for CPUs and a bare machine have not."""
    (folder / "include").mkdir()
    (folder / "include" / "Python.h").touch()
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(folder / "include"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


@pytest.mark.parametrize(("device", "name", "variable"), [("cuda", "gcc", "CC"), ("cpu", "g++", "CXX")])
def test_without_a_compiler(programs, monkeypatch, capsys, tmp_path, device, name, variable):
    device = torch.device(device)
    complete(monkeypatch, tmp_path)
    with pytest.raises(DeepclustError, match=rf"^compile: true .*{variable[0]}.*{name.replace('+', '.')}[^\n]*$"):
        should_compile(True, device, ALONE)
    assert capsys.readouterr().out == ""
    assert not should_compile("auto", device, ALONE)
    assert len(capsys.readouterr().out.splitlines()) == (device.type == "cuda")  # on a CPU none is wanted
    install(programs / name)
    assert should_compile(True, device, ALONE)
    assert should_compile("auto", device, ALONE) == (device.type == "cuda")
    monkeypatch.setenv(variable, "gone")
    with pytest.raises(DeepclustError, match="gone"):
        should_compile(True, device, ALONE)
    install(programs / "gone")
    assert should_compile(True, device, ALONE)
    assert not should_compile(False, device, ALONE)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lacks", ["Triton", "Python.h"])
def test_without_what_triton_compiles_with(programs, monkeypatch, capsys, tmp_path, lacks):
    install(programs / "gcc")
    complete(monkeypatch, tmp_path)
    assert should_compile("auto", torch.device("cuda"), ALONE)
    if lacks == "Triton":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    else:
        (tmp_path / "include" / "Python.h").unlink()
    assert not should_compile("auto", torch.device("cuda"), ALONE)
    assert lacks in capsys.readouterr().out
    with pytest.raises(DeepclustError, match=lacks):
        should_compile(True, torch.device("cuda"), ALONE)


@pytest.mark.parametrize(("wanted", "lines"), [(True, 1), ("auto", 1), (False, 0)])
def test_several_processes_do_not_compile(capsys, wanted, lines):
    assert not should_compile(wanted, torch.device("cuda"), Team(0, 2))
    assert len(capsys.readouterr().out.splitlines()) == lines
