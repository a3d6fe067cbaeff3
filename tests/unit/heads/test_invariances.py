"""What must make no difference: the order of the images, and into which parts a batch is divided."""

import numpy as np
import pytest
import torch
from head_samples import fit, mixture, predict
from sklearn.metrics import adjusted_rand_score

from deepclust.heads import temi, turtle
from deepclust.heads.kit import neighbor_consistency
from deepclust.heads.kit.stacked import linear

S, H, K, D, B = 2, 3, 4, 5, 12
TEACHER = torch.randn(S, H, K, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


LEAST = {"kmeans": 0.9, "gmm": 0.9, "spectral": 0.99, "agglomerative": 0.99}


@pytest.mark.parametrize("name", LEAST)
def test_order_of_the_images(name):
    """Overlapping groups: k-means and the mixture draw their starts by row, so they end a little apart."""
    points, _ = mixture(400, 4, spread=0.7)
    order = np.random.default_rng(1).permutation(len(points))
    found, objectives = [], []
    for rows in (points, points[order]):
        results, options = fit(name, rows, 4)
        found.append(predict(name, results[0], points, options).assignments)
        objectives.append(results[0].objective)
    assert adjusted_rand_score(*found) >= LEAST[name]
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-3)


def temi_mean(weight, images, others):
    """TEMI's loss of pairs; teacher, running means and pair weights are those of the pairs, whichever the batch."""
    student = linear(weight, torch.cat([images, others], dim=-1))
    teacher = linear(TEACHER, torch.cat([images, others], dim=-1))
    weights = temi.pair_weights(teacher, 0.5)
    return temi.weighted_loss(student, teacher, torch.full((S, H, K), 1 / K), weights, 0.6, 0.5)


def scan_mean(weight, images, others):
    """SCAN's consistency; the entropy of a batch is no mean over images."""
    return neighbor_consistency.consistency(*(linear(weight, inputs).softmax(2) for inputs in (images, others)))


def turtle_mean(weight, images, others):
    """TURTLE's cross-entropy of one space; `others` stand for what the classifiers see."""
    tasks, classifiers = (linear(weights, x)[:, 0] for weights, x in ((weight, images), (TEACHER, others)))
    return turtle.turtle_loss([tasks], [classifiers], gamma=0)


@pytest.mark.parametrize("mean", [temi_mean, scan_mean, turtle_mean])
def test_batches_may_be_divided(mean):
    """The gradient of a batch is the mean of those of its parts, by their sizes."""
    generator = torch.Generator().manual_seed(0)
    start, images, others = (
        torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((S, H, K, D), (S, D, B), (S, D, B))
    )

    def gradient(part):
        weight = start.clone().requires_grad_()
        mean(weight, images[..., part], others[..., part]).sum().backward()
        return weight.grad

    parts = [slice(0, 3), slice(3, 8), slice(8, B)]
    summed = sum(gradient(part) * (part.stop - part.start) / B for part in parts)
    whole = gradient(slice(0, B))
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(summed, whole)
    assert not torch.allclose(gradient(parts[0]), whole, rtol=0.01)


def test_the_networks_gradient_is_the_sum_over_the_batch():
    """TEMI's network, forward and backward by hand."""
    generator = torch.Generator().manual_seed(0)
    parameters = temi.build_parameters([0, 1], H, D, K, torch.device("cpu"))
    inputs = torch.randn(2, D, B, generator=generator)
    into = torch.randn(2, H, K, B, generator=generator)

    def gradients(part):
        batch = inputs[..., part]
        network = temi.StackedMLP(2, H, batch.shape[-1], torch.float32, torch.device("cpu"))
        weights = network.cast(parameters)
        assert len(network.slices) == 1
        network.forward(weights, network.slices[0], batch)
        return network.backward(weights, network.slices[0], batch, into[..., part])

    halves = zip(gradients(slice(0, 5)), gradients(slice(5, B)))
    for (first, second), whole in zip(halves, gradients(slice(0, B))):
        torch.testing.assert_close(first + second, whole, rtol=1e-4, atol=1e-5)
