"""Greedy k-means++: starting points for several restarts at once.

Arthur & Vassilvitskii 2007; greedy, as in scikit-learn: each step draws 2 + ln k candidates and takes the one that
lowers the sum of squared distances most.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def plus_plus(points: Tensor, k: int, generators: Sequence[np.random.Generator]) -> Tensor:
    """Choose `k` of `points` [n, D] for every generator.

    Returns:
        Float32 [R, k, D], where R is the number of generators.
    """
    count, restarts = len(points), len(generators)
    candidates = 2 + int(math.log(k))
    # A generator makes all its draws at once, so that they do not depend on the other restarts.
    draws = torch.from_numpy(np.stack([generator.random((k, candidates)) for generator in generators])).to(
        points.device
    )
    squares = points.square().sum(1)
    chosen = torch.empty(restarts, k, dtype=torch.int64, device=points.device)
    chosen[:, 0] = (draws[:, 0, 0] * count).long()
    nearest = _squared_distances(points, squares, chosen[:, :1])[:, 0]
    numbers = torch.arange(restarts, device=points.device)
    for step in range(1, k):
        cumulative = nearest.cumsum(1, dtype=torch.float64) if points.device.type == "cpu" else exact_sums(nearest)
        drawn = torch.searchsorted(cumulative, draws[:, step] * cumulative[:, -1:], right=True).clamp(max=count - 1)
        possible = torch.minimum(nearest[:, None], _squared_distances(points, squares, drawn))
        best = possible.sum(2).argmin(1)
        chosen[:, step] = drawn[numbers, best]
        nearest = possible[numbers, best]
    return points[chosen]


def exact_sums(distances: Tensor) -> Tensor:
    """Return the cumulative sums of each row of [R, n], up to a factor, float64, the same on a GPU from run to run.

    A GPU sums in an order that varies. The order does not matter for integers; here the largest is 2^40.
    """
    largest = distances.amax(1, keepdim=True).double()
    shares = distances / torch.where(largest > 0, largest, 1)
    return (shares * 2**40).long().cumsum(1).double()


def _squared_distances(points: Tensor, squares: Tensor, chosen: Tensor) -> Tensor:
    """Return the squared distances from the `chosen` [R, L] to all points, [R, L, n]."""
    products = points[chosen.flatten()] @ points.T
    apart = squares + squares[chosen.flatten()][:, None] - 2 * products
    return apart.clamp_(min=0).view(*chosen.shape, len(points))
