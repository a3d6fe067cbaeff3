"""Neighbor graph of images, sparse and connected, and its leading eigenvectors."""

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from deepclust.core.errors import DeepclustError
from deepclust.core.rows import blocks
from deepclust.core.seeding import derive_seed

BLOCK = 1024  # components compared with all others at once
DENSE = 1000  # all eigenvectors are computed at once for at most this many images
TOLERANCE = 1e-4  # relative error of eigenvalues
ONE_SIDED = 0.5  # weight of an edge that only one of its two images has among its neighbors, and of bridges

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def neighbor_graph(neighbors: list[npt.NDArray[np.int32]], limit: int, rows: Float32) -> sparse.csr_array:
    """Return symmetric weights between N images: 1 for neighbors of each other, 0.5 if only one is the other's.

    Weights are means over backbones. Eigenvectors and merges are arbitrary between parts that nothing joins. So bridges
    between the images in the middle of two parts join each part to its nearest one, until there is a single part
    (Borůvka 1926).

    Args:
        neighbors: array [N, n] for every backbone.
        limit: number of the nearest neighbors that are used; all if there are fewer.
        rows: features [N, D], which decide between which images the bridges are.
    """
    count = len(rows)
    graph = sparse.csr_array((count, count), dtype=np.float64)
    for array in neighbors:
        nearest = np.asarray(array[:, :limit])
        starts = np.arange(count + 1, dtype=np.int32) * nearest.shape[1]
        directed = sparse.csr_array(
            (np.full(nearest.size, ONE_SIDED / len(neighbors)), nearest.ravel(), starts), (count, count)
        )
        graph = graph + directed + directed.T
    parts, part = connected_components(graph, directed=False)
    while parts > 1:
        graph = graph + _bridges(rows, part, parts)
        parts, part = connected_components(graph, directed=False)
    return graph


def _bridges(rows: Float32, part: npt.NDArray[np.int32], parts: int) -> sparse.csr_array:
    """Return edges from every part to the nearest other one."""
    members = sparse.csr_array((np.ones(len(rows), np.float32), (part, np.arange(len(rows)))), (parts, len(rows)))
    means = (members @ rows) / np.bincount(part)[:, None].astype(np.float32)
    middles = _middles(rows, part, means)
    squares = np.square(means).sum(axis=1)
    nearest = np.empty(parts, np.int64)
    for block in blocks(parts, BLOCK):
        apart = squares - 2 * means[block] @ means.T
        apart[np.arange(len(apart)), np.arange(parts)[block]] = np.inf
        nearest[block] = apart.argmin(axis=1)
    edges = np.unique(np.sort(np.stack([np.arange(parts), nearest]), axis=0), axis=1)
    one, other = middles[edges].astype(np.int32)
    directed = sparse.csr_array((np.full(len(one), ONE_SIDED), (one, other)), (len(rows), len(rows)))
    return directed + directed.T


def _middles(rows: Float32, part: npt.NDArray[np.int32], means: Float32) -> npt.NDArray[np.int64]:
    """Return the image nearest to its mean for every part."""
    parts = (rows[block] - means[part[block]] for block in blocks(len(rows), BLOCK))
    apart = np.concatenate([np.square(own).sum(axis=1) for own in parts])
    order = np.lexsort((apart, part))
    first: npt.NDArray[np.int64] = order[np.searchsorted(part[order], np.arange(len(means)))]
    return first


def leading_eigenpairs(graph: sparse.csr_array, k: int) -> tuple[Float64, Float64]:
    """Return the `k` (at most N) largest eigenvalues of D^-1/2 A D^-1/2, falling, and their eigenvectors [N, k].

    Raises:
        DeepclustError: the eigenvectors do not converge.
    """
    count = graph.shape[0]
    degrees = graph.sum(axis=1)
    scale = sparse.diags_array(1 / np.sqrt(np.where(degrees > 0, degrees, 1)))  # a single image has no neighbors
    matrix = scale @ graph @ scale
    if count <= DENSE or k >= count - 1:  # Lanczos iterations do not find them all
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[::-1][:k], vectors[:, ::-1][:, :k]
    start = np.random.default_rng(derive_seed("spectral")).normal(size=count)
    try:
        values, vectors = eigsh(matrix, k, which="LA", v0=start, tol=TOLERANCE)
    except ArpackNoConvergence as error:
        found = len(error.eigenvalues)
        raise DeepclustError(
            f"only {found} of {k} eigenvectors of the neighbor graph converged: use more neighbors"
        ) from error
    order = np.argsort(-values)
    return values[order], vectors[:, order]
