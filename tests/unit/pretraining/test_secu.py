"""SeCu against a plain implementation with loops over heads and images, written from the method's description."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.core.seeding import derive_seed
from deepclust.models.model import build_network, load_weights
from deepclust.pretraining import secu
from deepclust.pretraining.engine.method import Epoch, ImageFacts
from deepclust.pretraining.secu import Options, SeCu, entropy_changes, positive_cross_entropy, soft_targets

COUNT, DIM, CLUSTERS, HEADS = 12, 6, 3, 2


class Plain(nn.Linear):
    feature_dim = 5

    def forward(self, images):
        return super().forward(images.flatten(1))


def build(count=COUNT, **options):
    torch.manual_seed(0)
    options = {"clusters": CLUSTERS, "heads": HEADS, "projection_dim": DIM} | options
    return SeCu(Options(dataset="d", **options), Plain(4, 5), ImageFacts(count, (2, 2), [0.5], [0.25]))


def epoch(number):
    return Epoch(number, 0, lambda: torch.empty(0), lambda parameters: None)


def outputs(images, number=2):
    """What the network might give for a batch."""
    return tuple(torch.randn(images, DIM, requires_grad=True) for _ in range(number))


def step(method, embeddings, indices, rate=0.3):
    """One step as the engine takes it, with plain gradient descent on the centres."""
    method.zero_grad()
    scalars = method.loss(embeddings, indices)
    scalars["loss"].backward()
    with torch.no_grad():
        method.centers -= rate * method.centers.grad
        method.after_step(tuple(tensor.detach() for tensor in embeddings), indices)
    return scalars


class Reference:
    """SeCu's bookkeeping and losses for one head, one image at a time."""

    def __init__(self, centers, options, count):
        self.options, self.count = options, count
        self.clusters = len(centers)
        self.centers = centers.detach().clone()
        self.duals = [0.0] * self.clusters
        self.sizes = [0] * self.clusters
        self.labels = {}

    def start_epoch(self):
        self.snapshot = [center / center.norm() for center in self.centers]

    def cost(self, index, k):
        """What choosing cluster k costs beyond its score."""
        if self.options.constraint == "size":
            return -self.duals[k]
        moved = self.sizes.copy()
        if index in self.labels:
            moved[self.labels[index]] -= 1
        moved[k] += 1
        return self.options.entropy_weight * self.count * neg_entropy(moved)

    def losses(self, views, indices):
        """Mean losses of representation and centres over views and images; new labels; centre gradients."""
        options = self.options
        centers = self.centers.clone().requires_grad_()
        unit = [center / center.norm() for center in centers]
        new = []
        for row, index in enumerate(indices):
            scores = [sum((x[row] @ c).item() for x in views) / len(views) for c in unit]
            new.append(min(range(self.clusters), key=lambda k: -scores[k] + self.cost(index, k)))
        old = [self.labels.get(index, label) for index, label in zip(indices, new)]
        center_loss, representation_loss = 0, 0
        for v, x in enumerate(views):
            for row in range(len(indices)):
                logits = torch.stack([x[row].detach() @ c for c in unit]) / options.center_temperature
                fixed = logits.detach().clone()
                fixed[new[row]] = logits[new[row]]
                center_loss = center_loss - torch.log(fixed.exp() / fixed.exp().sum())[new[row]]
                other = views[1 - v % 2][row].detach()
                target = (1 - options.label_weight) * self.predict(other)
                target[old[row]] += options.label_weight
                representation_loss = representation_loss - (target.detach() * torch.log(self.predict(x[row]))).sum()
        number = len(views) * len(indices)
        self.new, self.indices = new, indices
        return representation_loss / number, center_loss / number, centers

    def predict(self, x):
        logits = torch.stack([x @ c for c in self.snapshot]) / self.options.temperature
        return logits.exp() / logits.exp().sum()

    def after_step(self, gradient, rate=0.3):
        self.centers -= rate * gradient
        for k in range(self.clusters):
            present = sum(label == k for label in self.new)
            self.duals[k] -= self.options.size_rate * present / len(self.new)
            self.duals[k] += self.options.size_rate * self.options.size_bound / self.clusters
            if self.options.size_bound < 1:
                self.duals[k] = max(self.duals[k], 0)
        for index, label in zip(self.indices, self.new):
            if index in self.labels:
                self.sizes[self.labels[index]] -= 1
            self.sizes[label] += 1
            self.labels[index] = label


def neg_entropy(sizes):
    return sum(n / sum(sizes) * math.log(n / sum(sizes)) for n in sizes if n)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size_bound": 1.0, "size_rate": 0.5, "center_temperature": 1.0, "label_weight": 0.7},
        {"constraint": "entropy", "entropy_weight": 0.3},
        {"predictor": True, "temperature": 0.2},
    ],
    ids=["published", "balanced", "entropy", "predictor"],
)
def test_three_epochs_agree_with_a_plain_implementation(options):
    """Losses, gradients, labels, duals and sizes, in every step; the last image is left out of the first epoch."""
    method = build(temperature=0.3, **options) if "temperature" not in options else build(**options)
    number = 4 if options.get("predictor") else 2
    first, second = method.centers[:CLUSTERS], method.centers[CLUSTERS:]
    references = [Reference(centers, method.options, COUNT) for centers in (first, second)]
    batches = [[0, 3, 5, 7], [1, 2, 9, 10], [6, 11, 4, 8], [5, 2, 11, 0], [9, 3, 1, 6]]
    for number_of_epoch in range(3):
        method.start_epoch(epoch(number_of_epoch))
        for reference in references:
            reference.start_epoch()
        for batch in batches[number_of_epoch:][:3] if number_of_epoch else batches[:2]:
            embeddings = outputs(4, number)
            scalars = step(method, embeddings, torch.tensor(batch))
            copies = [tensor.detach().clone().requires_grad_() for tensor in embeddings]
            views = [F.normalize(tensor, dim=1) for tensor in copies]
            parts = [reference.losses(views, batch) for reference in references]
            total = sum(r + c for r, c, _ in parts) / HEADS
            total.backward()
            assert scalars["loss"].item() == pytest.approx(total.item(), rel=1e-4)
            assert scalars["center_loss"].item() == pytest.approx(sum(c.item() for _, c, _ in parts) / HEADS, rel=1e-4)
            for tensor, copy in zip(embeddings, copies):
                assert torch.allclose(tensor.grad, copy.grad, rtol=1e-3, atol=1e-5)
            gradient = torch.cat([centers.grad for _, _, centers in parts])
            assert torch.allclose(method.centers.grad, gradient, rtol=1e-3, atol=1e-5)
            for reference, (_, _, centers) in zip(references, parts):
                reference.after_step(centers.grad)
            expected = torch.tensor([[r.labels.get(i, -1) for r in references] for i in range(COUNT)])
            assert torch.equal(method.labels, expected.int())
            if method.options.constraint == "size":
                assert torch.allclose(method.duals, torch.tensor([d for r in references for d in r.duals]), atol=1e-6)
            assert method.counts.tolist() == [size for r in references for size in r.sizes]


def test_centers_are_drawn_to_their_own_images_alone():
    """dL/dc_j = -(1/(t B)) sum over images of cluster j of (1 - p_ij) x_i; nothing for absent clusters."""
    torch.manual_seed(1)
    x, temperature = F.normalize(torch.randn(5, DIM), dim=1), 0.5
    centers = F.normalize(torch.randn(4, DIM), dim=1).requires_grad_()
    labels = torch.tensor([2, 0, 2, 2, 0])
    logits = x @ centers.T / temperature
    positive_cross_entropy(logits[:, None], labels[:, None]).backward()
    probabilities = logits.detach().softmax(1)
    expected = torch.zeros(4, DIM)
    for i, label in enumerate(labels):
        expected[label] -= (1 - probabilities[i, label]) * x[i] / (temperature * len(x))
    assert torch.allclose(centers.grad, expected, atol=1e-7)
    assert centers.grad[[1, 3]].eq(0).all()
    loss = positive_cross_entropy(logits[:, None], labels[:, None])
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)


@given(st.floats(0, 1), st.integers(0, 9))
def test_targets_are_distributions(weight, seed):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(2, 3, 2, 4, generator=generator).softmax(-1)
    labels = torch.randint(4, (3, 2), generator=generator)
    targets = soft_targets(probabilities, labels, weight)
    assert torch.allclose(targets.sum(-1), torch.ones(2, 3, 2))
    assert torch.allclose(targets[0, 1, 0], (1 - weight) * probabilities[1, 1, 0] + weight * torch.eye(4)[labels[1, 0]])


@given(st.lists(st.integers(0, 6), min_size=2, max_size=6), st.data())
def test_changes_of_entropy_are_those_of_brute_force(sizes, data):
    occupied = [k for k, size in enumerate(sizes) if size]
    own = data.draw(st.sampled_from([-1, *occupied]))
    changes = entropy_changes(torch.tensor([sizes], dtype=torch.float64), torch.tensor([[own]]))[0, 0].tolist()
    expected = []
    for k in range(len(sizes)):
        moved = sizes.copy()
        moved[k] += 1
        if own >= 0:
            moved[own] -= 1
        expected.append(neg_entropy(moved))
    before = neg_entropy(sizes) if own >= 0 else expected[0] - changes[0]  # joining: up to a constant
    assert changes == pytest.approx([value - before for value in expected], abs=1e-6)
    if own >= 0:
        assert changes[own] == 0


def test_duals_keep_clusters_above_their_bound():
    """Nine of ten images lie at one centre; without the constraint the other clusters get next to none.

    Sizes are means over ten epochs.
    """
    torch.manual_seed(0)
    count, clusters, batch = 600, 4, 60
    points = F.normalize(torch.randn(count, DIM) * 0.3 + torch.eye(DIM)[0], dim=1)
    points[540:] = F.normalize(torch.randn(60, DIM), dim=1)
    smallest = {}
    for rate in (0.0, 0.1):
        method = build(count, clusters=clusters, heads=1, size_rate=rate)
        method.centers.data = F.normalize(torch.eye(DIM)[[0, 1, 2, 3]] * 3 + 0.1, dim=1)
        sizes = []
        for number in range(20):
            method.start_epoch(epoch(number))
            for indices in torch.randperm(count).split(batch):
                embeddings = (points[indices].clone().requires_grad_(),) * 2
                step(method, embeddings, indices, rate=0.0)
            sizes.append(method.counts.clone())
        smallest[rate] = torch.stack(sizes[-10:]).mean(0).min().item()
    bound = method.options.size_bound * count / clusters
    assert smallest[0.0] < 0.3 * bound
    assert smallest[0.1] >= bound - 1  # the duals still rise a little


def test_entropy_balances_clusters():
    torch.manual_seed(0)
    points = F.normalize(torch.randn(300, DIM) * 0.2 + torch.eye(DIM)[0], dim=1)
    method = build(300, clusters=3, heads=1, constraint="entropy", entropy_weight=2.0)
    for number in range(3):
        method.start_epoch(epoch(number))
        for indices in torch.randperm(300).split(10):
            step(method, (points[indices].clone().requires_grad_(),) * 2, indices, rate=0.0)
    assert method.counts.sum() == 300
    assert method.counts.min() > 70


def test_snapshots_are_those_of_the_epochs_start():
    method = build()
    method.start_epoch(epoch(0))
    start = F.normalize(method.centers.detach().clone(), dim=1)
    for batch in torch.arange(COUNT).split(4):
        step(method, outputs(4), batch)
    assert torch.equal(method.epoch_centers, start)
    labels = method.labels.clone()
    assert (labels >= 0).all()
    assert (method.head_labels == -1).all()
    method.start_epoch(epoch(1))
    assert torch.equal(method.epoch_centers, F.normalize(method.centers.detach(), dim=1))
    assert torch.equal(method.head_labels, labels[:, 0])
    for batch in torch.arange(COUNT).split(4):
        step(method, outputs(4), batch)
    record = method.end_epoch(epoch(1))
    same = (method.labels[:, 0] == labels[:, 0]).float().mean().item()
    assert record["agreement"] == pytest.approx(same)
    shares = torch.bincount(method.labels[:, 0].long(), minlength=CLUSTERS) / COUNT
    assert (record["cluster_min"], record["cluster_max"]) == pytest.approx(
        (CLUSTERS * shares.min().item(), CLUSTERS * shares.max().item())
    )


def test_all_heads_have_their_number_of_clusters():
    method = build(clusters=4, heads=3)
    assert method.centers.shape == (4 + 8 + 12, DIM)
    assert torch.allclose(method.centers.norm(dim=1), torch.ones(24))
    method.start_epoch(epoch(0))
    for batch in torch.arange(COUNT).split(6):
        step(method, outputs(6), batch)
    assert (method.labels.amax(0) < torch.tensor([4, 8, 12])).all()


def test_collapse_ends_the_training(train):
    """Without a constraint all images end up in one cluster."""
    with pytest.raises(DeepclustError, match=r"collapsed in epoch \d+: cluster_entropy is .*constraint"):
        train(secu, clusters=3, heads=1, epochs=6, warmup_epochs=0, size_rate=0, learning_rate=1.0)


def test_equal_probabilities_end_the_training(train):
    """As if the network could not tell clusters apart."""
    with pytest.raises(DeepclustError, match=r"collapsed in epoch 2: mean_max_probability is 0.33"):
        train(secu, clusters=3, heads=1, epochs=3, temperature=1000)


def test_everything_that_is_watched_is_logged(train, monitors):
    result = train(secu, clusters=3, heads=2, epochs=2)
    log = [json.loads(line) for line in (result.path / "training.jsonl").read_text().splitlines()]
    assert monitors <= log[1].keys()


def test_the_network_is_frozen_in_the_first_epoch(train):
    """But for running statistics."""
    result = train(secu, clusters=3, heads=2, epochs=1)
    spec = json.loads((result.path / "model.json").read_text())
    torch.manual_seed(derive_seed(0, "weights"))
    fresh, trained = build_network(spec["architecture"]), build_network(spec["architecture"])
    load_weights(trained, result.path / "model.safetensors")
    for (name, before), after in zip(fresh.named_parameters(), trained.parameters()):
        assert torch.equal(before, after), name


def test_learning_rates():
    """Nothing in epoch 0, linear to epoch 11, then half a cosine; constant for the centres."""
    method = build(epochs=401)
    rates = {position: method.learning_rates(position) for position in (0, 0.9, 1, 6, 11, 206, 401)}
    expected = {0: 0, 0.9: 0, 1: 0, 6: 0.1, 11: 0.2, 206: 0.1, 401: 0}
    assert {position: rate for position, (rate, _) in rates.items()} == pytest.approx(expected, abs=1e-12)
    assert {rate for _, rate in rates.values()} == {1.2}
    rising = build(epochs=401, center_schedule="rise")
    assert [rising.learning_rates(position)[1] for position in (0, 200.5, 401)] == pytest.approx([0, 0.6, 1.2])


def shares_of_changed_views(picture, **options):
    """How many first and how many second views of a uint8 picture [8, 8] differ from it."""
    published = Options(dataset="d", clusters=2).augmentation
    augmentation = published.model_copy(update={"jitter_probability": 0.0, "grayscale_probability": 0.0} | options)
    options = Options(dataset="d", clusters=CLUSTERS, heads=HEADS, projection_dim=DIM, augmentation=augmentation)
    method = SeCu(options, Plain(64, 5), ImageFacts(COUNT, (8, 8), [0.0] * 3, [1.0] * 3))
    views = method.views(picture.expand(2000, 3, 8, 8), seed=1)
    return [((view - picture / 255).abs() > 1e-3).flatten(1).any(1).double().mean().item() for view in views]


def test_second_views_alone_are_solarized():
    """A flat picture changes in nothing else; 0 and 0.2 are published."""
    first, second = shares_of_changed_views(torch.full((8, 8), 200, dtype=torch.uint8))
    assert first == 0
    assert second == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / 2000))


def test_first_views_are_always_blurred_and_second_ones_seldom():
    """A symmetric picture below the threshold changes in nothing else; 1 and 0.1 are published."""
    cross = torch.zeros(8, 8, dtype=torch.uint8)
    cross[3:5], cross[:, 3:5] = 100, 100
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "blur_sigma": (1.0, 2.0)}
    first, second = shares_of_changed_views(cross, **whole)
    assert first == 1
    assert second == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 2000))


def test_defaults_are_the_published_setting_for_cifar10():
    options = Options(dataset="cifar10", clusters=10)
    assert (options.architecture, options.stem, options.heads, options.projection_dim) == ("resnet18", "cifar", 10, 128)
    assert (options.epochs, options.batch_size, options.warmup_epochs) == (401, 128, 10)
    assert (options.optimizer, options.learning_rate, options.momentum, options.weight_decay) == ("sgd", 0.2, 0.9, 1e-4)
    assert (options.center_learning_rate, options.center_schedule) == (1.2, "constant")
    assert (options.temperature, options.center_temperature, options.label_weight) == (0.05, 0.05, 0.2)
    assert (options.constraint, options.size_rate, options.size_bound) == ("size", 0.1, 0.9)
    assert options.entropy_weight * 50_000 == 6000
