"""Measures of how well a partition keeps neighbors together, without labels."""

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]


def modularity(assignments: Integers, neighbors: Integers, k: int) -> float:
    """Return the modularity of a partition of the neighbor graph, between -1 and 1; higher is better.

    It says how much more often neighbors share a cluster than they would by chance (Newman 2006,
    doi.org/10.1073/pnas.0601602103; for directed graphs Leicht & Newman 2008): the share of the edges that stay in a
    cluster, less the share expected if edges were drawn at random between images with as many edges. A single cluster
    has modularity 0.

    Args:
        assignments: [N].
        neighbors: [N, n].
    """
    kept, tails, heads = _edges(assignments, neighbors, k)
    total = max(1, neighbors.size)
    # Leicht & Newman 2008: Q = Σ over clusters of kept / m - tails · heads / m², with m edges.
    return float(kept.sum() / total - (tails / total) @ (heads / total))


def cohesion(assignments: Integers, neighbors: Integers, k: int) -> Float64:
    """Return the share of the neighbors of a cluster's images that are in it too, [k]; 0 for empty clusters."""
    kept, tails, _ = _edges(assignments, neighbors, k)
    return kept / np.maximum(tails, 1)


def _edges(assignments: Integers, neighbors: Integers, k: int) -> tuple[Float64, Float64, Float64]:
    """Count the edges within every cluster, those that start in it and those that end in it, each [k]."""
    kept, heads = np.zeros(k), np.zeros(k)
    for column in neighbors.T:
        reached = assignments[column]
        heads += np.bincount(reached, minlength=k)
        kept += np.bincount(reached[reached == assignments], minlength=k)
    tails: Float64 = np.bincount(assignments, minlength=k).astype(np.float64) * neighbors.shape[1]
    return kept, tails, heads
