"""Clustering of a run: every seed of a head is fitted once and kept, and all together become one result."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.files import json_digest, sha256_file, write_json
from deepclust.core.progress import Progress
from deepclust.core.rows import LARGEST, blocks
from deepclust.heads.kit.head import (
    CombiningOptions,
    Head,
    HeadFacts,
    HeadOptions,
    Prediction,
    SeedResult,
    TrainingData,
    certain,
    load_head,
)
from deepclust.heads.kit.members import read_members
from deepclust.heads.kit.monitors import unusable_sizes
from deepclust.heads.kit.store import SeedStore, fitted_seed, write_clusters
from deepclust.models.identity import identity_beside

CRITERION = "objective on the training splits (label-free)"


Arrays = dict[str, list[npt.NDArray[Any]]]


@dataclass(frozen=True)
class ClusteringJob:
    """Files and options of a clustering."""

    method: str
    options: HeadOptions
    k: int
    seeds: Sequence[int]
    backbones: Sequence[str]
    train: Sequence[str]
    """Splits that the head is fitted on."""
    features: dict[str, list[Path]]
    """`features.npy` of every backbone, for every split that is assigned, training splits included."""
    neighbors: list[Path] = field(default_factory=list)
    """Neighbors (.npy) of every backbone among the images of all training splits; empty for heads that need none."""
    members: dict[str, Path] = field(default_factory=dict)
    """`clusters.safetensors` of other heads' runs, by name; empty for heads that read none."""
    native: Path | None = None
    """The backbone's `native.safetensors`, for the head that needs it."""


def cluster(run: ClusteringJob, clusters: Path, log: Path, *, code: str, progress: Progress) -> None:
    """Fit the seeds of a run that no earlier attempt has fitted; write `clusters.safetensors` and `seeds.json`.

    If every seed failed, the files say so and no seed is selected. This is a result, because another attempt would find
    the same.

    Args:
        code: digest of the code; seeds that other code fitted are not taken over.

    Raises:
        DeepclustError: files do not fit together, or the head cannot be fitted on them.
    """
    head = load_head(run.method)
    features = _open(run.features)
    _check(run, head.FACTS, features)
    identities = _identities(run)
    store = SeedStore(clusters.parent, code, fingerprint(run))
    store.remove_damaged(run.seeds)
    missing = [seed for seed in run.seeds if seed not in store]
    if missing:
        _check_finite(run, features)
        _fit(run, head, features, missing, store, progress)
    seeds = [store.read(seed) for seed in run.seeds]
    succeeded = [fitted.entry for fitted in seeds if fitted.succeeded]
    if not succeeded:
        first = seeds[0].entry
        print(f"warning: every seed failed; seed {first['seed']}: {first['reason']}", file=sys.stderr, flush=True)
    facts = {
        "method": run.method,
        "k": run.k,
        "backbones": list(run.backbones),
        "selected": min(succeeded, key=lambda entry: entry["objective"])["seed"] if succeeded else None,
    }
    dimensions = [array.shape[1] for array in features[run.train[0]]]
    needed = {"options": run.options.model_dump(mode="json"), "dimensions": dimensions, "identities": identities}
    write_clusters(clusters, seeds, {**facts, **needed})
    write_json(log, {**facts, "criterion": CRITERION, "seeds": [fitted.entry for fitted in seeds]})
    store.remove_stale()


def fingerprint(run: ClusteringJob) -> str:
    """Return a digest of everything except the code that decides a seed's result, without the list of seeds."""
    features = {split: [sha256_file(path) for path in paths] for split, paths in run.features.items()}
    neighbors = [sha256_file(path) for path in run.neighbors]
    members = {name: sha256_file(path) for name, path in run.members.items()}
    native = None if run.native is None else sha256_file(run.native)
    facts = [run.method, run.options.model_dump(mode="json"), run.k, list(run.train), features, neighbors, members]
    facts.append(native)
    return json_digest(facts)[:16]


def _open(files: dict[str, list[Path]]) -> Arrays:
    return {split: [np.load(path, mmap_mode="r") for path in paths] for split, paths in files.items()}


def _check(run: ClusteringJob, facts: HeadFacts, features: Arrays) -> None:
    """Check that the head can read these files and that they describe the same images."""
    most = facts.max_backbones
    if most is not None and len(run.backbones) > most:
        raise DeepclustError(f"{run.method} reads at most {most} backbones, got {', '.join(run.backbones)}")
    if facts.needs_neighbors and not run.neighbors:
        raise DeepclustError(f"{run.method} needs the neighbors among the training splits (--input.neighbors)")
    if facts.needs_native and run.native is None:
        raise DeepclustError(
            f"{run.method} needs the clusters of the backbone's method: give its file (--input.native)"
        )
    if isinstance(run.options, CombiningOptions) and set(run.options.members) != set(run.members):
        names = ", ".join(run.options.members)
        raise DeepclustError(f"{run.method} needs the clusters of its members {names} (--input.members)")
    if unknown := [split for split in run.train if split not in features]:
        raise DeepclustError(f"no features of the training splits {', '.join(unknown)}: name them among the splits")
    for split, arrays in features.items():
        if wrong := [path for array, path in zip(arrays, run.features[split]) if array.ndim != 2]:
            raise DeepclustError(f"{wrong[0]} is not a table of features, one row per image: extract it again")
        if len({len(array) for array in arrays}) > 1:
            raise DeepclustError(f"the backbones' features of {split} differ in number: extract them again")
        if [array.shape[1] for array in arrays] != [array.shape[1] for array in features[run.train[0]]]:
            raise DeepclustError(
                f"features of {split} have other dimensions than those of {run.train[0]}: extract again"
            )


def _identities(run: ClusteringJob) -> list[str | None]:
    """Return the identity of the features of every backbone; None if a split has no record of it.

    Raises:
        DeepclustError: features of different splits are not of the same backbone.
    """
    found = []
    for number, name in enumerate(run.backbones):
        recorded = {split: identity_beside(paths[number]) for split, paths in run.features.items()}
        known = {identity for identity in recorded.values() if identity is not None}
        if len(known) > 1:
            splits = ", ".join(recorded)
            raise DeepclustError(f"the features of {splits} by {name} were made in different ways: extract them again")
        found.append(None if None in recorded.values() else known.pop())
    return found


def _check_finite(run: ClusteringJob, features: Arrays) -> None:
    """Check before hours of fitting that all images of all splits can be assigned."""
    for split, arrays in features.items():
        for array, path in zip(arrays, run.features[split]):
            broken = sum(_unusable(array[rows]) for rows in blocks(len(array)))
            if broken:
                raise DeepclustError(
                    f"features of {broken} images of {split} have NaN, infinite values or ones beyond {LARGEST:g}: "
                    f"extract {path} again"
                )


def _unusable(rows: npt.NDArray[np.floating]) -> int:
    """Return the number of rows that have values that are NaN or too large."""
    return int((~(np.abs(rows.astype(np.float32)) <= LARGEST)).any(axis=1).sum())


def _fit(
    run: ClusteringJob, head: Head, features: Arrays, seeds: Sequence[int], store: SeedStore, progress: Progress
) -> None:
    """Fit `seeds` and keep each with its predictions for every split."""
    data = _training_data(run, features, store.folder)
    started = time.perf_counter()
    for result in head.fit(data, run.k, seeds, run.options, progress):
        fitted = time.perf_counter()
        seconds = fitted - started if result.seconds is None else result.seconds
        predictions = _predict(run, head, result, features)
        sizes = _sizes(run, predictions)
        if predictions and (failure := unusable_sizes(sizes, result.advice)):
            result = SeedResult(result.seed, {}, None, failure, result.log)
            predictions, sizes = {}, sizes[:0]
        store.write(fitted_seed(result, predictions, sizes.tolist(), seconds + time.perf_counter() - fitted))
        started = time.perf_counter()


def _predict(run: ClusteringJob, head: Head, result: SeedResult, features: Arrays) -> dict[str, Prediction]:
    if result.failure is not None:
        return {}
    own = {} if result.training is None else _divided(run, result.training, features)
    others = {split: arrays for split, arrays in features.items() if split not in own}
    return own | {split: head.predict(result.weights, arrays, run.options) for split, arrays in others.items()}


def _divided(run: ClusteringJob, clusters: npt.NDArray[np.integer], features: Arrays) -> dict[str, Prediction]:
    """Divide clusters [N] of the training images by split."""
    ends = np.cumsum([len(features[split][0]) for split in run.train])
    return {split: certain(part, run.k) for split, part in zip(run.train, np.split(clusters, ends[:-1]))}


def _sizes(run: ClusteringJob, predictions: dict[str, Prediction]) -> npt.NDArray[np.int64]:
    """Return the numbers of training images in the clusters, [k]; an empty array for a seed that failed."""
    if not predictions:
        return np.zeros(0, np.int64)
    return np.bincount(np.concatenate([predictions[split].assignments for split in run.train]), minlength=run.k)


def _training_data(run: ClusteringJob, features: Arrays, scratch: Path) -> TrainingData:
    """Concatenate the training splits; a single one is not copied."""
    joined = [_concatenate([features[split][b] for split in run.train]) for b in range(len(run.backbones))]
    members = read_members(run.members, run.k, run.train, len(joined[0])) if run.members else None
    neighbors: list[npt.NDArray[np.int32]] = [np.load(path, mmap_mode="r") for path in run.neighbors]
    if any(not _belongs(array, len(joined[0])) for array in neighbors):
        raise DeepclustError(f"neighbors are not those of the {len(joined[0])} training images: search them again")
    wanted = getattr(run.options, "neighbors", 0)
    if (there := min((array.shape[1] for array in neighbors), default=wanted)) < wanted:
        raise DeepclustError(f"{wanted} neighbors are wanted, an image has {there}: lower neighbors of the head")
    return TrainingData(joined, neighbors or None, members, scratch, run.native)


def _belongs(neighbors: npt.NDArray[np.int32], count: int) -> bool:
    """Return whether these are row numbers [count, n] of `count` images."""
    parts = (neighbors[rows] for rows in blocks(len(neighbors)))
    return len(neighbors) == count and all(part.size == 0 or 0 <= part.min() <= part.max() < count for part in parts)


def _concatenate(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
