"""Lloyd's iterations of several starts at once: one product of all points with the centroids of all starts.

Sums are kept, and changed only by the points that change their cluster, so that late iterations cost little more than
that product. The objective follows from the sums alone, however coarsely the product was computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from deepclust.core.device import has_fast_bf16

SCORES = {"cpu": 2**22, "cuda": 2**27}  # scores of points against centroids that are held at once
ROWS = 2**16  # points added up at once, in float32
REPAIRS = 5  # attempts to fill clusters that are empty at the end


@dataclass(frozen=True)
class Points:
    """What is clustered."""

    rows: Tensor
    """Float32 [N, D]; near the origin, because distances are computed as differences of squares."""
    spherical: bool
    """Whether centroids have length 1, as the rows should then."""

    @cached_property
    def coarse(self) -> Tensor:
        """The rows in bf16, where products of that type are fast."""
        return self.rows.bfloat16() if has_fast_bf16(self.rows.device) else self.rows

    @cached_property
    def squares(self) -> float:
        """Sum of the squared lengths of all rows."""
        return sum(float(block.double().square().sum()) for block in self.rows.split(ROWS))


@dataclass(frozen=True)
class Clustering:
    """What one start led to."""

    centroids: Tensor
    """Float32 [k, D]."""
    objective: float
    """Sum of squared distances."""
    clusters: int
    """How many of the k have points."""
    iterations: int

    @property
    def rank(self) -> tuple[int, float]:
        """The best is lowest: without empty clusters if there is such a one, then by the objective."""
        return -self.clusters, self.objective


def iterate(
    points: Points,
    starts: Tensor,
    tolerance: float,
    max_iter: int,
    *,
    coarse: bool,
    ended: Callable[[], None] = lambda: None,
) -> list[Clustering]:
    """Run Lloyd's iterations from every start until its objective improves by less than the share `tolerance`.

    Args:
        starts: centroids, float32 [R, k, D].
        coarse: whether the points' clusters are chosen with bf16 products.
        ended: called whenever a start has ended.

    Returns:
        For every start its last centroids, and the objective of the assignments that they are the means of.
    """
    results: list[Clustering | None] = [None] * len(starts)
    state = _State(points, starts)
    running = torch.arange(len(starts))
    previous = torch.full((len(starts),), float("inf"), dtype=torch.float64)
    for iteration in range(1, max_iter + 1):
        settled = state.step(assign(points, state.centroids, coarse=coarse)).cpu()
        objective = state.objective().cpu()
        finished = settled & (previous - objective <= tolerance * objective) | (iteration == max_iter)
        for place in finished.nonzero().flatten().tolist():
            clusters = int((state.counts[place] > 0).sum())
            results[running[place]] = Clustering(
                state.centroids[place].clone(), float(objective[place]), clusters, iteration
            )
            ended()
        if finished.all():
            break
        state.keep(~finished)
        running, previous = running[~finished], objective[~finished]
    return [result for result in results if result is not None]


def polish(points: Points, starts: Tensor, tolerance: float, max_iter: int) -> list[Clustering]:
    """Iterate starts [R, k, D] in float32; the objectives are then those of the centroids, over all points."""
    results: list[Clustering | None] = [None] * len(starts)
    running, iterations = list(range(len(starts))), [0] * len(starts)
    for attempt in range(1 + REPAIRS):
        again = []
        for place, found in zip(running, iterate(points, starts, tolerance, max_iter, coarse=False)):
            iterations[place] += found.iterations
            labels = assign(points, found.centroids[None], coarse=False)[:, 0]
            clusters = int((torch.bincount(labels, minlength=len(found.centroids)) > 0).sum())
            if clusters == found.clusters or attempt == REPAIRS:
                objective = float(distances(points, found.centroids, labels).double().sum())
                results[place] = Clustering(found.centroids, objective, clusters, iterations[place])
            else:
                again.append((place, found.centroids))
        if not again:
            break
        running, starts = [place for place, _ in again], torch.stack([centroids for _, centroids in again])
    return [result for result in results if result is not None]


def assign(points: Points, centroids: Tensor, *, coarse: bool) -> Tensor:
    """The nearest of `centroids` [R, k, D] for every row and start, int32 [N, R]."""
    count, k, dimension = centroids.shape
    rows = points.coarse if coarse else points.rows
    # What all clusters of a start have in common changes no order, but costs precision.
    offsets = -centroids.square().sum(2) / 2
    matrix = (centroids - centroids.mean(1, keepdim=True)).reshape(-1, dimension).to(rows.dtype)
    bias = (offsets - offsets.mean(1, keepdim=True)).flatten().to(rows.dtype)
    labels = torch.empty(len(rows), count, dtype=torch.int32, device=rows.device)
    block = max(256, SCORES[rows.device.type] // len(matrix))
    for first in range(0, len(rows), block):
        scores = F.linear(rows[first : first + block], matrix, bias)
        labels[first : first + block] = scores.view(-1, count, k).max(2).indices
    return labels


def distances(points: Points, centroids: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of every row to its centroid: `centroids` [k, D], `labels` [N] → float32 [N]."""
    parts = zip(points.rows.split(ROWS), labels.split(ROWS))
    return torch.cat([(rows - centroids[chosen]).square().sum(1) for rows, chosen in parts])


class _State:
    """Clusters of the starts that are still running."""

    def __init__(self, points: Points, centroids: Tensor) -> None:
        count, k, dimension = centroids.shape
        device = centroids.device
        self._points = points
        self.centroids = centroids
        self.counts = torch.zeros(count, k, dtype=torch.int64, device=device)
        self._sums = torch.zeros(count, k, dimension, dtype=torch.float64, device=device)
        self._labels = torch.full((len(points.rows), count), -1, dtype=torch.int32, device=device)

    def step(self, labels: Tensor) -> Tensor:
        """Take over new clusters, int32 [N, R], and move the centroids.

        Returns:
            Which starts had no empty cluster to fill, bool [R].
        """
        self._move(self._labels, labels)
        self._labels = labels
        lacking = (self.counts == 0).any(dim=1).tolist()
        settled = torch.tensor([not (lacks and self._fill(number)) for number, lacks in enumerate(lacking)])
        if self._points.spherical:
            lengths = self._sums.norm(dim=2, keepdim=True)
            means = self._sums / lengths.where(lengths > 0, 1)
        else:
            means = self._sums / self.counts.clamp(min=1)[..., None]
        # A cluster that stays empty keeps its centroid.
        self.centroids = torch.where(self.counts[..., None] > 0, means.float(), self.centroids)
        return settled

    def objective(self) -> Tensor:
        """Sum of squared distances of the points to the means, or the directions, of their clusters: float64 [R]."""
        if self._points.spherical:
            saved = 2 * self._sums.norm(dim=2).sum(1) - len(self._points.rows)
        else:
            saved = (self._sums.square().sum(2) / self.counts.clamp(min=1)).sum(1)
        objective: Tensor = self._points.squares - saved
        return objective.clamp(min=0)

    def keep(self, which: Tensor) -> None:
        """Go on with these starts only."""
        if which.all():
            return
        which = which.to(self.counts.device)
        self.centroids, self.counts, self._sums = self.centroids[which], self.counts[which], self._sums[which]
        self._labels = self._labels[:, which].contiguous()

    def _fill(self, number: int) -> bool:
        """Give each empty cluster of a start the point farthest from its centroid; whether there was such a point."""
        empty = (self.counts[number] == 0).nonzero().flatten()
        labels = self._labels[:, number].clone()
        # Of the means as they are now, for the centroids are those from before the step.
        means = (self._sums[number] / self.counts[number].clamp(min=1)[:, None]).float()
        far = distances(self._points, means, labels)
        threshold = 1e-9 * self._points.squares / len(labels)  # equal points differ by rounding
        order = far.sort(descending=True, stable=True).indices[: len(empty)]
        order = order[far[order] > threshold]
        if not len(order):
            return False
        labels[order] = empty[: len(order)].int()
        changed = self._labels.clone()
        changed[:, number] = labels
        self._move(self._labels, changed)
        self._labels = changed
        return True

    def _move(self, old: Tensor, new: Tensor) -> None:
        """Bring sums and counts from clusters `old` to `new`, int32 [N, R]; -1 in `old`: in none yet."""
        count, k, dimension = self._sums.shape
        for first in range(0, len(new), ROWS):
            before, after = old[first : first + ROWS], new[first : first + ROWS]
            row, start = (before != after).nonzero(as_tuple=True)
            leaves = before[row, start].long()
            target = torch.cat([start * k + after[row, start], (start * k + leaves)[leaves >= 0]])
            source = torch.cat([row, row[leaves >= 0]])
            sign = torch.ones(len(target), device=target.device)
            sign[len(row) :] = -1
            target, order = target.sort(stable=True)
            sizes = torch.bincount(target, minlength=count * k)
            added = F.embedding_bag(
                source[order],
                self._points.rows[first : first + ROWS],
                sizes.cumsum(0) - sizes,
                mode="sum",
                per_sample_weights=sign[order],
            )
            self._sums += added.view(count, k, dimension)
            self.counts += (
                torch.bincount(target[sign[order] > 0], minlength=count * k)
                - torch.bincount(target[sign[order] < 0], minlength=count * k)
            ).view(count, k)
