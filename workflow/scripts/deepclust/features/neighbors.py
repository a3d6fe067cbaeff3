"""Neighbors: for every image the nearest others, in its split or in several together, by cosine similarity."""

from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_array
from deepclust.core.progress import Progress
from deepclust.core.rows import projected, scale_rows, whitening
from deepclust.features.approximate import ApproximateSearch
from deepclust.features.options import NeighborOptions

BLOCK = 4096  # rows that are read, and searched, at once
FEW = 4096  # so few images are always searched exactly
COMPONENTS, PER_COMPONENT, FEWEST = 512, 10, 16  # of half-whitened features: at most, images for each, at least
ROUNDING = 1e-6  # of similarities
SAMPLE = 1000  # images on which the recall of an approximate search is measured

Float32 = npt.NDArray[np.float32]


def find_neighbors(
    features: Sequence[Path], output: Path, options: NeighborOptions, progress: Progress, half_whiten: bool = False
) -> float:
    """Write the k nearest neighbors of every row of `features` as int32 [N, k] to `output`; N - 1 if N ≤ k.

    Args:
        features: .npy files [N_i, D]; their rows follow one another, N is the sum of the N_i.
        half_whiten: compare principal components of these rows, each divided by the square root of its standard
            deviation. So the few directions of the largest variance do not decide alone, and noise counts less.

    The nearest comes first; among equally near ones, the lower index. No image is its own neighbor, even if others have
    the very same features. A zero vector has similarity 0 to all. Besides blocks, one float32 copy is held in memory;
    an approximate index takes about as much again, and so do half-whitened features for a while, if they have fewer
    components than dimensions.

    Returns:
        Share of the true neighbors that were found, on a sample; 1 for an exact search.

    Raises:
        DeepclustError: features are not finite.
    """
    directions = read_directions(features)
    k = min(options.k, len(directions) - 1)
    if half_whiten:
        directions = half_whitened(directions)
    search: Search = ExactSearch(directions)
    recall = 1.0
    if options.recall < 1 and len(directions) > FEW:
        search, recall = _approximate(directions, options)
    neighbors = np.empty((len(directions), k), np.int32)
    with progress.task("find neighbors", len(directions), "images") as task:
        for first in range(0, len(directions), BLOCK):
            numbers = np.arange(first, min(first + BLOCK, len(directions)))
            neighbors[numbers] = nearest_others(search, directions, numbers, k)
            task.advance(len(numbers))
    write_array(output, neighbors)
    return recall


class ExactSearch:
    """Search that compares with all rows."""

    def __init__(self, directions: Float32) -> None:
        self._directions = directions

    def __call__(self, queries: Float32, count: int) -> tuple[Float32, npt.NDArray[np.int64]]:
        """Return similarities and row numbers of the `count` nearest rows, each [n, count]."""
        similarities, indices = faiss.knn(queries, self._directions, count, faiss.METRIC_INNER_PRODUCT)
        return similarities, indices


Search = ExactSearch | ApproximateSearch


def _approximate(directions: Float32, options: NeighborOptions) -> tuple[Search, float]:
    """Return an index that searches thoroughly enough for the recall, and its recall on a sample."""
    random = np.random.default_rng(0)
    numbers = np.sort(random.choice(len(directions), min(SAMPLE, len(directions)), replace=False))
    truth = nearest_others(ExactSearch(directions), directions, numbers, options.k)
    search = ApproximateSearch(directions)
    while True:
        found = nearest_others(search, directions, numbers, options.k)
        recall = float(np.mean([_recalled(directions, *row) for row in zip(numbers, truth, found)]))
        print(f"recall {recall:.4f} with {search.settings}", flush=True)
        if recall >= options.recall:
            return search, recall
        if not search.intensify():
            return ExactSearch(directions), 1.0


def _recalled(directions: Float32, query: int, truth: npt.NDArray[np.int32], found: npt.NDArray[np.int32]) -> float:
    """Return the share of `found` [k] that are as near to a row as `truth` [k]; equally near ones count the same."""
    least = (directions[truth] @ directions[query]).min() - ROUNDING
    return float((directions[found] @ directions[query] >= least).mean())


def read_directions(paths: Sequence[Path]) -> Float32:
    """Read the rows of .npy files [N_i, D], scaled to length 1, as float32 [N, D]; zero rows stay zero.

    Raises:
        DeepclustError: a row is not finite, or the files have different dimensions.
    """
    headers = [np.load(path, mmap_mode="r") for path in paths]
    if len({header.shape[1] for header in headers}) > 1:
        dimensions = ", ".join(f"{path} has {header.shape[1]}" for path, header in zip(paths, headers))
        raise DeepclustError(f"features of splits differ in their dimensions, {dimensions}: extract them again")
    directions = np.empty((sum(map(len, headers)), headers[0].shape[1]), np.float32)
    end = 0
    for path, header in zip(paths, headers):
        start, end = end, end + len(header)
        _read(path, header, directions[start:end])
    return directions


def half_whitened(directions: Float32) -> Float32:
    """Return principal components, each divided by the root of its standard deviation, in rows of length 1 again.

    There are at most `COMPONENTS`, and for few rows one for every `PER_COMPONENT`: with more, all rows are equally far
    from one another.

    Args:
        directions: [N, D], of length 1; overwritten.

    Returns:
        [N, P]; zero if no rows differ.
    """
    mean = directions.mean(axis=0, dtype=np.float64)
    components = min(COMPONENTS, max(FEWEST, len(directions) // PER_COMPONENT))
    projection = whitening(directions, mean, components, power=0.5).astype(np.float32)
    directions -= mean.astype(np.float32)
    points = projected(directions, projection)
    scale_rows(points)
    return points


def _read(path: Path, header: np.memmap, directions: Float32) -> None:
    """Read block by block without a memory map, whose pages would count as this process's memory."""
    rows, columns = header.shape
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        offset = header.offset + first * columns * header.itemsize
        values = np.fromfile(path, header.dtype, count * columns, offset=offset).reshape(count, columns)
        block = values.astype(np.float64)  # squares of large features overflow float32
        if not (finite := np.isfinite(block).all(axis=1)).all():
            row = first + int(finite.argmin())
            raise DeepclustError(f"{path} has NaN or infinite values in row {row}: delete it to extract it again")
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        directions[first : first + count] = np.divide(block, lengths, out=np.zeros_like(block), where=lengths > 0)


def nearest_others(
    search: Search, directions: Float32, numbers: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.int32]:
    """Return the numbers int32 [n, k] of the rows of `directions` that are nearest to its rows `numbers` [n]."""
    similarities, indices = search(directions[numbers], k + 1)
    lacking = (indices < 0).any(axis=1)  # an approximate search may see too few rows
    if lacking.any():
        similarities[lacking], indices[lacking] = ExactSearch(directions)(directions[numbers[lacking]], k + 1)
    order = np.lexsort((indices, -similarities))
    indices = np.take_along_axis(indices, order, axis=1)
    # Drop the query itself; if it is not there, because k + 1 duplicates crowd it out, drop the last one.
    itself = indices == numbers[:, None]
    itself[~itself.any(axis=1), -1] = True
    others: npt.NDArray[np.int32] = indices[~itself].reshape(len(numbers), k).astype(np.int32)
    return others
