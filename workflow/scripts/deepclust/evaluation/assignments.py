"""Assignments in `clusters.safetensors`, read for scores and figures; `heads/kit/store.py` writes the file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError


def read_assignments(
    path: Path, seeds: Sequence[int], splits: Sequence[str], k: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Read the cluster of every image for every seed, int64 [S, N_split] per split.

    Args:
        path: `clusters.safetensors` with `seed<seed>/assignments/<split>`, integers [N_split].
        k: number of clusters; None: it is not checked.

    Raises:
        DeepclustError: the file is damaged, a seed or split is missing, seeds have different numbers of images, or a
            cluster is not in 0 … k-1.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            per_seed = [[file.get_tensor(f"seed{seed}/assignments/{split}") for seed in seeds] for split in splits]
    except SafetensorError as error:
        raise DeepclustError(f"{path}: {error}: delete it and cluster again") from error
    assignments = []
    for split, tensors in zip(splits, per_seed):
        if len(lengths := {len(tensor) for tensor in tensors}) > 1:
            counts = ", ".join(map(str, sorted(lengths)))
            raise DeepclustError(f"{path}: seeds have clusters of {counts} images of {split}: delete it, cluster again")
        stacked = np.stack(tensors).astype(np.int64)
        if k is not None and stacked.size and not 0 <= stacked.min() <= stacked.max() < k:
            raise DeepclustError(f"{path} holds clusters {stacked.min()} to {stacked.max()}, expected 0 to {k - 1}")
        assignments.append(stacked)
    return assignments
