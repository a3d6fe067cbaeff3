import math

import pytest
import torch

from deepclust.pretraining.optimization import build_optimizer, cosine_schedule
from deepclust.pretraining.options import PretrainingOptions


def test_schedule_rises_and_falls():
    assert [cosine_schedule(p, 12, 2) for p in (0, 1, 2)] == [0, 0.5, 1]
    assert cosine_schedule(7, 12, 2) == pytest.approx(0.5)
    assert cosine_schedule(12, 12, 2) == pytest.approx(0)
    assert cosine_schedule(1, 4) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert cosine_schedule(3, 4, 4) == 0.75


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_optimizers_do_what_plain_ones_do(name):
    """Also where gradients lie in memory in another order than the weights, as with channels-last convolutions."""
    options = PretrainingOptions(dataset="d", optimizer=name, learning_rate=0.1, weight_decay=0.01)
    weights = torch.randn(4, 3, 3, 3)
    fused, plain = (torch.nn.Parameter(weights.clone(memory_format=torch.channels_last)) for _ in range(2))
    if name == "sgd":
        reference = torch.optim.SGD([plain], lr=0.1, momentum=0.9, weight_decay=0.01, foreach=False)
    else:
        reference = torch.optim.AdamW([plain], lr=0.1, weight_decay=0.01, foreach=False)
    optimizer = build_optimizer([{"params": [fused]}], options)
    for _ in range(3):
        gradient = torch.randn(4, 3, 3, 3)
        for parameter, chosen in ((fused, optimizer), (plain, reference)):
            chosen.zero_grad()
            (parameter * gradient).sum().backward()
            chosen.step()
    assert torch.allclose(fused, plain, atol=1e-6)
