import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from deepclust.core.errors import DeepclustError
from deepclust.models.networks import build_network
from deepclust.models.plain_networks import Sobel, dropouts
from deepclust.models.pooling import read_out


def alexnet(**changes):
    return build_network({"name": "alexnet_bn", "stem": "imagenet", "in_channels": 3, "sobel": True} | changes)


def test_sobel_is_that_of_scipy():
    images = torch.rand(2, 3, 9, 7)
    edges = Sobel()(images)
    assert edges.shape == (2, 2, 9, 7)
    for image, (horizontal, vertical) in zip(images.mean(1).numpy(), edges.numpy()):
        inner = (slice(1, -1), slice(1, -1))
        for axis, found in ((1, horizontal), (0, vertical)):
            assert np.allclose(np.abs(found[inner]), np.abs(ndimage.sobel(image, axis))[inner], atol=1e-5)


def test_sobel_sees_no_colour():
    network = build_network({"name": "resnet10_w32", "stem": "cifar", "in_channels": 3, "sobel": True}).eval()
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(network(images), network(images[:, [2, 0, 1]]), atol=1e-5)
        assert torch.allclose(network(images), network(images + 0.0), atol=1e-5)
    assert network.state_dict()["conv1.1.weight"].shape[1] == 2


def test_alexnet_is_the_published_one():
    network = alexnet().eval()
    shapes = [tuple(block[0].weight.shape) for block in network.blocks]
    assert shapes == [(96, 2, 11, 11), (256, 96, 5, 5), (384, 256, 3, 3), (384, 384, 3, 3), (256, 384, 3, 3)]
    linear = [layer for layer in network.classifier if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(256 * 6 * 6, 4096), (4096, 4096)]
    with torch.inference_mode():
        images = torch.randn(1, 3, 224, 224)
        features = network(images)
        maps = network.forward_intermediates(images, range(5))
    assert features.shape == (1, 4096) and (features < 0).any()
    assert [tuple(each.shape[1:]) for each in maps] == [
        (96, 55, 55),
        (256, 27, 27),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
    ]
    assert linear[0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert network.blocks[2][0].weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 384)), rel=0.05)


def test_vgg_has_thirteen_convolutions():
    with torch.device("meta"):  # shapes only
        network = build_network({"name": "vgg16_bn", "stem": "imagenet", "in_channels": 3})
    widths = [block[0].out_channels for block in network.blocks]
    assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert network.classifier[0].in_features == 512 * 7 * 7
    with torch.inference_mode():
        assert [
            each.shape[1] for each in network.forward_intermediates(torch.zeros(1, 3, 32, 32, device="meta"), [-1, 0])
        ] == [
            64,
            512,
        ]


def test_layers_can_be_read():
    network = alexnet().eval()
    with torch.inference_mode():
        vectors = read_out(network, torch.randn(2, 3, 64, 64), "avg", [0, -1])
        assert vectors.shape == (2, 96 + 256)
        with pytest.raises(DeepclustError, match="5 blocks"):
            read_out(network, torch.randn(2, 3, 64, 64), "avg", [5])


def test_too_small_images_are_refused():
    with pytest.raises(DeepclustError, match=r"63 pixels or more, not 32.*image_size"):
        alexnet()(torch.zeros(2, 3, 32, 32))


def test_dropout_follows_its_draws():
    layer = dropouts(alexnet())[1]
    draws = layer.draw(5, torch.Generator().manual_seed(0))
    assert torch.equal(draws, layer.draw(5, torch.Generator().manual_seed(0)))
    assert draws.float().mean().item() == pytest.approx(0.5, abs=0.02)
    values = torch.ones(5, 4096)
    assert torch.equal(layer.train()(values), values)
    layer.kept = draws
    assert torch.equal(layer(values), 2.0 * draws)
    assert torch.equal(layer.eval()(values), values)


def test_only_known_settings_are_taken():
    with pytest.raises(DeepclustError, match="architecture pixels takes"):
        build_network({"name": "pixels", "sobel": True})
