"""Clusters of other heads, for a head that combines them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.heads.kit.head import Partition
from deepclust.heads.kit.store import read_tensors


def read_members(files: Mapping[str, Path], k: int, train: Sequence[str], count: int) -> list[Partition]:
    """Read the clusters of the training images by every member and seed that has a result.

    Args:
        files: `clusters.safetensors` by name of the member.
        train: training splits, whose images follow one another.
        count: number of images in all training splits.

    Raises:
        DeepclustError: a file is missing, or it is of other images, splits or another k.
    """
    partitions = []
    for name, path in files.items():
        description, tensors = read_tensors(path)
        if description["k"] != k:
            raise DeepclustError(f"{path} has {description['k']} clusters, not {k}: cluster {name} again")
        for seed in sorted({int(key.split("/")[0].removeprefix("seed")) for key in tensors}):
            assignments = _join(tensors, f"seed{seed}/assignments", train)
            if assignments is None or len(assignments) != count:
                raise DeepclustError(f"{path} is not of the same {count} images: cluster {name} again")
            probabilities = _join(tensors, f"seed{seed}/probabilities", train)
            partitions.append(Partition(name, seed, assignments, probabilities))
    return partitions


def _join(tensors: Mapping[str, npt.NDArray[Any]], prefix: str, splits: Sequence[str]) -> npt.NDArray[Any] | None:
    """Concatenate the tensors of the splits; return None if one is missing."""
    names = [f"{prefix}/{split}" for split in splits]
    if not all(name in tensors for name in names):
        return None
    return tensors[names[0]] if len(names) == 1 else np.concatenate([tensors[name] for name in names])
