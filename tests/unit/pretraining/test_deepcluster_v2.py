"""DeepCluster-v2 against a plain implementation with loops over heads and images."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.core.seeding import derive_seed
from deepclust.pretraining import deepcluster_v2
from deepclust.pretraining.deepcluster_v2 import DeepClusterV2, Options
from deepclust.pretraining.engine.method import Epoch, ImageFacts
from deepclust.pretraining.engine.options import AugmentationOptions, SmallCropOptions
from deepclust.pretraining.views.multi_crop import MultiCrop, embed_by_size

COUNT, CLUSTERS, HEADS, DIM = 30, 4, 3, 6


class Mean(nn.Module):
    """Takes images of any size."""

    feature_dim = 5

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 5)

    def forward(self, images):
        return self.layer(images.mean((2, 3)))


def build(**options):
    torch.manual_seed(0)
    small = {"clusters": CLUSTERS, "heads": HEADS, "projection_hidden": 7, "projection_dim": DIM}
    options = Options(**{"dataset": "d"} | small | options)
    return DeepClusterV2(options, Mean(), ImageFacts(COUNT, (8, 8), [0.5] * 3, [0.25] * 3))


def epoch(number, features=None, seed=5):
    return Epoch(number, seed, lambda indices: features[indices], lambda parameters: None)


def some_embeddings(views, images=8):
    return tuple(F.normalize(torch.randn(images, DIM), dim=1) for _ in range(views))


def test_the_loss_is_the_published_one():
    method = build()
    method.start_epoch(epoch(0, torch.randn(COUNT, 5)))
    embeddings, indices = some_embeddings(5), torch.randperm(COUNT)[:8]
    total = 0.0
    for head in range(HEADS):
        terms = []
        for view in embeddings:
            for value, index in zip(view, indices):
                scores = [math.exp(float(value @ prototype) / 0.1) for prototype in method.prototypes[head]]
                terms.append(-math.log(scores[method.labels[head, index]] / sum(scores)))
        total += sum(terms) / len(terms)
    assert method.loss(embeddings, indices)["loss"].item() == pytest.approx(total / HEADS, rel=1e-5)


def test_the_first_banks_come_from_all_images():
    method, features = build(), torch.randn(COUNT, 5)
    method.start_epoch(epoch(0, features))
    with torch.no_grad():
        expected = F.normalize(method.projector(features), dim=1)
    for bank in method.bank:
        assert torch.allclose(bank.float(), expected, atol=1e-3)
    assert (method.labels >= 0).all()


@pytest.mark.parametrize(("chunk", "sizes"), [(13, [13, 13, 4]), (29, [28, 2])])
def test_the_features_of_all_images_are_never_held_at_once(monkeypatch, chunk, sizes):
    """Of each chunk the projections are normalised by its own statistics, of which nothing is kept."""
    features, asked = torch.randn(COUNT, 5), []
    method = build()
    before = copy.deepcopy(method.projector.state_dict())

    def some(indices):
        asked.append(len(indices))
        method.train()  # as the trainer leaves it
        return features[indices]

    monkeypatch.setattr(deepcluster_v2, "CHUNK", chunk)
    method.start_epoch(Epoch(0, 5, some, lambda parameters: None))
    assert asked == sizes
    assert all(torch.equal(value, before[name]) for name, value in method.projector.state_dict().items())
    with torch.no_grad():
        expected = torch.cat([F.normalize(method.projector(part), dim=1) for part in features.split(sizes)])
    assert torch.allclose(method.bank[0].float(), expected, atol=1e-3)


def test_a_clustering_is_that_of_a_plain_implementation():
    method = build(iterations=4)
    method.start_epoch(epoch(0, torch.randn(COUNT, 5)))
    first = method.labels[0].clone()
    method.bank.copy_(F.normalize(torch.randn(2, COUNT, DIM), dim=2))
    method.start_epoch(epoch(1))
    assert torch.equal(method.labels_before, first)
    for head in range(HEADS):
        rows = method.bank[head % 2].double()
        generator = torch.Generator().manual_seed(derive_seed(5, "head", head))
        centroids = rows[torch.randperm(COUNT, generator=generator)[:CLUSTERS].sort().values].clone()
        for _ in range(4):
            nearest = (rows @ centroids.T).argmax(1)
            for cluster in range(CLUSTERS):
                if (nearest == cluster).any():
                    mean = rows[nearest == cluster].mean(0)
                    centroids[cluster] = mean / mean.norm()
        assert torch.equal(method.labels[head].long(), (rows @ centroids.T).argmax(1))
        assert torch.allclose(method.prototypes[head].double(), centroids, atol=1e-5)


def test_prototypes_are_not_trained_and_banks_follow_the_steps():
    method = build()
    method.start_epoch(epoch(0, torch.randn(COUNT, 5)))
    names = {name for name, _ in method.named_parameters()}
    assert not any("prototypes" in name or "bank" in name for name in names)
    state = method.state_dict()
    assert {"bank", "prototypes", "labels", "labels_before"} <= state.keys()
    embeddings, indices = some_embeddings(4), torch.arange(3, 11)
    others = method.bank[:, 11:].clone()
    method.after_step(embeddings, indices)
    assert torch.allclose(method.bank[0, indices].float(), embeddings[0], atol=1e-3)
    assert torch.allclose(method.bank[1, indices].float(), embeddings[1], atol=1e-3)
    assert torch.equal(method.bank[:, 11:], others)


def test_views_of_two_sizes():
    small = SmallCropOptions(count=3, size=4)
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    facts = ImageFacts(COUNT, (8, 8), [0.5] * 3, [0.25] * 3)
    views = MultiCrop(facts, AugmentationOptions(), small)(images, 1)
    assert [view.shape[-1] for view in views] == [8, 8, 4, 4, 4]
    assert len({view.sum().item() for view in views}) == 5
    calls = []
    network = Mean()
    network.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    outputs = embed_by_size(network, views)
    assert calls == [12, 18]
    for view, output in zip(views, outputs):
        assert torch.allclose(network(view), output, atol=1e-6)


def test_small_views_show_small_parts():
    """Of an image that brightens from left to right, a small part has a small range of values."""
    ramp = torch.linspace(0, 255, 64).to(torch.uint8).expand(20, 1, 64, 64)
    plain = AugmentationOptions(crop_scale=(0.8, 1), jitter_probability=0, flip_probability=0)
    facts = ImageFacts(COUNT, (64, 64), [0.5], [0.25])
    views = MultiCrop(facts, plain, SmallCropOptions(count=1, size=16))(ramp, 0)
    large, _, small = ((view.amax((1, 2, 3)) - view.amin((1, 2, 3))).mean() for view in views)
    assert small < 0.6 * large


def test_the_learning_rate_rises_and_falls_between_its_ends():
    method = build(epochs=100, learning_rate=4.8, first_learning_rate=0.3, last_learning_rate=0.0048, warmup_epochs=10)
    assert method.learning_rates(0) == [pytest.approx(0.3)]
    assert method.learning_rates(5) == [pytest.approx((0.3 + 4.8) / 2)]
    assert method.learning_rates(10) == [pytest.approx(4.8)]
    assert method.learning_rates(55) == [pytest.approx((4.8 + 0.0048) / 2)]
    assert method.learning_rates(100) == [pytest.approx(0.0048)]


def test_more_clusters_than_images_are_refused():
    with pytest.raises(DeepclustError, match="lower clusters"):
        build(clusters=31)


def test_training_with_small_crops(train):
    options = {"clusters": 8, "projection_hidden": 16, "projection_dim": 8, "small_crops": {"count": 2, "size": 6}}
    result = train(deepcluster_v2, epochs=2, warmup_epochs=0, **options)
    first, second = (json.loads(line) for line in (result.path / "training.jsonl").read_text().splitlines())
    assert np.isfinite([first["loss"], second["loss"]]).all()
    assert {"projection_std", "cluster_entropy", "empty_clusters", "nmi"} <= second.keys()


def test_equal_images_end_the_training(train, tmp_path):
    from deepclust.core.images import Images, write_raw

    write_raw(tmp_path / "same", [np.full((40, 1, 8, 8), 90, np.uint8)], (1, 8, 8))
    with pytest.raises(DeepclustError, match="collapsed in epoch 1"):
        train(deepcluster_v2, splits=[Images(tmp_path / "same")], clusters=4, projection_hidden=16)
