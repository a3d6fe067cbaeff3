import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.pretraining import scan, secu, selflabel, simclr
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.engine.native import NativeHead, affine_layers, read_native, write_native
from deepclust.pretraining.scan import scan_loss
from deepclust.pretraining.selflabel import self_label_loss


class Plain(nn.Linear):
    feature_dim = 5

    def forward(self, images):
        return super().forward(images.flatten(1))


def log_of(result):
    return [json.loads(line) for line in (result.path / "training.jsonl").read_text().splitlines()]


def test_scan_loss_is_the_published_one():
    """Eq. 2, pair by pair."""
    torch.manual_seed(0)
    anchors, neighbors = (torch.randn(7, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    p, q = anchors.softmax(1), neighbors.softmax(1)
    expected = -sum(torch.log(a @ b) for a, b in zip(p, q)) / 7 + 5 * sum(m * torch.log(m) for m in p.mean(0))
    loss = scan_loss(anchors, neighbors, 5.0)["loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for gradient, plain in zip(
        torch.autograd.grad(loss, (anchors, neighbors)), torch.autograd.grad(expected, (anchors, neighbors))
    ):
        assert torch.allclose(gradient, plain, atol=1e-12)


def test_scan_loss_stays_finite_where_a_cluster_is_empty():
    scores = torch.tensor([[200.0, 0, -200]] * 3, requires_grad=True)
    loss = scan_loss(scores, scores, 5.0)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


def test_pairs_are_images_and_their_nearest():
    count, neighbors = 30, torch.randint(30, (30, 6), dtype=torch.int32)
    options = scan.Options(dataset="d", start_from="s", clusters=3, nearest=4)
    method = scan.Scan(options, Plain(4, 5), ImageFacts(count, (2, 2), [0.5], [0.25], neighbors))
    orders = [method.order(count, seed).view(-1, 2) for seed in range(40)]
    for order in orders:
        assert sorted(order[:, 0].tolist()) == list(range(count))
    drawn = torch.cat(orders)
    for image in range(count):
        assert set(drawn[drawn[:, 0] == image, 1].tolist()) == set(neighbors[image, :4].tolist())
    images = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 2, 2)
    off = scan.StrongAugmentationOptions(operations=0, cutout=0)
    method = scan.Scan(
        options.model_copy(update={"augmentation": off}),
        Plain(4, 5),
        ImageFacts(8, (2, 2), [0.0], [1 / 255], neighbors),
    )
    first, second = method.views(images, 0)
    assert first[:, 0, 0, 0].round().tolist() == [0, 2, 4, 6]
    assert second[:, 0, 0, 0].round().tolist() == [1, 3, 5, 7]
    with pytest.raises(DeepclustError, match="nearest is 7, but an image has only 6 others"):
        wide = options.model_copy(update={"nearest": 7})
        scan.Scan(wide, Plain(4, 5), ImageFacts(count, (2, 2), [0.5], [0.25], neighbors))


def test_rates_are_constant_after_the_warm_up():
    facts = ImageFacts(9, (2, 2), [0.5], [0.25], torch.zeros(9, 20, dtype=torch.int32))
    start = {"dataset": "d", "start_from": "s", "clusters": 3}
    for warmup, expected in ((0, [1, 1, 1, 1]), (2, [0, 0.5, 1, 1])):
        method = scan.Scan(scan.Options(learning_rate=1, warmup_epochs=warmup, **start), Plain(4, 5), facts)
        assert [method.learning_rates(position)[0] for position in (0, 1, 2, 50)] == expected


def test_each_method_has_the_options_of_its_own_views():
    """A key that would change nothing is refused."""
    strong, weak = {"augmentation": {"cutout": 4}}, {"augmentation": {"crop_scale": (0.5, 1)}}
    for module in (scan, selflabel):
        assert module.Options(dataset="d", start_from="s", clusters=3, **strong).augmentation.cutout == 4
        with pytest.raises(ValidationError, match="crop_scale"):
            module.Options(dataset="d", start_from="s", clusters=3, **weak)


@pytest.mark.parametrize("balance", [True, False])
def test_self_labels_are_those_of_confident_images(balance):
    """Each image with a plain cross-entropy, weighted by N / (number of its cluster) as published."""
    torch.manual_seed(0)
    plain = 6 * torch.randn(40, 4)
    strong = torch.randn(40, 4, requires_grad=True)
    result = self_label_loss(plain, strong, 0.9, balance)
    confidence, labels = plain.softmax(1).max(1)
    chosen = confidence > 0.9
    assert 5 < chosen.sum() < 35
    assert result["confident"].item() == pytest.approx(chosen.float().mean().item())
    sizes = labels[chosen].bincount(minlength=4)
    weight = torch.where(sizes > 0, chosen.sum() / sizes.clamp(min=1), 1.0) if balance else None
    expected = F.cross_entropy(strong[chosen], labels[chosen], weight=weight)
    assert result["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(
        *(torch.autograd.grad(loss, strong, retain_graph=True)[0] for loss in (result["loss"], expected)), atol=1e-6
    )


def test_without_confident_images_nothing_is_learned():
    strong = torch.randn(5, 3, requires_grad=True)
    loss = self_label_loss(torch.zeros(5, 3), strong, 0.9, True)["loss"]
    loss.backward()
    assert loss == 0
    assert strong.grad.eq(0).all()


@pytest.mark.parametrize("normalize", [True, False])
def test_clusters_survive_their_file(tmp_path, normalize):
    torch.manual_seed(0)
    projector = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)) if normalize else nn.Sequential()
    head = NativeHead(projector, torch.randn(2, 3 if normalize else 5), torch.randn(2), normalize)
    write_native(tmp_path / "native.safetensors", head)
    again = read_native(tmp_path / "native.safetensors")
    assert again.normalize == normalize
    assert torch.equal(again.weight, head.weight)
    features = torch.randn(6, 5)
    assert torch.allclose(again.projector(features), projector(features), atol=1e-6)
    write_native(tmp_path / "native.safetensors", None)
    assert read_native(tmp_path / "native.safetensors") is None
    with pytest.raises(DeepclustError, match="missing"):
        read_native(tmp_path / "nothing.safetensors")


@pytest.fixture
def neighbors(tmp_path):
    """Each of the 40 images has the next ones as its neighbors."""
    path = tmp_path / "neighbors.npy"
    np.save(path, ((np.arange(40)[:, None] + np.arange(1, 6)) % 40).astype(np.int32))
    return [path]


def test_from_simclr_to_self_labels(train, neighbors, monitors):
    """The chain of the paper: each step starts from the files of the one before."""
    start = train(simclr, "simclr", epochs=1).path / "model.json"
    options = {"clusters": 3, "batch_size": 10}
    after = {"start_model": start, "start_from": "simclr", "neighbors": neighbors, "nearest": 5}
    scanned = train(scan, "scan", **after, epochs=2, **options)
    log = log_of(scanned)
    assert monitors | {"consistency_loss", "entropy"} <= log[1].keys()
    assert log[1]["learning_rate"] == 1e-4
    labelled = train(
        selflabel,
        "last",
        start_model=scanned.path / "model.json",
        start_from="scan",
        threshold=0.35,
        epochs=2,
        **options,
    )
    assert 0 < log_of(labelled)[0]["confident"] <= 1
    assert monitors <= log_of(labelled)[1].keys()
    first, last = (read_native(result.path / "native.safetensors") for result in (scanned, labelled))
    assert first.weight.shape == last.weight.shape == (3, 256)
    assert not torch.equal(first.weight, last.weight)
    start.with_name("native.safetensors").unlink()  # as beside a backbone that was trained elsewhere
    again = train(scan, "again", **after, epochs=2, **options)
    assert torch.equal(read_native(again.path / "native.safetensors").weight, first.weight)
    assert (first.weight - last.weight).abs().max() < 0.01  # it went on from there


def test_self_labels_after_secu(train):
    start = train(secu, "secu", clusters=3, heads=2, epochs=1, projection_dim=16)
    result = train(
        selflabel,
        "last",
        start_model=start.path / "model.json",
        start_from="secu",
        clusters=3,
        threshold=0.35,
        epochs=1,
    )
    before, after = (read_native(each.path / "native.safetensors") for each in (start, result))
    assert after.normalize
    assert [weight.shape for weight, _ in affine_layers(after.projector)] == [(256, 256), (16, 256)]
    assert 0 < (before.weight - after.weight).abs().max() < 0.01


def test_starts_that_do_not_fit(train, neighbors, tmp_path):
    start = train(simclr, "simclr", epochs=1).path / "model.json"
    with pytest.raises(DeepclustError, match="start_from"):
        train(scan, start_from="simclr", clusters=3, nearest=5, neighbors=neighbors)
    with pytest.raises(DeepclustError, match=r"--input\.neighbors"):
        train(scan, start_model=start, start_from="simclr", clusters=3, nearest=5)
    with pytest.raises(DeepclustError, match="simclr has no clusters"):
        train(selflabel, start_model=start, start_from="simclr", clusters=3)
    np.save(tmp_path / "short.npy", np.zeros((39, 5), np.int32))
    with pytest.raises(DeepclustError, match="not those of the images"):
        train(scan, start_model=start, start_from="simclr", clusters=3, nearest=5, neighbors=[tmp_path / "short.npy"])
    clustered = train(
        scan, "s", start_model=start, start_from="simclr", clusters=3, nearest=5, neighbors=neighbors, epochs=1
    )
    with pytest.raises(DeepclustError, match="has 3 clusters, not 4"):
        train(selflabel, start_model=clustered.path / "model.json", start_from="s", clusters=4)


def test_hardly_any_confident_image_ends_the_training(train, neighbors):
    start = train(simclr, "simclr", epochs=1).path / "model.json"
    clustered = train(
        scan, "s", start_model=start, start_from="simclr", clusters=3, nearest=5, neighbors=neighbors, epochs=1
    )
    with pytest.raises(DeepclustError, match="collapsed in epoch 1: confident is 0.*threshold"):
        train(selflabel, start_model=clustered.path / "model.json", start_from="s", clusters=3, threshold=0.999)
