"""Optimizers and the learning rate's schedule."""

import math
from typing import Any

import torch

from deepclust.pretraining.engine.lars import LARS
from deepclust.pretraining.engine.options import PretrainingOptions


def cosine_schedule(position: float, epochs: float, warmup: float = 0) -> float:
    """Return the share of the highest learning rate: a linear rise from 0, then half a cosine to 0.

    The cosine is that of Loshchilov & Hutter 2017, arXiv 1608.03983.

    Args:
        position: number of epochs done, with fractions.
        epochs: number of all epochs.
        warmup: number of epochs of the rise.
    """
    if position < warmup:
        return position / warmup
    if epochs <= warmup:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (position - warmup) / (epochs - warmup))))


def build_optimizer(groups: list[dict[str, Any]], options: PretrainingOptions) -> torch.optim.Optimizer:
    """Build the optimizer of the options, which updates all parameters together."""
    rate, decay = options.learning_rate, options.weight_decay
    match options.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=options.momentum, weight_decay=decay, fused=True)
        case "lars" | "larc":
            clip = options.optimizer == "larc"
            return LARS(groups, rate, options.momentum, decay, options.trust, clip, options.scale_vectors)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True)
