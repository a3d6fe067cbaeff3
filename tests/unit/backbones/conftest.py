import pytest
import torch

from deepclust.models.networks import build_network
from hub_server import Hub
from tiny_vit import TINY


@pytest.fixture
def hub():
    with Hub() as server:
        yield server


@pytest.fixture(scope="session")
def vit():
    """A tiny vision transformer with random weights."""
    torch.manual_seed(0)
    network = build_network({"name": "timm", "model": "vit_tiny_patch16_224", "arguments": TINY}).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.fixture(scope="session")
def resnet():
    torch.manual_seed(0)
    return build_network({"name": "timm", "model": "resnet10t", "arguments": {}}).eval()
