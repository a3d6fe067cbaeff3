"""Batch normalisation over the images of all processes."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.pretraining.engine.distributed import other_processes


class _Synchronised(nn.SyncBatchNorm):
    """Batch normalisation over the batches of all processes: torch's own layer on GPUs, and ours on CPUs."""

    process_group: Any

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [B, C, ...]."""
        if not self.training or input.device.type != "cpu":
            plain: Tensor = super().forward(input)
            return plain
        self._check_input_dim(input)
        output: Tensor
        output, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps, self.process_group)  # type: ignore[no-untyped-call]
        self._track(mean, variance * (count / (count - 1)))
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class _BatchNorm1d(_Synchronised, nn.BatchNorm1d):
    pass


class _BatchNorm2d(_Synchronised, nn.BatchNorm2d):
    pass


SYNCHRONISED: dict[type, type] = {nn.BatchNorm1d: _BatchNorm1d, nn.BatchNorm2d: _BatchNorm2d}


def synchronise(network: nn.Module) -> None:
    """Let all batch normalisation of a network see the images of all processes.

    The layers keep their parameters, names and kind. Only their computation in training changes.
    """
    for layer in network.modules():
        if type(layer) in SYNCHRONISED:
            layer.__class__ = SYNCHRONISED[type(layer)]
            setattr(layer, "process_group", None)  # all processes  # noqa: B010


@contextlib.contextmanager
def unsynchronised(network: nn.Module) -> Iterator[None]:
    """Let batch normalisation use its running statistics unchanged, so that no process waits for another."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    saved = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = False
        yield
    finally:
        for layer, training in zip(layers, saved):
            layer.training = training


class _Normalise(torch.autograd.Function):
    """Batch normalisation (Ioffe & Szegedy 2015, algorithm 1) on the batches of all processes together."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: Any
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """Return output, mean [C], biased variance [C] and the number of values that they are computed from.

        `weight` and `bias` may be None together.
        """
        values = input.detach().float()
        dims = _all_but_channels(values)
        channels = values.shape[1]
        # Means and squared deviations of all processes are combined as by Chan et al. 1979, which is stable and takes
        # a single exchange.
        own = values.numel() / channels
        means = values.mean(dims) if own else values.new_zeros(channels)
        deviations = (values - _along(means, values)).square().sum(dims)
        stacked = torch.cat([means, deviations, values.new_tensor([own])])
        everyone = [torch.empty_like(stacked) for _ in range(dist.get_world_size(group))]
        with other_processes():
            dist.all_gather(everyone, stacked, group=group)
        means, deviations, counts = torch.stack(everyone).double().split([channels, channels, 1], 1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (deviations.sum(0) + (counts * (means - mean).square()).sum(0)) / count
        mean, variance = mean.float(), variance.float()
        ctx.save_for_backward(input, weight, mean, torch.rsqrt(variance + eps))
        ctx.count, ctx.group = count.item(), group
        ctx.mark_non_differentiable(mean, variance)
        output = F.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)
        return output, mean, variance, ctx.count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients of this process's images, and these images' share of those of weight and bias."""
        input, weight, mean, inverse = ctx.saved_tensors
        normalised = (input.float() - _along(mean, input)) * _along(inverse, input)
        g = gradient.float()
        dims = _all_but_channels(g)
        for_bias, for_weight = g.sum(dims), (g * normalised).sum(dims)
        sums = torch.cat([for_bias, for_weight])
        with other_processes():
            dist.all_reduce(sums, group=ctx.group)
        all_bias, all_weight = (sums / ctx.count).chunk(2)
        # Ioffe & Szegedy 2015, section 3: weight / std · (g - mean(g) - normalised · mean(g · normalised)).
        centred = g - _along(all_bias, g) - normalised * _along(all_weight, g)
        scale = inverse if weight is None else weight.float() * inverse
        own = (centred * _along(scale, g)).to(input.dtype)
        if weight is None:
            return own, None, None, None, None
        return own, for_weight.to(weight.dtype), for_bias.to(weight.dtype), None, None


def _all_but_channels(values: Tensor) -> list[int]:
    return [dim for dim in range(values.ndim) if dim != 1]


def _along(values: Tensor, like: Tensor) -> Tensor:
    """Bring values [C] into the shape that broadcasts to [B, C, ...]."""
    return values.view(1, -1, *[1] * (like.ndim - 2))
