"""Gradients of a large batch from small ones, for losses that compare all images of a batch.

Adding up the losses of micro-batches would leave out all pairs across them. Instead the embeddings of all micro-batches
are computed without gradient, then the loss and its gradient with respect to the embeddings. Then each micro-batch is
computed again and sends its share of that gradient back through the network (GradCache, Gao et al. 2021, arXiv
2101.06983). Up to rounding this is the full batch's gradient, except that batch normalisation sees micro-batches.

Processes that train together do the same: each embeds its part, all compute the loss of the whole batch, and each sends
the gradient of its part back. The gradients of the parameters are added up.
"""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from deepclust.pretraining.engine.distributed import ALONE, Team
from deepclust.pretraining.engine.method import Method


def backward(
    method: Method, views: list[Tensor], indices: Tensor, micro_batch: int, bf16: bool, team: Team = ALONE
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Add the gradient of a batch's loss to the method's parameters, which have none yet.

    Args:
        views: views of this process's part of the batch, each float [b, C, H, W].
        indices: indices of the images of the whole batch, int64 [B].
        micro_batch: number of images to send through the network at a time; see `count_pieces`.
        bf16: whether the network computes in bf16; the loss is computed in float32.
        team: processes that share the batch; they get equal gradients.

    Returns:
        The scalars of `method.loss` and the embeddings of the whole batch, both without gradient.
    """

    def embed(part: list[Tensor]) -> tuple[Tensor, ...]:
        with torch.autocast(indices.device.type, torch.bfloat16, enabled=bf16):
            return method.embed(part)

    total = len(indices)
    parts = count_pieces(total, micro_batch, team)
    if parts == team.count == 1:
        embeddings = tuple(tensor.float() for tensor in embed(views))
        scalars = method.loss(embeddings, indices)
        scalars["loss"].backward()
        return _detached(scalars), tuple(tensor.detach() for tensor in embeddings)

    pieces = [list(piece) for piece in zip(*(view.tensor_split(parts) for view in views))]
    if parts == 1:
        outputs = [embed(pieces[0])]
    else:
        with torch.no_grad(), frozen_statistics(method):
            outputs = [embed(piece) for piece in pieces]
    own = tuple(torch.cat(tensors).detach().float() for tensors in zip(*outputs))
    embeddings = tuple(tensor.requires_grad_() for tensor in team.all_gather(own, total))
    scalars = method.loss(embeddings, indices)
    scalars["loss"].backward()

    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    if team.count > 1:
        # The gradient of parameters that the loss itself reads (prototypes) is there in every process, but counts once.
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= team.count
    start, stop = team.bounds(total)
    gradients = zip(*(_gradient(tensor)[start:stop].tensor_split(parts) for tensor in embeddings))
    for number, gradient in enumerate(gradients):
        output = outputs[0] if parts == 1 else embed(pieces[number])
        sent = [(tensor, g.to(tensor.dtype)) for tensor, g in zip(output, gradient) if tensor.requires_grad]
        torch.autograd.backward([tensor for tensor, _ in sent], [g for _, g in sent])
    team.all_reduce(p.grad for p in parameters if p.grad is not None)
    return _detached(scalars), tuple(tensor.detach() for tensor in embeddings)


def count_pieces(total: int, micro_batch: int, team: Team = ALONE) -> int:
    """Return the number of pieces that each process cuts its part of a batch of `total` images into.

    It is the same in every process, because batch normalisation waits for all. Pieces have at least two images, because
    batch normalisation cannot take one, so they may be somewhat larger than `micro_batch`.
    """
    sizes = [stop - start for start, stop in (team.bounds(total, rank) for rank in range(team.count))]
    return min(math.ceil(max(sizes) / micro_batch), max(1, min(sizes) // 2))


def _detached(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in scalars.items()}


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
