"""Fitted seeds on disk, kept one by one while a run is made, and together in `clusters.safetensors` at its end.

Tensors of `clusters.safetensors`, for every seed s that succeeded and every split:
    seed{s}/assignments/{split}    int32 [N], values 0 … k - 1
    seed{s}/probabilities/{split}  float16 [N, k], if the head is a probabilistic one
    seed{s}/weights/{name}         what the head needs to assign other images
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from deepclust.core.errors import DeepclustError
from deepclust.core.files import remove_damaged_tensors, remove_tree, write_tensors
from deepclust.heads.kit.head import Features, Prediction, SeedResult, load_head
from deepclust.models.identity import identity_beside

METADATA = "deepclust"  # a single key, because safetensors stores several keys in random order

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class FittedSeed:
    """Fitted seed of a run."""

    entry: dict[str, Any]
    """Entry in `seeds.json`."""
    tensors: Tensors
    """Part of `clusters.safetensors`, with names without `seed{s}/`; empty if the seed failed."""

    @property
    def succeeded(self) -> bool:
        """True if it has a result."""
        return bool(self.entry["status"] == "ok")


def fitted_seed(result: SeedResult, predictions: dict[str, Prediction], sizes: list[int], seconds: float) -> FittedSeed:
    """Bring a fitted head and its predictions for every split into the form in which they are stored."""
    entry = {
        "seed": result.seed,
        "status": "ok" if result.failure is None else "failed",
        "reason": result.failure,
        "objective": result.objective,
        "seconds": round(seconds, 3),
        "sizes": sizes,
        "log": result.log,
    }
    tensors = {f"weights/{name}": array for name, array in result.weights.items()}
    for split, prediction in predictions.items():
        tensors[f"assignments/{split}"] = prediction.assignments
        if prediction.probabilities is not None:
            tensors[f"probabilities/{split}"] = prediction.probabilities
    return FittedSeed(entry, tensors)


class SeedStore:
    """Folder that keeps the fitted seeds of one run, so that another attempt, or more seeds, compute only new ones."""

    def __init__(self, parent: Path, code: str, fingerprint: str) -> None:
        """Name the folder for the seeds that `code` fitted.

        Args:
            code: digest of the code. It stands first in the folder's name, so that `deepclust accept` can replace it.
            fingerprint: digest of everything else that would invalidate a seed's result; the other seeds do not.
        """
        self.folder = parent / f".seeds-{code}-{fingerprint}"

    def __contains__(self, seed: int) -> bool:
        return self._path(seed).is_file()

    def write(self, fitted: FittedSeed) -> None:
        """Keep one seed."""
        write_tensors(self._path(fitted.entry["seed"]), fitted.tensors, {METADATA: json.dumps(fitted.entry)})

    def read(self, seed: int) -> FittedSeed:
        """Read a seed that is kept."""
        entry, tensors = read_tensors(self._path(seed))
        return FittedSeed(entry, tensors)

    def remove_damaged(self, seeds: Sequence[int]) -> None:
        """Remove the seeds that cannot be read."""
        for seed in seeds:
            remove_damaged_tensors(self._path(seed))

    def remove_stale(self) -> None:
        """Remove the seeds that were fitted by other code or with other options or features."""
        for folder in self.folder.parent.glob(".seeds-*"):
            if folder != self.folder:
                remove_tree(folder)

    def _path(self, seed: int) -> Path:
        return self.folder / f"{seed}.safetensors"


def write_clusters(path: Path, seeds: list[FittedSeed], description: dict[str, Any]) -> None:
    """Write the seeds that succeeded as `clusters.safetensors`.

    Args:
        description: facts that `predict` needs: `method`, `options`, `k`, `backbones`, `dimensions`, `identities`
            (`deepclust.models.identity`), `selected` (None if every seed failed).
    """
    tensors = {
        f"seed{fitted.entry['seed']}/{name}": array for fitted in seeds for name, array in fitted.tensors.items()
    }
    write_tensors(path, tensors, {METADATA: json.dumps(description)})


def read_tensors(path: Path, prefix: str = "") -> tuple[dict[str, Any], Tensors]:
    """Read the description in a file of tensors, and the tensors whose names start with `prefix`, named without it.

    Raises:
        DeepclustError: the file is missing or damaged.
    """
    if not path.is_file():
        raise DeepclustError(f"{path} is missing: run the clustering first")
    try:
        with safe_open(path, "numpy") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118  # not a dict
            return json.loads(file.metadata()[METADATA]), {
                name.removeprefix(prefix): file.get_tensor(name) for name in names
            }
    except SafetensorError as error:
        raise DeepclustError(f"{path} is damaged ({error}): delete it and run the clustering again") from error


def read_head(clusters: Path, seed: int | None = None) -> tuple[dict[str, Any], Tensors]:
    """Read the fitted head of one seed: the description, in which that seed is `selected`, and the weights.

    Args:
        clusters: `clusters.safetensors` of a run.
        seed: one of the run's seeds; None for the one that was selected without labels.

    Raises:
        DeepclustError: the file is missing or damaged, or the seed has no result.
    """
    description, _ = read_tensors(clusters, "none/")
    seed = description["selected"] if seed is None else seed
    if seed is None:
        raise DeepclustError(f"{clusters} has no clusters: every seed failed, seeds.json says why")
    _, weights = read_tensors(clusters, f"seed{seed}/weights/")
    if not weights:
        raise DeepclustError(f"{clusters} has no result of seed {seed}")
    return {**description, "selected": seed}, weights


def predict(
    clusters: str | Path, features: str | Path | Sequence[str | Path | npt.ArrayLike], seed: int | None = None
) -> Prediction:
    """Assign new images by a saved head; `read_head` and `assign` have the arguments and errors."""
    return assign(Path(clusters), *read_head(Path(clusters), seed), features)


def assign(
    clusters: Path,
    description: dict[str, Any],
    weights: Tensors,
    features: str | Path | Sequence[str | Path | npt.ArrayLike],
) -> Prediction:
    """Assign new images by a head that `read_head` has read.

    Args:
        clusters: the file that the head is from, for the messages.
        features: `features.npy` of the same images for every backbone of the run, in its order; a single path if there
            is one backbone. Arrays [N, D_b] are taken, too, but nothing tells which backbone made them.

    Raises:
        DeepclustError: the features are not those of the run's backbones or not of the same images.
    """
    given = [features] if isinstance(features, str | Path) else features
    if not isinstance(given, list | tuple):
        raise DeepclustError("features must be a list: one for every backbone of the run")
    arrays = [_read_features(item) if isinstance(item, str | Path) else np.asarray(item) for item in given]
    dimensions = [array.shape[1] if array.ndim == 2 else f"shape {array.shape}" for array in arrays]
    if dimensions != description["dimensions"]:
        raise DeepclustError(
            f"{clusters} was fitted on features of {description['dimensions']} dimensions, these have {dimensions}"
        )
    if len(counts := {len(array) for array in arrays}) > 1:
        raise DeepclustError(f"the backbones' features are those of {', '.join(map(str, sorted(counts)))} images")
    _check_identities(clusters, description, given)
    head = load_head(description["method"])
    return head.predict(weights, arrays, head.Options(**description["options"]))


def _read_features(path: str | Path) -> Features:
    try:
        array: Features = np.load(path, mmap_mode="r")
    except OSError as error:
        raise DeepclustError(f"{path} cannot be read: {error.strerror or error}") from error
    except (EOFError, ValueError) as error:
        raise DeepclustError(f"{path} is no array of features ({error})") from error
    return array


def _check_identities(clusters: Path, description: dict[str, Any], features: Sequence[Any]) -> None:
    """Check that files of features are of the backbones that the clusters were fitted on; warn about arrays."""
    fitted = description.get("identities") or [None] * len(features)
    for name, wanted, path in zip(description["backbones"], fitted, features):
        if not isinstance(path, str | Path):
            unchecked = "whose features an array holds is not checked: give the path of features.npy"
            warnings.warn(unchecked, stacklevel=4)
            continue
        identity = identity_beside(Path(path))
        if wanted is None:
            raise DeepclustError(f"{clusters} does not say what {name} was: extract features and cluster again")
        if identity is None:
            raise DeepclustError(
                f"{path} has no record beside it that says whose features they are: extract them again"
            )
        if identity != wanted:
            raise DeepclustError(
                f"{path} is not of the backbone, or not read out in the way, that {clusters} was fitted on ({name})"
            )
