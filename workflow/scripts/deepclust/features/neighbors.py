"""Neighbors: for every image the nearest others of its split by cosine similarity, found exactly."""

from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from deepclust.common.errors import DeepclustError
from deepclust.common.files import write_array
from deepclust.common.progress import Progress

BLOCK = 4096  # rows that are read, and searched, at once

Float32 = npt.NDArray[np.float32]


def find_neighbors(features: Path, output: Path, k: int, progress: Progress) -> None:
    """Write the `k` nearest neighbors of every row of `features` (.npy [N, D]) as int32 [N, k] to `output`.

    The nearest comes first; of equally near ones, the lower index. No image is its own neighbor, also where others have
    the very same features. A zero vector has similarity 0 to all. Besides blocks, one float32 copy is held in memory.

    Raises:
        DeepclustError: there are not more than `k` images, or features are not finite.
    """
    directions = read_directions(features)
    if k >= len(directions):
        raise DeepclustError(
            f"{k} neighbors need at least {k + 1} images, {features} has {len(directions)}: lower neighbors.k"
        )
    neighbors = np.empty((len(directions), k), np.int32)
    with progress.task("find neighbors", len(directions), "images") as task:
        for first in range(0, len(directions), BLOCK):
            queries = directions[first : first + BLOCK]
            neighbors[first : first + BLOCK] = nearest_others(directions, queries, first, k)
            task.advance(len(queries))
    write_array(output, neighbors)


def read_directions(path: Path) -> Float32:
    """Rows of an .npy file [N, D], scaled to length 1, as float32; zero rows stay zero.

    Read block by block without a memory map, whose pages would count as this process's memory.

    Raises:
        DeepclustError: a row is not finite.
    """
    header = np.load(path, mmap_mode="r")
    rows, columns = header.shape
    directions = np.empty((rows, columns), np.float32)
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        offset = header.offset + first * columns * header.itemsize
        values = np.fromfile(path, header.dtype, count * columns, offset=offset).reshape(count, columns)
        block = values.astype(np.float64)  # squares of large features overflow float32
        if not np.isfinite(block).all():
            raise DeepclustError(f"{path} has NaN or infinite values from row {first} on: extract the features again")
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        directions[first : first + count] = np.divide(block, lengths, out=np.zeros_like(block), where=lengths > 0)
    return directions


def nearest_others(directions: Float32, queries: Float32, first: int, k: int) -> npt.NDArray[np.int32]:
    """Indices int32 [n, k] of the rows of `directions` nearest to `queries`, which are its rows from `first` on."""
    similarities, indices = faiss.knn(queries, directions, k + 1, faiss.METRIC_INNER_PRODUCT)
    order = np.lexsort((indices, -similarities))
    indices = np.take_along_axis(indices, order, axis=1)
    # Drop the query itself; where k + 1 duplicates crowd it out, drop the last one.
    itself = indices == np.arange(first, first + len(queries))[:, None]
    itself[~itself.any(axis=1), -1] = True
    others: npt.NDArray[np.int32] = indices[~itself].reshape(len(queries), k).astype(np.int32)
    return others
