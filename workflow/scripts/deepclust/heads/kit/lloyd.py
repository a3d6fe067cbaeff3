"""Lloyd's iterations of several starts at once, with one product of all points and the centroids of all starts.

Sums are kept and changed only by the points that change their cluster. So late iterations cost little more than that
product. The objective follows from the sums alone, however coarsely the product was computed.
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
    """Points that are clustered."""

    rows: Tensor
    """Float32 [N, D]; near the origin, because distances are computed as differences of squares."""
    spherical: bool
    """True if centroids have length 1; the rows must then have length 1 too."""

    @cached_property
    def coarse(self) -> Tensor:
        """Rows in bf16 if products of that type are fast on the device, else in float32."""
        return self.rows.bfloat16() if has_fast_bf16(self.rows.device) else self.rows

    @cached_property
    def squares(self) -> float:
        """Sum of the squared lengths of all rows."""
        return sum(float(block.double().square().sum()) for block in self.rows.split(ROWS))


@dataclass(frozen=True)
class Clustering:
    """Result of one start."""

    centroids: Tensor
    """Float32 [k, D]."""
    objective: float
    """Sum of squared distances."""
    clusters: int
    """Number of clusters that have points, at most k."""
    iterations: int

    @property
    def rank(self) -> tuple[int, float]:
        """Key for comparing clusterings, the best one lowest: by the clusters that have points, then the objective."""
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
        The last centroids of every start, and the objective of the assignments that they are the means of.
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
    """Iterate starts [R, k, D] in float32; the objectives are those of the last centroids, over all points."""
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
    """Return the nearest of `centroids` [R, k, D] for every row and start, int32 [N, R]."""
    count, k, dimension = centroids.shape
    rows = points.coarse if coarse else points.rows
    # The nearest centroid maximises x·c - |c|²/2. A part that all clusters of a start share changes no order but costs
    # precision, so it is subtracted.
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
    """Return the squared distance of every row to its centroid: `centroids` [k, D], `labels` [N] → float32 [N]."""
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
            True for every start that had no empty cluster to fill, bool [R].
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
        """Return the sum of squared distances of the points to their clusters' means or directions, float64 [R]."""
        # With c the sum of a cluster's n points: Σ|x - c/n|² = Σ|x|² - |c|²/n, and Σ|x - c/|c||² = Σ|x|² - 2|c| + n.
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
        """Give the empty clusters of a start the points farthest from their centroids; return whether any were far."""
        empty = (self.counts[number] == 0).nonzero().flatten()
        labels = self._labels[:, number].clone()
        # Distances are those to the means of this step, because the centroids are still those from before it.
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
        """Bring sums and counts from clusters `old` to `new`, int32 [N, R]; -1 in `old` means no cluster yet."""
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
