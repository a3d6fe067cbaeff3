import copy

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from sklearn.datasets import load_digits, make_blobs
from sklearn.neighbors import NearestNeighbors
from torch import nn

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.heads import temi
from deepclust.heads.kit import training
from deepclust.heads.kit.head import TrainingData
from deepclust.heads.kit.stacked import Rows
from deepclust.heads.kit.stacked_mlp import StackedMLP, build_parameters, last_weight

CPU = torch.device("cpu")
# Small sets have few steps per epoch, so their teachers must follow faster.
SMALL = {"heads": 2, "batch_size": 100, "epochs": 20, "warmup_epochs": 2, "learning_rate": 1e-3, "neighbors": 15}
SMALL |= {"teacher_momentum": 0.9}


def training_data(features, neighbors=15, scratch=None):
    search = NearestNeighbors(n_neighbors=min(neighbors + 1, len(features))).fit(features)
    found = search.kneighbors(features, return_distance=False)[:, 1:].astype(np.int32)
    return TrainingData([features], [found], scratch=scratch)


def fit(data, k, seeds=(0,), **options):
    return list(temi.fit(data, k, list(seeds), temi.Options(**SMALL | options), Progress()))


def accuracy(labels, assignments):
    table = np.zeros((labels.max() + 1, assignments.max() + 1))
    np.add.at(table, (labels, assignments), 1)
    return table[linear_sum_assignment(-table)].sum() / len(labels)


def assign(result, features, **options):
    return temi.predict(result.weights, [features], temi.Options(**SMALL | options)).assignments


@pytest.fixture(scope="module")
def blobs():
    points, labels = make_blobs(600, 16, centers=6, cluster_std=0.6, random_state=2)
    return (points / 10).astype(np.float32), labels


def test_defaults_are_the_published_settings():
    assert temi.Options().model_dump(exclude={"normalize", "components"}) == {
        "heads": 16,
        "neighbors": 50,
        "beta": 0.6,
        "temperature": 0.1,
        "prior_momentum": 0.9,
        "teacher_momentum": 0.996,
        "epochs": 100,
        "batch_size": 1024,
        "learning_rate": 1e-4,
        "warmup_epochs": 20,
        "weight_decay": 1e-4,
        "frozen_epochs": 1,
    }


def logits(seed=0, heads=3, k=5, pairs=4):
    generator = np.random.default_rng(seed)
    student, teacher = generator.normal(0, 0.3, (2, 2, heads, k, 2 * pairs))
    prior = generator.dirichlet(np.ones(k), (2, heads))
    return student, teacher, prior


def plain_loss(student, teacher, prior, beta, temperature):
    """The sum over pairs, clusters and directions, one number after the other."""
    seeds, heads, k, both = student.shape
    pairs = both // 2
    losses = np.zeros((seeds, heads))
    for s in range(seeds):
        p = softmax(student[s] / temperature, axis=1)
        t = softmax(teacher[s] / temperature, axis=1)
        for i in range(pairs):
            j = i + pairs
            weight = np.mean([sum(t[h, c, i] * t[h, c, j] for c in range(k)) for h in range(heads)])
            for h in range(heads):
                for own, other in ((i, j), (j, i)):
                    inner = sum((p[h, c, own] * t[h, c, other]) ** beta / prior[s, h, c] for c in range(k))
                    losses[s, h] -= weight * np.log(inner) / (2 * pairs)
    return losses


@pytest.mark.parametrize("beta", [0.6, 1.0])
def test_loss_and_gradient_equal_the_formula(beta):
    student, teacher, prior = logits()
    tensors = [torch.from_numpy(array) for array in (student, teacher, prior)]
    tensors[0].requires_grad_()
    losses = temi.temi_loss(*tensors, beta, 0.1)
    np.testing.assert_allclose(losses.detach(), plain_loss(student, teacher, prior, beta, 0.1), rtol=1e-8)
    losses.sum().backward()
    for index in list(np.ndindex(student.shape))[::7]:
        step = np.zeros_like(student)
        step[index] = 1e-5
        ahead, back = (plain_loss(student + sign * step, teacher, prior, beta, 0.1).sum() for sign in (1, -1))
        assert tensors[0].grad[index].item() == pytest.approx((ahead - back) / 2e-5, abs=1e-6)


def test_loss_does_not_depend_on_the_order_of_clusters_pairs_or_directions():
    student, teacher, prior = (torch.from_numpy(array) for array in logits(1))
    before = temi.temi_loss(student, teacher, prior, 0.6, 0.1)
    clusters, pairs = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 3, 1])
    for images in (torch.cat([pairs, pairs + 4]), torch.cat([pairs + 4, pairs])):
        changed = [part[:, :, clusters][..., images] for part in (student, teacher)]
        after = temi.temi_loss(*changed, prior[:, :, clusters], 0.6, 0.1)
        torch.testing.assert_close(after, before)


def test_agreement_on_rare_clusters_is_worth_more():
    """1 / p_k: the same confident agreement has a lower loss where the cluster is rarer."""
    student = torch.zeros(1, 1, 2, 2).index_fill_(2, torch.tensor([0]), 2.0)
    rare, common = (temi.temi_loss(student, student, torch.tensor([[[p, 1 - p]]]), 0.6, 0.1).item() for p in (0.1, 0.9))
    assert rare < common


class PlainHead(nn.Module):
    """A head as torch's own modules make it."""

    def __init__(self, dimensions, k):
        super().__init__()
        self.first, self.second = nn.Linear(dimensions, 512), nn.Linear(512, 256)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(256, k, bias=False))

    def forward(self, inputs):
        hidden = self.second(nn.functional.gelu(self.first(inputs)))
        return self.last(nn.functional.normalize(hidden, dim=1))

    def own_parameters(self):
        weight = self.last.parametrizations.weight
        layers = (self.first.weight, self.first.bias, self.second.weight, self.second.bias)
        return [*layers, weight.original1, weight.original0[:, 0]]

    def take(self, parameters):
        with torch.no_grad():
            for own, other in zip(self.own_parameters(), parameters):
                own.copy_(other)
        return self


def random_parameters(seeds, heads, dimensions, k):
    parameters = build_parameters(seeds, heads, dimensions, k, CPU)
    generator = torch.Generator().manual_seed(0)
    return [p + 0.05 * torch.randn(p.shape, generator=generator) for p in parameters]


def test_weights_are_drawn_as_in_the_official_code():
    """Truncated normal, and for the last layer what PyTorch's linear layers have: uniform in ±1/√256."""
    first, first_bias, second, second_bias, direction, gain = build_parameters([0, 1], 3, 7, 40, CPU)
    assert first.std() == pytest.approx(0.02, rel=0.03)
    assert second.std() == pytest.approx(0.02, rel=0.03)
    assert first_bias.count_nonzero() == second_bias.count_nonzero() == 0
    assert direction.std() == pytest.approx(nn.Linear(256, 4000).weight.std().item(), rel=0.01)
    assert 0.99 / 16 < direction.abs().max() <= 1 / 16
    assert (gain == 1).all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_network_equals_torch_modules(size):
    seeds, heads, dimensions, k, batch = [0, 1] if size == 3 else [0], 3, 7, 4, 12
    parameters = random_parameters(seeds, heads, dimensions, k)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(len(seeds), batch, dimensions, generator=generator)
    gradient = torch.randn(len(seeds), heads, k, batch, generator=generator)
    network = StackedMLP(len(seeds), heads, batch, torch.float32, CPU)
    network.slices = [slice(first, min(first + size, heads)) for first in range(0, heads, size)]
    weights = network.cast(parameters)
    for part in network.slices:
        found = network.forward(weights, part, inputs.mT).clone()
        gradients = network.backward(weights, part, inputs.mT, gradient[:, part])
        for s in range(len(seeds)):
            for i, h in enumerate(range(part.start, part.stop)):
                head = PlainHead(dimensions, k).take([p[s, h] for p in parameters])
                expected = head(inputs[s])
                torch.testing.assert_close(found[s, i], expected.T, rtol=1e-4, atol=1e-5)
                expected.backward(gradient[s, h].T)
                own = [head.first.weight, head.first.bias, head.second.weight, head.second.bias]
                for ours, parameter in zip(gradients, own):
                    torch.testing.assert_close(ours[s, i], parameter.grad, rtol=1e-4, atol=1e-5)
                last = head.last.parametrizations.weight
                leaves = [p[s, h].clone().requires_grad_() for p in parameters[4:]]
                ours = torch.autograd.grad(last_weight(*leaves), leaves, gradients[4][s, i])
                torch.testing.assert_close(ours[0], last.original1.grad, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(ours[1], last.original0.grad[:, 0], rtol=1e-4, atol=1e-5)


def fp32_training(features, neighbors, seeds, k, **options):
    rows = Rows(features, CPU)
    rows.values = torch.from_numpy(features)
    return temi.TemiTraining(rows, torch.from_numpy(neighbors).long(), seeds, k, temi.Options(**SMALL | options))


def test_steps_equal_those_of_the_authors_code():
    """Losses and loop of HHU-MMBS/TEMI-official-BMVC2023 in words of our own, on given weights and pairs.

    Students by AdamW, teachers and p_k by moving averages, the last layer frozen in the first epoch. Two departures:
    p_k is updated after the step, and the warm-up begins at its first share.
    """
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 6)).astype(np.float32)
    neighbors = generator.integers(0, 40, (40, 3)).astype(np.int32)
    ours = fp32_training(features, neighbors, [5], 4, batch_size=10, weight_decay=0.1)
    students = [PlainHead(6, 4).take([p[0, h].detach() for p in ours.students]) for h in range(2)]
    teachers = copy.deepcopy(students)
    prior = torch.full((2, 4), 0.25)
    decayed = [p for head in students for p in head.parameters() if p.ndim > 1]
    others = [p for head in students for p in head.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}])
    for step in range(6):
        pairs = ours._pairs(step // 4)[step % 4, 0]
        inputs = torch.from_numpy(features)[pairs]
        with torch.no_grad():
            taught = [(head(inputs) / 0.1).softmax(1) for head in teachers]
        weight = sum((t[:10] * t[10:]).sum(1) for t in taught) / len(taught)
        losses = []
        for head, t, p_k in zip(students, taught, prior):
            q = (head(inputs) / 0.1).softmax(1)
            terms = [((own * other) ** 0.6 / p_k).sum(1) for own, other in ((q[:10], t[10:]), (q[10:], t[:10]))]
            losses.append(-sum((weight * term.log()).mean() for term in terms) / 2)
        loss = torch.stack(losses)
        optimizer.zero_grad()
        loss.mean().backward()
        if step < 4:
            for head in students:
                head.last.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 10 / 256 * (step + 1) / 8
        optimizer.step()
        prior = 0.9 * prior + 0.1 * torch.stack([t.mean(0) for t in taught])
        with torch.no_grad():
            for own, other in zip(teachers, students):
                for a, b in zip(own.parameters(), other.parameters()):
                    a.copy_(0.9 * a + 0.1 * b)
        assert ours.step(step).item() == pytest.approx(loss.mean().item(), rel=1e-4)
        for heads, parameters in ((students, ours.students), (teachers, ours.teachers)):
            for h, head in enumerate(heads):
                for i, parameter in enumerate(head.own_parameters()):
                    torch.testing.assert_close(parameters[i][0, h], parameter, rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose(ours.buffers["prior"][0], prior, rtol=1e-4)


def test_seeds_that_are_computed_together_train_as_alone():
    """As on an accelerator, up to rounding."""
    features = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    neighbors = np.random.default_rng(1).integers(0, 64, (64, 4)).astype(np.int32)
    together = fp32_training(features, neighbors, [3, 8], 3, batch_size=16)
    alone = fp32_training(features, neighbors, [8], 3, batch_size=16)
    for step in range(8):
        both, one = together.step(step), alone.step(step)
        torch.testing.assert_close(both[1:], one, rtol=1e-4, atol=1e-5)
    for a, b in zip(together.teachers, alone.teachers):
        torch.testing.assert_close(a[1:], b, rtol=1e-3, atol=1e-5)


def same(a, b):
    return a.weights.keys() == b.weights.keys() and all(np.array_equal(a.weights[n], b.weights[n]) for n in a.weights)


def test_a_killed_fit_goes_on_to_the_same_bits(blobs, tmp_path, monkeypatch):
    whole = fit(training_data(blobs[0]), 6, [0, 1])
    assert not same(*whole)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    step = temi.TemiTraining.step
    steps = []

    def dies(self, number):
        steps.append(number)
        if len(steps) == 150:  # in the middle of an epoch of the second seed
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(temi.TemiTraining, "step", dies)
    data = training_data(blobs[0], scratch=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(data, 6, [0, 1])
    assert [path.name for path in tmp_path.iterdir()] == ["state-1.safetensors"]
    [resumed] = fit(data, 6, [1])
    assert steps[150:] == list(range(29, 120))
    assert resumed.failure is None
    assert same(resumed, whole[1])
    assert resumed.log == whole[1].log
    assert not list(tmp_path.iterdir())


def test_imbalanced_groups():
    points, labels = make_blobs([250, 150, 100], 8, cluster_std=0.5, random_state=1)
    points = (points / 10).astype(np.float32)
    [result] = fit(training_data(points), 3)
    assert accuracy(labels, assign(result, points)) >= 0.99


def test_digits():
    digits = load_digits()
    points = digits.data.astype(np.float32)
    options = {"normalize": "center", "heads": 4}
    [result] = fit(training_data(points), 10, **options)
    prediction = temi.predict(result.weights, [points], temi.Options(**SMALL | options))
    assert accuracy(digits.target, prediction.assignments) >= 0.8  # 3 seeds, bf16 units and fp32: 0.856 to 0.863
    assert prediction.probabilities.dtype == np.float16
    np.testing.assert_allclose(prediction.probabilities.astype(np.float64).sum(1), 1, atol=2e-3)
    assert result.log[-1]["clusters"] == 10
    assert result.objective == pytest.approx(result.log[-1]["loss"], abs=0.1)


def test_bad_input():
    points = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    [single] = fit(training_data(points), 1, epochs=1)
    assert set(assign(single, points)) == {0}
    with pytest.raises(DeepclustError, match="31 clusters.*30"):
        fit(training_data(points), 31)
    broken = points.copy()
    broken[3, 1] = np.nan
    with pytest.raises(DeepclustError, match="1 image"):
        fit(TrainingData([broken], training_data(points).neighbors), 3)
    constant = np.ones((200, 4), np.float32)
    [result] = fit(TrainingData([constant], [np.zeros((200, 5), np.int32)]), 3, epochs=2)
    assert "one cluster" in result.failure
    assert result.weights == {}
    assert result.objective is None


def test_a_training_that_diverges_fails_its_seed(blobs):
    [result] = fit(training_data(blobs[0]), 6, learning_rate=1e38, epochs=2, warmup_epochs=0)
    assert "diverged" in result.failure
    assert "learning_rate" in result.failure
