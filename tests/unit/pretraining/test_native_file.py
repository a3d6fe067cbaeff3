import json

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from deepclust.pretraining.engine.native import NativeHead, affine_layers, write_native


def trained(*layers):
    """A network whose batch normalisation has seen something."""
    torch.manual_seed(0)
    network = nn.Sequential(*layers)
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    for _ in range(5):
        network(3 * torch.randn(32, 6) + 1)
    return network.eval()


@pytest.mark.parametrize("deep", [False, True])
def test_folded_layers_compute_what_the_network_does(deep):
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5, bias=False)]
    if deep:
        layers += [nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4, eps=0.1)]
    network = trained(*layers)
    features = torch.randn(10, 6)
    folded = affine_layers(network)
    assert len(folded) == (3 if deep else 2)
    values = features.double()
    for i, (weight, bias) in enumerate(folded):
        values = F.linear(values.relu() if i else values, weight, bias)
    assert torch.allclose(values.float(), network(features), atol=1e-5)


def read(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["deepclust"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict


def test_file_of_a_method_that_clusters(tmp_path):
    network = trained(nn.Linear(6, 4))
    weight, bias = torch.randn(3, 4), torch.randn(3)
    write_native(tmp_path / "native.safetensors", NativeHead(network, weight, bias, normalize=True))
    facts, tensors = read(tmp_path / "native.safetensors")
    assert facts == {"normalize": True}
    assert torch.equal(tensors.pop("clusters.weight"), weight)
    assert torch.equal(tensors.pop("clusters.bias"), bias)
    assert torch.equal(tensors.pop("projector.0.weight"), network[0].weight)
    assert torch.equal(tensors.pop("projector.0.bias"), network[0].bias)
    assert tensors == {}


def test_file_of_a_method_that_does_not(tmp_path):
    write_native(tmp_path / "native.safetensors", None)
    assert read(tmp_path / "native.safetensors") == ({"normalize": False}, {})
