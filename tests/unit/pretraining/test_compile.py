"""A compiled network trains as the network itself does."""

import torch
from safetensors.torch import load_file
from torch import nn

from deepclust.pretraining import engine


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


def test_compiled_and_eager_agree(train, monkeypatch):
    """Captured as for any backend; the one that calls a C++ compiler takes minutes."""
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
