import math

import pytest
import torch

from deepclust.pretraining.engine.optimization import build_optimizer, cosine_schedule
from deepclust.pretraining.engine.options import PretrainingOptions


def test_schedule_rises_and_falls():
    assert [cosine_schedule(p, 12, 2) for p in (0, 1, 2)] == [0, 0.5, 1]
    assert cosine_schedule(7, 12, 2) == pytest.approx(0.5)
    assert cosine_schedule(12, 12, 2) == pytest.approx(0)
    assert cosine_schedule(1, 4) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert cosine_schedule(3, 4, 4) == 0.75


PLAIN = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01, foreach=False),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, weight_decay=0.01, foreach=False),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.01, foreach=False),
}


@pytest.mark.parametrize("name", PLAIN)
def test_fused_optimizers_do_what_plain_ones_do(name):
    """Also where gradients lie in memory in another order than the weights, as with channels-last convolutions."""
    options = PretrainingOptions(dataset="d", optimizer=name, learning_rate=0.1, weight_decay=0.01)
    weights = torch.randn(4, 3, 3, 3)
    fused, plain = (torch.nn.Parameter(weights.clone(memory_format=torch.channels_last)) for _ in range(2))
    reference = PLAIN[name]([plain])
    optimizer = build_optimizer([{"params": [fused]}], options)
    for _ in range(3):
        gradient = torch.randn(4, 3, 3, 3)
        for parameter, chosen in ((fused, optimizer), (plain, reference)):
            chosen.zero_grad()
            (parameter * gradient).sum().backward()
            chosen.step()
    assert torch.allclose(fused, plain, atol=1e-6)


@pytest.mark.parametrize("scale_vectors", [False, True])
def test_lars_is_sgd_with_steps_in_proportion_to_the_weights(scale_vectors):
    """Against the rule written out for one parameter at a time; 1-d parameters are left out unless asked for."""
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(4, 2, 3, 3), torch.randn(5), torch.zeros(2, 2)]
    parameters = [torch.nn.Parameter(value.clone()) for value in start]
    options = PretrainingOptions(
        dataset="d",
        optimizer="lars",
        learning_rate=0.5,
        weight_decay=0.01,
        momentum=0.9,
        scale_vectors=scale_vectors,
    )
    optimizer = build_optimizer([{"params": parameters}], options)
    values, momenta = [value.clone() for value in start], [torch.zeros_like(value) for value in start]
    for step in range(3):
        gradients = [torch.randn_like(value) if step or value.ndim > 1 else torch.zeros_like(value) for value in start]
        for i, gradient in enumerate(gradients):
            parameters[i].grad = gradient.clone()
            update = gradient
            if gradient.ndim > 1 or scale_vectors:
                update = gradient + 0.01 * values[i]
                if values[i].norm() > 0:
                    update = update * 0.001 * values[i].norm() / update.norm()
            momenta[i] = 0.9 * momenta[i] + update
            values[i] = values[i] - 0.5 * momenta[i]
        optimizer.step()
    for parameter, value in zip(parameters, values):
        assert torch.allclose(parameter, value, rtol=1e-5, atol=1e-7)


def test_layers_in_one_parameter_take_steps_of_their_own():
    torch.manual_seed(0)
    start, rows = torch.randn(9, 4) * torch.tensor([1.0, 1, 5, 5, 5, 5, 20, 20, 20])[:, None], [2, 4, 3]
    whole, parts = torch.nn.Parameter(start.clone()), [torch.nn.Parameter(part.clone()) for part in start.split(rows)]
    options = PretrainingOptions(dataset="d", optimizer="lars", learning_rate=0.5, weight_decay=0.01, momentum=0.9)
    together = build_optimizer([{"params": [whole], "layer_rows": rows}], options)
    apart = build_optimizer([{"params": parts}], options)
    for _ in range(3):
        whole.grad = torch.randn_like(whole)
        for part, gradient in zip(parts, whole.grad.split(rows)):
            part.grad = gradient.clone()
        together.step()
        apart.step()
    torch.testing.assert_close(whole.detach(), torch.cat([part.detach() for part in parts]), rtol=0, atol=0)


def test_larc_takes_no_longer_steps_than_sgd():
    """The local rate trust · ‖w‖ / ‖g‖, at most the global one (here at momentum 0)."""
    torch.manual_seed(0)
    start = [torch.randn(5, 3), 100 * torch.randn(5, 3), torch.randn(5)]
    gradients = [torch.randn(5, 3), 0.01 * torch.randn(5, 3), torch.randn(5)]
    parameters = [torch.nn.Parameter(value.clone()) for value in start]
    options = PretrainingOptions(
        dataset="d", optimizer="larc", learning_rate=0.5, weight_decay=0, momentum=0, trust=0.02
    )
    optimizer = build_optimizer([{"params": parameters}], options)
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient.clone()
    optimizer.step()
    local = [float(0.02 * value.norm() / gradient.norm()) for value, gradient in zip(start, gradients)]
    assert local[0] < 0.5 < local[1]
    for parameter, value, gradient, rate in zip(parameters, start, gradients, [local[0], 0.5, 0.5]):
        assert torch.allclose(parameter, value - rate * gradient, rtol=1e-5)


def test_larc_remembers_gradients_of_steps_at_rate_0_as_sgd_does():
    """A rise from 0 begins with such a step; scaled by trust · ‖w‖ / ‖g‖ it could count a thousand times as much."""
    torch.manual_seed(0)
    start, gradient = 1000 * torch.randn(5, 3), 0.01 * torch.randn(5, 3)
    parameters = {name: torch.nn.Parameter(start.clone()) for name in ("larc", "sgd")}
    for name, parameter in parameters.items():
        options = PretrainingOptions(dataset="d", optimizer=name, momentum=0.9, weight_decay=0)
        optimizer = build_optimizer([{"params": [parameter]}], options)
        for rate in (0.0, 1e-4):
            optimizer.param_groups[0]["lr"] = rate
            parameter.grad = gradient.clone()
            optimizer.step()
    assert torch.allclose(parameters["larc"] - start, parameters["sgd"] - start, rtol=1e-3)


@pytest.mark.parametrize("name", ["lars", "larc"])
def test_layers_of_zeros_take_the_steps_of_sgd(name):
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    options = PretrainingOptions(dataset="d", optimizer=name, learning_rate=5)
    optimizer = build_optimizer([{"params": [parameter]}], options)
    parameter.grad = torch.ones(2, 3)
    optimizer.step()
    assert torch.equal(parameter, torch.full((2, 3), -5.0))
