"""A map of the features in two dimensions: t-SNE of a fixed sample of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_tensors
from deepclust.core.seeding import derive_seed

COMPONENTS = 50
_FEWEST = 10  # images; fewer have no neighborhoods to preserve


def sample_ids(count: int, points: int) -> npt.NDArray[np.int64]:
    """Return `points` of `count` image numbers, sorted; the same for all features of the same images."""
    generator = np.random.default_rng(derive_seed("map", count, points))
    return np.sort(generator.permutation(count)[:points]).astype(np.int64)


def read_features(
    backbones: Sequence[Sequence[Path]], points: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Read a sample of the features of one or several backbones.

    Args:
        backbones: for each backbone the `features.npy` of the splits, [N_split, D], in the order in which the splits
            are concatenated.
        points: size of the sample.

    Returns:
        Image numbers, int64 [n], and their features, float32 [n, sum of D]. The features of each backbone have unit
        length, so that each has the same weight in the cosine similarity of all together.

    Raises:
        DeepclustError: the backbones have features of different numbers of images.
    """
    opened = [[np.load(path, mmap_mode="r", allow_pickle=False) for path in splits] for splits in backbones]
    counts = [sum(len(features) for features in splits) for splits in opened]
    if len(set(counts)) != 1:
        raise DeepclustError(f"the backbones have features of different numbers of images: {counts}")
    ids = sample_ids(counts[0], points)
    parts = []
    for splits in opened:
        starts = np.cumsum([0, *(len(features) for features in splits)])
        rows = [features[ids[(ids >= a) & (ids < b)] - a] for features, a, b in zip(splits, starts, starts[1:])]
        parts.append(_unit_length(np.concatenate(rows).astype(np.float32)))
    return ids, np.concatenate(parts, axis=1)


def _unit_length(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def project(features: npt.NDArray[np.float32], perplexity: float) -> npt.NDArray[np.float32]:
    """Map unit-length features by t-SNE [van der Maaten and Hinton 2008; openTSNE] of their cosine similarity.

    Between vectors of unit length the squared Euclidean distance is twice one minus the cosine. So t-SNE can use
    Euclidean distances, after PCA to 50 dimensions, which keeps them as well as possible.

    Args:
        features: float32 [n, D], unit length.

    Returns:
        Coordinates, float32 [n, 2]. The same input gives the same map, with any number of threads.

    Raises:
        DeepclustError: a feature is not finite.
    """
    from openTSNE import TSNE
    from openTSNE.initialization import random as random_start
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if not np.isfinite(features).all():
        raise DeepclustError("some features are not finite: if their backbone was trained here, see its curves")
    count = len(features)
    components = min(COMPONENTS, *features.shape)
    with threadpool_limits(1):  # sums of several threads round differently, and t-SNE amplifies that
        reduced = _principal_components(features, components)
        if count < _FEWEST or components < 2:
            return np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - components)))).astype(np.float32)
        spread = reduced[:, 0].std()
        start = 1e-4 * reduced[:, :2] / spread if spread > 0 else random_start(reduced, 2, random_state=0)
        tsne = TSNE(
            perplexity=min(perplexity, (count - 1) / 3),
            initialization=start,
            neighbors="exact",
            negative_gradient_method="bh",
            n_jobs=1,
            random_state=0,
        )
        return np.asarray(tsne.fit(reduced), np.float32)


def _principal_components(features: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """Return the first `count` principal components of each row; the largest loading of each axis is positive."""
    centered = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    left, strengths, axes = np.linalg.svd(centered, full_matrices=False)
    signs = np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)
    return np.asarray((left * strengths * signs)[:, :count])


def write_map(path: Path, ids: npt.NDArray[np.int64], coordinates: npt.NDArray[np.float32]) -> None:
    """Write a map: `ids` int64 [n], numbers of the images in all scored splits, and `xy` float32 [n, 2]."""
    write_tensors(path, {"ids": ids, "xy": coordinates})


def read_map(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Read the file of `write_map`."""
    from safetensors.numpy import load_file

    tensors = load_file(path)
    return tensors["ids"], tensors["xy"]
