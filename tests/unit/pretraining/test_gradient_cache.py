import pytest
import torch
from torch import nn

from deepclust.pretraining.engine.gradient_cache import backward, frozen_statistics
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.simclr import Options, SimCLR

FACTS = ImageFacts(12, (6, 6), [0.5], [0.25])


class Plain(nn.Sequential):
    """A network without batch normalisation, whose output for an image does not depend on the others."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 8))
        self.feature_dim = 8


def gradients(micro_batch, backbone=Plain):
    torch.manual_seed(0)
    method = SimCLR(Options(dataset="d"), backbone(), FACTS)
    views = [torch.randn(12, 1, 6, 6) for _ in range(2)]
    scalars, embeddings = backward(method, views, torch.arange(12), micro_batch, bf16=False)
    return scalars, embeddings, {name: p.grad for name, p in method.named_parameters()}


@pytest.mark.parametrize("micro_batch", [1, 4, 5, 11])
def test_micro_batches_give_the_gradient_of_the_batch(micro_batch):
    scalars, embeddings, whole = gradients(12)
    cached_scalars, cached_embeddings, cached = gradients(micro_batch)
    assert scalars["loss"].item() == pytest.approx(cached_scalars["loss"].item(), rel=1e-5)
    for tensor, other in zip(embeddings, cached_embeddings):
        assert torch.allclose(tensor, other, atol=1e-5)
    for name, gradient in whole.items():
        assert gradient.abs().max() > 0
        assert torch.allclose(gradient, cached[name], rtol=1e-4, atol=1e-6), name


def test_embeddings_without_gradient_are_allowed():
    """A method may pass on what it does not train through, such as a teacher's output."""

    class WithTeacher(SimCLR):
        def embed(self, views):
            first, second = super().embed(views)
            return first, second, second.detach()

        def loss(self, embeddings, indices):
            return super().loss(embeddings[:2], indices)

    results = []
    for micro_batch in (12, 5):
        torch.manual_seed(0)
        method = WithTeacher(Options(dataset="d"), Plain(), FACTS)
        views = [torch.randn(12, 1, 6, 6) for _ in range(2)]
        backward(method, views, torch.arange(12), micro_batch, bf16=False)
        results.append(method.projector[0].weight.grad)
    assert torch.allclose(*results, atol=1e-6)


def test_running_statistics_count_each_micro_batch_once():
    class Normalised(Plain):
        def __init__(self):
            super().__init__()
            self.insert(1, nn.BatchNorm2d(4, momentum=0.5))

    torch.manual_seed(0)
    method = SimCLR(Options(dataset="d"), Normalised(), FACTS)
    views = [torch.randn(12, 1, 6, 6) for _ in range(2)]
    backward(method, views, torch.arange(12), 6, bf16=False)
    expected = torch.zeros(4)
    for part in range(2):
        seen = method.backbone[0](torch.cat([view[6 * part : 6 * part + 6] for view in views]))
        expected = 0.5 * expected + 0.5 * seen.mean((0, 2, 3))
    assert torch.allclose(method.backbone[1].running_mean, expected, atol=1e-5)
    with frozen_statistics(method):
        assert method.backbone[1].momentum == 0
    assert method.backbone[1].momentum == 0.5
