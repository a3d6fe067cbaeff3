import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp

from deepclust.heads.kit.self_labelling import confident_labels, weighted_cross_entropy


def softmax(logits, axis):
    exponentials = np.exp(logits - logits.max(axis, keepdims=True))
    return exponentials / exponentials.sum(axis, keepdims=True)


probabilities = hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=st.floats(-6, 6)).map(
    lambda logits: softmax(logits, 0)
)


@given(probabilities, st.floats(0, 0.999))
def test_every_cluster_with_images_counts_the_same(table, threshold):
    labels, weights = (tensor.numpy() for tensor in confident_labels(torch.from_numpy(table), threshold))
    assert np.array_equal(labels, table.argmax(0))
    sums = np.bincount(labels, weights, minlength=len(table))
    np.testing.assert_allclose(sums[np.unique(labels)], 1, atol=1e-5)
    for cluster in np.unique(labels):
        members = labels == cluster
        sure, kept = table.max(0)[members], weights[members] > 0
        assert kept[sure > threshold].all()
        enough = max((sure > threshold).sum(), -(-members.sum() // 10))
        assert kept.sum() == enough
        assert not kept.any() or kept.all() or sure[kept].min() >= sure[~kept].max()


def test_no_image_passes():
    """The surest tenth of each cluster is trained on."""
    table = np.full((2, 40), 0.5)
    table[0, :20] += np.linspace(0.01, 0.2, 20)
    table[0, 20:] -= np.linspace(0.01, 0.3, 20)
    table[1] = 1 - table[0]
    _, weights = confident_labels(torch.from_numpy(table), 0.99)
    assert np.flatnonzero(weights.numpy()).tolist() == [18, 19, 38, 39]


def test_weighted_cross_entropy_against_numpy():
    generator = np.random.default_rng(0)
    seeds, clusters, batch = 2, 4, 30
    logits = generator.normal(0, 2, (seeds, 1, clusters, batch))
    labels = generator.integers(0, clusters, (seeds, batch))
    weights = generator.uniform(0, 1, (seeds, batch)) * (generator.uniform(size=(seeds, batch)) < 0.6)
    tensor = torch.from_numpy(logits).requires_grad_()
    losses = weighted_cross_entropy(tensor, torch.from_numpy(labels), torch.from_numpy(weights))
    losses.sum().backward()
    for seed in range(seeds):
        chance = softmax(logits[seed, 0], 0)
        shares = weights[seed] / weights[seed].sum()
        expected = -(shares * np.log(chance[labels[seed], np.arange(batch)])).sum()
        np.testing.assert_allclose(losses[seed, 0].item(), expected, atol=1e-5)
        gradient = shares * (chance - np.eye(clusters)[labels[seed]].T)
        np.testing.assert_allclose(tensor.grad[seed, 0].numpy(), gradient, atol=1e-5)


def test_a_batch_without_a_confident_image_changes_nothing():
    logits = torch.randn(1, 1, 3, 8, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 8))
    loss.sum().backward()
    assert loss.item() == 0
    assert not logits.grad.any()
