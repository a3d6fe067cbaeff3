"""How well a partition keeps neighbors together. No labels."""

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]


def modularity(assignments: Integers, neighbors: Integers, k: int) -> float:
    """How much more often neighbors share a cluster than they would by chance, between -1 and 1; higher is better.

    The modularity of a partition of the neighbor graph (Newman 2006, doi.org/10.1073/pnas.0601602103; for directed
    graphs Leicht & Newman 2008): the share of the edges that stay in a cluster less what it would be if edges were
    drawn at random between images with as many edges. One cluster for all has 0.

    Args:
        assignments: [N].
        neighbors: [N, n].
    """
    kept, tails, heads = _edges(assignments, neighbors, k)
    total = max(1, neighbors.size)
    return float(kept.sum() / total - (tails / total) @ (heads / total))


def cohesion(assignments: Integers, neighbors: Integers, k: int) -> Float64:
    """For every cluster, the share of its images' neighbors that are in it, [k]; 0 for empty ones."""
    kept, tails, _ = _edges(assignments, neighbors, k)
    return kept / np.maximum(tails, 1)


def _edges(assignments: Integers, neighbors: Integers, k: int) -> tuple[Float64, Float64, Float64]:
    """For every cluster, edges that stay in it, that leave from it or stay, and that reach it or stay, each [k]."""
    kept, heads = np.zeros(k), np.zeros(k)
    for column in neighbors.T:
        reached = assignments[column]
        heads += np.bincount(reached, minlength=k)
        kept += np.bincount(reached[reached == assignments], minlength=k)
    tails: Float64 = np.bincount(assignments, minlength=k).astype(np.float64) * neighbors.shape[1]
    return kept, tails, heads
