"""Stack of multilayer perceptrons with cosine outputs, forward and backward by hand.

The network is Linear-GELU-Linear, scaling to length 1, and a weight-normalised linear layer (as the head of DINO, Caron
et al. 2021, arXiv 2104.14294). It is written by hand because access to memory takes most of the time on a CPU beside
the matrix products. So heads are computed a few at a time, in buffers that stay in the cache and are used again.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from deepclust.heads.kit.stacked import draw, linear

HIDDEN, BOTTLENECK = 512, 256
CACHE = 8 * 2**20  # bytes of one layer's activations that are computed together on a CPU
SMALLEST = 1e-12  # smaller lengths are raised to it

Parameters = list[Tensor]
"""Weight and bias of the first and of the second layer, direction and gain of the third; each [S, H, ...]."""


def build_parameters(seeds: Sequence[int], heads: int, dimensions: int, k: int, device: torch.device) -> Parameters:
    """Draw fresh float32 parameters as the official code of TEMI does.

    Weights of the first two layers are normal with deviation 0.02, truncated at ±2, and their biases 0. Directions of
    the last layer are uniform in ±1/√256, as PyTorch's linear layers are, and its gains 1. The scale of the directions
    matters although they are normalised: the larger they are, the less a step of Adam turns them.

    Returns:
        Tensors [S, H, 512, D], [S, H, 512], [S, H, 256, 512], [S, H, 256], [S, H, K, 256], [S, H, K].
    """
    normal = partial(nn.init.trunc_normal_, std=0.02)
    uniform = partial(nn.init.uniform_, a=-(BOTTLENECK**-0.5), b=BOTTLENECK**-0.5)
    first = draw(seeds, "first", (heads, HIDDEN, dimensions), normal)
    second = draw(seeds, "second", (heads, BOTTLENECK, HIDDEN), normal)
    third = draw(seeds, "third", (heads, k, BOTTLENECK), uniform)
    count = len(seeds)
    biases = [torch.zeros(count, heads, size) for size in (HIDDEN, BOTTLENECK)]
    tensors = [first, biases[0], second, biases[1], third, torch.ones(count, heads, k)]
    return [tensor.to(device) for tensor in tensors]


def last_weight(direction: Tensor, gain: Tensor) -> Tensor:
    """Return the weight of the third layer, [..., K, 256]."""
    return gain.unsqueeze(-1) * nn.functional.normalize(direction, dim=-1, eps=SMALLEST)


class StackedMLP:
    """Computation of stacks of heads, whose parameters come with each call.

    Heads can be computed in `slices`. `forward` keeps the activations of the last slice only for `backward`.
    """

    def __init__(self, seeds: int, heads: int, batch: int, dtype: torch.dtype, device: torch.device) -> None:
        """Allocate the buffers.

        Args:
            batch: images per call.
            dtype: type of the matrix products.
        """
        self.dtype = dtype
        per_head = HIDDEN * batch * dtype.itemsize
        size = heads if device.type != "cpu" else min(heads, max(1, CACHE // per_head))
        self.slices = [slice(first, min(first + size, heads)) for first in range(0, heads, size)]
        empty = partial(torch.empty, device=device)
        self._hidden, self._active = (empty(seeds, size, HIDDEN, batch, dtype=dtype) for _ in range(2))
        self._out, self._gradient = (empty(seeds, size, BOTTLENECK, batch, dtype=dtype) for _ in range(2))
        self._squares = empty(seeds, size, BOTTLENECK, batch)

    def cast(self, parameters: Parameters) -> Parameters:
        """Return the parameters in the precision of products, with the weight of the third layer."""
        return [parameter.to(self.dtype) for parameter in (*parameters[:4], last_weight(*parameters[4:]))]

    def forward(self, weights: Parameters, heads: slice, inputs: Tensor) -> Tensor:
        """Return the cosines times gains of some heads.

        Args:
            weights: parameters of all heads from `cast`.
            heads: one of `slices`.
            inputs: [S, D, B].

        Returns:
            float32 [S, heads, K, B].
        """
        first, first_bias, second, second_bias, third = (weight[:, heads] for weight in weights)
        count = first.shape[1]
        hidden, active, out = (buffer[:, :count] for buffer in (self._hidden, self._active, self._out))
        torch.baddbmm(first_bias.flatten(1).unsqueeze(-1), first.flatten(1, 2), inputs, out=hidden.flatten(1, 2))
        torch.ops.aten.gelu.out(hidden, out=active)
        torch.baddbmm(
            second_bias.flatten(0, 1).unsqueeze(-1), second.flatten(0, 1), active.flatten(0, 1), out=out.flatten(0, 1)
        )
        squares = self._squares[:, :count].copy_(out).square_()
        self._inverse = squares.sum(2, keepdim=True).sqrt_().clamp_min_(SMALLEST).reciprocal_()
        self._cosines = linear(third, out).float() * self._inverse
        return self._cosines

    def backward(self, weights: Parameters, heads: slice, inputs: Tensor, gradient: Tensor) -> list[Tensor]:
        """Return the gradients of the parameters of the heads that `forward` was last called with.

        Args:
            gradient: gradient with respect to the output of `forward`, float32 [S, heads, K, B].

        Returns:
            Gradients in the order of `weights`, in the precision of products.
        """
        second, third = weights[2][:, heads].flatten(0, 1), weights[4][:, heads].flatten(0, 1)
        count = gradient.shape[1]
        hidden, active, out, into_out = (
            buffer[:, :count].flatten(0, 1) for buffer in (self._hidden, self._active, self._out, self._gradient)
        )
        # The gradient through the scaling to length 1 has no part along the output.
        along = ((gradient * self._cosines).sum(2, keepdim=True) * self._inverse.square()).flatten(0, 1)
        scaled = (gradient * self._inverse).to(self.dtype).flatten(0, 1)
        torch.mul(out, along.to(self.dtype), out=into_out)
        torch.baddbmm(into_out, third.mT, scaled, beta=-1, out=into_out)
        third_gradient = torch.bmm(scaled, out.mT)
        second_gradient = torch.bmm(into_out, active.mT)
        into_hidden = torch.bmm(second.mT, into_out, out=active)
        torch.ops.aten.gelu_backward.grad_input(into_hidden, hidden, grad_input=into_hidden)
        rows = into_hidden.unflatten(0, (-1, count)).flatten(1, 2)
        first_gradient = torch.bmm(rows, inputs.mT)
        shape = (-1, count)
        return [
            first_gradient.unflatten(1, (count, HIDDEN)),
            rows.sum(-1).unflatten(1, (count, HIDDEN)),
            second_gradient.unflatten(0, shape),
            into_out.sum(-1).unflatten(0, shape),
            third_gradient.unflatten(0, shape),
        ]
