import math

import pytest
import torch

from deepclust.pretraining.simclr import Options, nt_xent


def plain_nt_xent(first, second, temperature):
    """Chen et al. 2020, eq. 1, averaged over all ordered positive pairs."""
    views = [z for pair in zip(first, second) for z in pair]  # 2k-1 and 2k are views of one image
    cosine = [[(a @ b / (a.norm() * b.norm())) for b in views] for a in views]
    total = 0
    for i in range(len(views)):
        partner = i + 1 if i % 2 == 0 else i - 1
        denominator = sum(torch.exp(cosine[i][k] / temperature) for k in range(len(views)) if k != i)
        total = total - torch.log(torch.exp(cosine[i][partner] / temperature) / denominator)
    return total / len(views)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_is_the_published_one(temperature):
    torch.manual_seed(0)
    first, second = (torch.randn(5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss = nt_xent(first, second, temperature)["loss"]
    expected = plain_nt_xent(first, second, temperature)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = torch.autograd.grad(loss, (first, second))
    for gradient, plain in zip(gradients, torch.autograd.grad(expected, (first, second))):
        assert torch.allclose(gradient, plain, rtol=1e-10, atol=1e-12)


def test_loss_of_equal_projections_is_that_of_guessing():
    same = torch.ones(8, 4)
    assert nt_xent(same, same, 0.1)["loss"].item() == pytest.approx(math.log(15), rel=1e-5)


def test_accuracy_counts_the_nearest():
    first = torch.eye(4)
    second = torch.eye(4)[[0, 1, 3, 2]] + 0.01
    assert nt_xent(first, first + 0.01, 0.1)["accuracy"] == 1
    assert nt_xent(first, second, 0.1)["accuracy"] == 0.5


def test_defaults_are_the_setting_of_scan():
    options = Options(dataset="cifar10")
    assert (options.architecture, options.stem) == ("resnet18", "cifar")
    assert (options.epochs, options.batch_size, options.temperature, options.projection_dim) == (500, 512, 0.1, 128)
    assert (options.optimizer, options.learning_rate, options.momentum, options.weight_decay) == ("sgd", 0.4, 0.9, 1e-4)
    assert options.augmentation.crop_scale == (0.2, 1.0)
