import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_digits, make_blobs
from torch import nn

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.heads import turtle
from deepclust.heads.kit import training
from deepclust.heads.kit.head import TrainingData
from deepclust.heads.kit.stacked import Rows

CPU = torch.device("cpu")
# Small sets are learned in few steps if these are longer.
SMALL = {"steps": 100, "learning_rate": 1e-2, "inner_learning_rate": 1e-2}


def fit(spaces, k, seeds=(0,), scratch=None, **options):
    data = TrainingData(spaces, scratch=scratch)
    return list(turtle.fit(data, k, list(seeds), turtle.Options(**SMALL | options), Progress()))


def assign(result, spaces, **options):
    return turtle.predict(result.weights, spaces, turtle.Options(**SMALL | options)).assignments


def accuracy(labels, assignments):
    table = np.zeros((labels.max() + 1, assignments.max() + 1))
    np.add.at(table, (labels, assignments), 1)
    return table[linear_sum_assignment(-table)].sum() / len(labels)


def same(a, b):
    return a.weights.keys() == b.weights.keys() and all(np.array_equal(a.weights[n], b.weights[n]) for n in a.weights)


@pytest.fixture(scope="module")
def blobs():
    points, labels = make_blobs(500, 16, centers=6, cluster_std=0.8, random_state=2)
    return points.astype(np.float32), labels


def test_defaults_are_the_published_settings():
    assert turtle.Options().model_dump(exclude={"components"}) == {
        "normalize": "none",
        "steps": 6000,
        "batch_size": 10_000,
        "gamma": 10.0,
        "learning_rate": 1e-3,
        "inner_steps": 10,
        "inner_learning_rate": 1e-3,
    }


def plain_loss(tasks, classifiers, gamma):
    """Of one seed, logits [K, B] for every space; one number after the other."""
    k, count = tasks[0].shape
    labels = [softmax(task, axis=0) for task in tasks]
    label = sum(labels) / len(labels)
    loss = 0.0
    for classifier in classifiers:
        log = log_softmax(classifier, axis=0)
        loss -= sum(label[c, i] * log[c, i] for c in range(k) for i in range(count)) / count
    for own in labels:
        mean = own.mean(1)
        loss += gamma * sum(m * np.log(m) for m in mean)
    return loss


@pytest.mark.parametrize("spaces", [1, 2])
def test_loss_and_gradient_equal_the_formula(spaces):
    generator = np.random.default_rng(0)
    tasks, classifiers = generator.normal(size=(2, spaces, 2, 3, 5))  # 2 seeds, 3 clusters, 5 images
    tensors = [torch.from_numpy(task).requires_grad_() for task in tasks]
    losses = turtle.turtle_loss(tensors, [torch.from_numpy(c) for c in classifiers], 10.0)
    expected = [plain_loss(tasks[:, seed], classifiers[:, seed], 10.0) for seed in range(2)]
    np.testing.assert_allclose(losses.detach(), expected, rtol=1e-10)
    losses.sum().backward()
    for index in np.ndindex(tasks.shape):
        step = np.zeros_like(tasks)
        step[index] = 1e-5
        seed = index[1]
        ahead, back = (plain_loss((tasks + s * step)[:, seed], classifiers[:, seed], 10.0) for s in (1, -1))
        assert tensors[index[0]].grad[index[1:]].item() == pytest.approx((ahead - back) / 2e-5, abs=1e-6)


def test_loss_does_not_depend_on_the_order_of_clusters_or_images():
    generator = torch.Generator().manual_seed(0)
    tasks, classifiers = (list(torch.randn(2, 1, 4, 9, generator=generator)) for _ in range(2))
    clusters, images = torch.randperm(4, generator=generator), torch.randperm(9, generator=generator)
    changed = [[part[:, clusters][..., images] for part in parts] for parts in (tasks, classifiers)]
    torch.testing.assert_close(turtle.turtle_loss(*changed, 10.0), turtle.turtle_loss(tasks, classifiers, 10.0))


def test_classifiers_equal_torchs_adam():
    generator = torch.Generator().manual_seed(0)
    start, inputs = (torch.randn(*shape, generator=generator) for shape in ((2, 3, 6), (2, 5, 40)))
    label = torch.randn(2, 3, 40, generator=generator).softmax(1)
    found = turtle.train_classifiers(start, inputs, label, 10, 0.01)
    for seed in range(2):
        layer = nn.Linear(5, 3)
        with torch.no_grad():
            layer.weight.copy_(start[seed, :, :-1])
            layer.bias.copy_(start[seed, :, -1])
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(inputs[seed].T), label[seed].T).backward()
            optimizer.step()
        torch.testing.assert_close(found[seed, :, :-1], layer.weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[seed, :, -1], layer.bias.detach(), rtol=1e-4, atol=1e-5)


def fp32_training(spaces, seeds, k, **options):
    rows = [Rows(space, CPU) for space in spaces]
    for own, space in zip(rows, spaces):
        own.values = torch.from_numpy(space)
    return turtle.TurtleTraining(rows, seeds, k, turtle.Options(**SMALL | options))


def test_steps_equal_those_of_the_authors_code():
    """The loop of mlbio-epfl/turtle, run_turtle.py, in words of our own, from given weights, on all images.

    Two spaces; weight-normalised encoders by Adam, classifiers from scratch in every step.
    """
    generator = np.random.default_rng(0)
    spaces = [generator.normal(size=(20, d)).astype(np.float32) for d in (4, 6)]
    ours = fp32_training(spaces, [7], 3)
    encoders = [nn.utils.parametrizations.weight_norm(nn.Linear(d, 3)) for d in (4, 6)]
    with torch.no_grad():
        for encoder, own in zip(encoders, ours.encoders()):
            encoder.weight = own[0, :, :-1]
            encoder.bias.copy_(own[0, :, -1])
    parameters = [p for encoder in encoders for p in encoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    inputs = [torch.from_numpy(space) for space in spaces]
    for step in range(5):
        labels = [encoder(x).softmax(1) for encoder, x in zip(encoders, inputs)]
        label = sum(labels) / len(labels)
        error = 0
        for s, x in enumerate(inputs):
            start = ours._draw(f"classifier {s} {step}", ours.spaces[s])[0]
            classifier = nn.Linear(x.shape[1], 3)
            classifier.load_state_dict({"weight": start[:, :-1], "bias": start[:, -1]})
            inner = torch.optim.Adam(classifier.parameters(), lr=1e-2)
            for _ in range(10):
                inner.zero_grad()
                nn.functional.cross_entropy(classifier(x), label.detach()).backward()
                inner.step()
            error = error + nn.functional.cross_entropy(classifier(x).detach(), label)
        loss = error - 10 * sum(torch.special.entr(own.mean(0)).sum() for own in labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert ours.step(step).item() == pytest.approx(loss.item(), rel=1e-4)
        for own, encoder in zip(ours.encoders(), encoders):
            torch.testing.assert_close(own[0, :, :-1], encoder.weight, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(own[0, :, -1], encoder.bias, rtol=1e-3, atol=1e-5)


def test_seeds_that_are_computed_together_train_as_alone():
    """As on an accelerator, up to rounding."""
    space = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    together, alone = (fp32_training([space], seeds, 3, batch_size=20) for seeds in ([3, 8], [8]))
    for step in range(10):
        torch.testing.assert_close(together.step(step)[1:], alone.step(step), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.encoders()[0][1:], alone.encoders()[0], rtol=1e-3, atol=1e-5)


def test_a_seed_gives_the_same_bits_whatever_runs_with_it(blobs):
    together = {result.seed: result for result in fit([blobs[0]], 6, [4, 1], batch_size=200, steps=30)}
    for seed in (1, 4):
        [alone] = fit([blobs[0]], 6, [seed], batch_size=200, steps=30)
        assert alone.failure is None
        assert same(alone, together[seed])
        assert alone.objective == together[seed].objective
    assert not same(together[1], together[4])


def test_a_killed_fit_goes_on_to_the_same_bits(blobs, tmp_path, monkeypatch):
    [whole] = fit([blobs[0]], 6)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    step = turtle.TurtleTraining.step
    steps = []

    def dies(self, number):
        steps.append(number)
        if len(steps) == 80:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(turtle.TurtleTraining, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        fit([blobs[0]], 6, scratch=tmp_path)
    [resumed] = fit([blobs[0]], 6, scratch=tmp_path)
    assert steps[80:] == list(range(79, 100))
    assert resumed.failure is None
    assert same(resumed, whole)
    assert resumed.log == whole.log
    assert not list(tmp_path.iterdir())


def test_several_spaces_are_read_together():
    labels = np.arange(400) % 4
    noise = np.random.default_rng(0).normal(0, 0.5, (2, 400, 5)).astype(np.float32)
    first = noise[0] + 6 * np.eye(5, dtype=np.float32)[labels]
    second = 10 * noise[1][:, :4] + 60 * np.eye(4, dtype=np.float32)[labels] + 100
    [result] = fit([first, second], 4, normalize="standardize", steps=200)
    assert result.failure is None
    assert {name: array.shape for name, array in result.weights.items()} == {
        "0/encoder": (4, 6),
        "1/encoder": (4, 5),
        "0/mean": (5,),
        "0/scale": (5,),
        "1/mean": (4,),
        "1/scale": (4,),
    }
    assert accuracy(labels, assign(result, [first, second], normalize="standardize")) >= 0.99


def test_digits():
    digits = load_digits()
    points = digits.data.astype(np.float32)
    [result] = fit([points], 10, normalize="standardize", steps=300)
    prediction = turtle.predict(result.weights, [points], turtle.Options(normalize="standardize"))
    assert accuracy(digits.target, prediction.assignments) >= 0.7  # 3 seeds, bf16 units and fp32: 0.775 to 0.792
    assert prediction.probabilities.dtype == np.float16
    np.testing.assert_allclose(prediction.probabilities.astype(np.float64).sum(1), 1, atol=2e-3)
    assert result.log[-1]["clusters"] == 10


def test_the_score_is_higher_for_labels_that_can_be_learned(blobs):
    points, labels = blobs
    shuffled = np.random.default_rng(0).permutation(labels)
    assert turtle.generalization_score([points], labels.astype(np.int32)) > 0.98
    assert turtle.generalization_score([points], shuffled.astype(np.int32)) < 0.4


def test_bad_input():
    points = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    [single] = fit([points], 1, steps=5)
    assert set(assign(single, [points])) == {0}
    with pytest.raises(DeepclustError, match="31 clusters.*30"):
        fit([points], 31)
    broken = points.copy()
    broken[3, 1] = np.inf
    with pytest.raises(DeepclustError, match="1 image"):
        fit([broken], 3)
    [result] = fit([np.ones((100, 4), np.float32)], 3, steps=20)
    assert "one cluster" in result.failure
    assert result.weights == {}
    assert result.objective is None
