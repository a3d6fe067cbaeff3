"""Gradients of a large batch from small ones, for losses that compare all images of a batch.

Adding up the losses of micro-batches would leave out all pairs across them. Here the embeddings of all micro-batches
are computed without gradient, then the loss and its gradient with respect to the embeddings, then each micro-batch
again, this time sending its share of that gradient back through the network (GradCache, Gao et al. 2021, arXiv
2101.06983). Up to rounding this is the full batch's gradient, except that batch normalisation sees micro-batches.
"""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from deepclust.pretraining.method import Method


def backward(
    method: Method, views: list[Tensor], indices: Tensor, micro_batch: int, bf16: bool
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Add the gradient of a batch's loss to the method's parameters.

    Args:
        views: each float [B, C, H, W].
        indices: int64 [B].
        micro_batch: how many images to send through the network at a time.
        bf16: whether the network computes in bf16; the loss is computed in float32.

    Returns:
        What `method.loss` returned and the embeddings, both without gradient.
    """

    def embed(part: list[Tensor]) -> tuple[Tensor, ...]:
        with torch.autocast(indices.device.type, torch.bfloat16, enabled=bf16):
            return method.embed(part)

    parts = math.ceil(len(indices) / micro_batch)
    if parts == 1:
        embeddings = tuple(tensor.float() for tensor in embed(views))
        scalars = method.loss(embeddings, indices)
        scalars["loss"].backward()
    else:
        pieces = [list(piece) for piece in zip(*(view.tensor_split(parts) for view in views))]
        with torch.no_grad(), frozen_statistics(method):
            cached = [embed(piece) for piece in pieces]
        embeddings = tuple(torch.cat(tensors).float().requires_grad_() for tensors in zip(*cached))
        scalars = method.loss(embeddings, indices)
        scalars["loss"].backward()
        gradients = zip(*(_gradient(tensor).tensor_split(parts) for tensor in embeddings))
        for piece, gradient in zip(pieces, gradients):
            sent = [(tensor, g.to(tensor.dtype)) for tensor, g in zip(embed(piece), gradient) if tensor.requires_grad]
            torch.autograd.backward([tensor for tensor, _ in sent], [g for _, g in sent])
    return {name: value.detach() for name, value in scalars.items()}, tuple(tensor.detach() for tensor in embeddings)


def _gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


@contextlib.contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch normalisation as they are, so that a repeated pass counts once."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    saved = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, saved):
            layer.momentum = momentum
