"""An approximate index of directions: cells, compressed vectors, and exact comparison of the most promising ones.

Inverted file with product quantisation (Jégou, Douze & Schmid 2011, doi.org/10.1109/TPAMI.2010.57) in the 4-bit form
that is scanned in registers (André et al. 2017), all by faiss.
"""

import math
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

PER_CELL = 39  # images per cell, at least: what faiss wants to train with
TRAINED_PER_CELL = 64  # and at most, of those it is trained on
SUBVECTOR = 2  # dimensions that share a code of 4 bits

Float32 = npt.NDArray[np.float32]


class ApproximateSearch:
    """Search that looks at the nearest cells only; `intensify` makes it look at more."""

    def __init__(self, directions: Float32) -> None:
        """Train on a part of `directions` [N, D], of length 1, and index all."""
        count, dimension = directions.shape
        padded = math.ceil(dimension / (4 * SUBVECTOR)) * 4 * SUBVECTOR
        self._padding = padded - dimension
        self._cells = max(1, min(int(2 * math.sqrt(count)), count // PER_CELL))
        codes = padded // SUBVECTOR
        self._index: Any = faiss.index_factory(
            padded, f"IVF{self._cells},PQ{codes}x4fs,Refine(SQfp16)", faiss.METRIC_INNER_PRODUCT
        )
        self._inverted = faiss.extract_index_ivf(self._index)
        self._inverted.cp.max_points_per_centroid = TRAINED_PER_CELL
        self._inverted.cp.min_points_per_centroid = 1
        chosen = np.random.default_rng(0).choice(count, min(count, TRAINED_PER_CELL * self._cells), replace=False)
        self._index.train(self._padded(directions[np.sort(chosen)]))
        for first in range(0, count, 2**16):
            self._index.add(self._padded(directions[first : first + 2**16]))
        self._probes, self._factor, self._count = min(8, self._cells), 4, count

    @property
    def settings(self) -> str:
        """Describe how thoroughly it searches."""
        return f"{self._probes} of {self._cells} cells and {self._factor} candidates per neighbor"

    def intensify(self) -> bool:
        """Look at twice as many cells and candidates; return False if all cells were searched already."""
        if self._probes == self._cells:
            return False
        self._probes, self._factor = min(2 * self._probes, self._cells), 2 * self._factor
        return True

    def __call__(self, queries: Float32, count: int) -> tuple[Float32, npt.NDArray[np.int64]]:
        """Return similarities and row numbers of the nearest rows found, each [n, count]; -1: none."""
        self._inverted.nprobe = self._probes
        self._index.k_factor = min(self._factor, self._count / count)
        similarities, indices = self._index.search(self._padded(queries), count)
        return similarities, indices

    def _padded(self, rows: Float32) -> Float32:
        return np.pad(rows, ((0, 0), (0, self._padding))) if self._padding else np.ascontiguousarray(rows)
