"""Clustering of features in memory, by the function that fits the runs of the workflow."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from deepclust.api.features import Features, check_dimensions, feature_arrays
from deepclust.core import registry
from deepclust.core.command import describe_validation
from deepclust.core.errors import DeepclustError, did_you_mean
from deepclust.core.files import write_tensors
from deepclust.core.progress import Progress
from deepclust.features.options import NeighborOptions
from deepclust.heads.kit.head import CombiningOptions, HeadOptions, Prediction, check_enough, load_head
from deepclust.heads.kit.store import METADATA, assign, read_head, read_tensors

TRAIN = "train"
DEFAULT_NEIGHBORS = 20


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head that was fitted on the features of some images and assigns others.

    Attributes:
        description: the facts in its file: `method`, `options`, `k`, `backbones`, `dimensions`, `selected`.
        weights: arrays that the head needs to assign images.
        path: the file that it was loaded from, if it was.
    """

    description: dict[str, Any]
    weights: dict[str, npt.NDArray[Any]]
    path: Path | None = None

    def predict(self, features: Any) -> npt.NDArray[np.int32]:
        """Return the cluster of each image, int32 [N], values 0 … k - 1.

        Args:
            features: as `cluster` takes them, of any images, by the same backbones. A head that was loaded from a file
                also takes paths of `features.npy`, and refuses them unless they were made by the same backbones.

        Raises:
            DeepclustError: these are not features that the head can read.
        """
        return self.assign(features).assignments

    def predict_proba(self, features: Any) -> npt.NDArray[np.float16] | None:
        """Return how probable each cluster is for each image, float16 [N, k]; None if a head gives no probabilities.

        Args:
            features: as `predict` takes them.

        Raises:
            DeepclustError: these are not features that the head can read.
        """
        return self.assign(features).probabilities

    def assign(self, features: Any) -> Prediction:
        """Return the clusters of images and their probabilities together.

        Args:
            features: as `predict` takes them.

        Raises:
            DeepclustError: these are not features that the head can read.
        """
        given = [features] if isinstance(features, str | Path) else features
        if self.path is not None and isinstance(given, list | tuple) and given and isinstance(given[0], str | Path):
            return assign(self.path, self.description, self.weights, given)
        arrays = feature_arrays(features)
        check_dimensions(arrays, self.description["dimensions"])
        head = load_head(self.description["method"])
        return head.predict(self.weights, arrays, head.Options(**self.description["options"]))


@dataclass(frozen=True, eq=False, kw_only=True)
class ClusterResult(FittedHead):
    """A head, and the images that it was fitted on.

    Attributes:
        labels_: cluster of each image, int32 [N], by the seed with the lowest objective, which no label decides.
        probabilities_: float16 [N, k]; None if a head gives no probabilities.
        seeds: one entry per seed: `seed`, `status`, `reason` of a failure, `objective`, `sizes` of its clusters, `log`.
    """

    labels_: npt.NDArray[np.int32]
    probabilities_: npt.NDArray[np.float16] | None
    seeds: Sequence[dict[str, Any]]

    def save(self, path: str | Path) -> None:
        """Write the head to a file that `load` reads, with the clusters of its images.

        Raises:
            DeepclustError: the disk is full.
        """
        seed = f"seed{self.description['selected']}"
        tensors = {f"{seed}/weights/{name}": array for name, array in self.weights.items()}
        tensors[f"{seed}/assignments/{TRAIN}"] = self.labels_
        if self.probabilities_ is not None:
            tensors[f"{seed}/probabilities/{TRAIN}"] = self.probabilities_
        write_tensors(Path(path), tensors, {METADATA: json.dumps(self.description)})


def cluster(
    features: Any, k: int, head: str = "kmeans", *, seeds: int | Sequence[int] = 5, **options: Any
) -> ClusterResult:
    """Divide images into k clusters by their features, once per seed.

    The seed with the lowest objective is chosen, which needs no labels. Features are kept in a temporary folder
    meanwhile, as float32 or float16, whichever they are.

    Args:
        features: numbers [N, D]; for several backbones a list of arrays whose rows are the same images.
        k: number of clusters.
        head: name of the head, see docs/methods.md. Heads that read more than features (`consensus`: the clusters of
            other heads, `native`: a backbone's own clusters) need the workflow.
        seeds: seeds, or how many of them, from 0.
        options: options of the head, see docs/options.md.

    Raises:
        DeepclustError: features, head or options do not fit, or every seed failed.

    Example:
        >>> import deepclust
        >>> import numpy as np
        >>> from sklearn.datasets import make_blobs
        >>> features, _ = make_blobs(60, centers=3, random_state=0, cluster_std=0.1)
        >>> found = deepclust.cluster(features, 3)
        >>> sorted(map(int, np.bincount(found.labels_)))
        [20, 20, 20]
        >>> bool((found.predict(features) == found.labels_).all())
        True
    """
    module, arrays = _head(head), feature_arrays(features)
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise DeepclustError(f"k must be a number of clusters, 1 or more, not {k!r}")
    check_enough(len(arrays[0]), int(k), "there are")
    chosen = _options(head, module.Options, options)
    with tempfile.TemporaryDirectory(prefix="deepclust-") as folder:
        clusters = _fit(Path(folder), arrays, int(k), head, _seeds(seeds), chosen)
        description, _ = read_tensors(clusters, "none/")
        entries = json.loads(clusters.with_name("seeds.json").read_text(encoding="utf-8"))["seeds"]
        if description["selected"] is None:
            raise DeepclustError(f"{head} found no clusters with any seed: {entries[0]['reason']}")
        _, tensors = read_tensors(clusters, f"seed{description['selected']}/")
    return ClusterResult(
        description=description,
        weights=_weights(tensors),
        labels_=tensors[f"assignments/{TRAIN}"],
        probabilities_=tensors.get(f"probabilities/{TRAIN}"),
        seeds=entries,
    )


def load(clusters: str | Path, seed: int | None = None) -> FittedHead:
    """Return the fitted head of a run, to assign other images.

    Args:
        clusters: `clusters.safetensors` of a run, the folder that it lies in, or a file of `ClusterResult.save`.
        seed: seed of the run; by default the one that was selected without labels.

    Raises:
        DeepclustError: there is no such file or seed, or every seed failed.

    Example:
        >>> import tempfile
        >>> import deepclust
        >>> import numpy as np
        >>> features = np.repeat([[0.0, 1.0], [5.0, 2.0]], 10, axis=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = deepclust.cluster(features, 2)
        ...     found.save(f"{folder}/clusters.safetensors")
        ...     again = deepclust.load(f"{folder}/clusters.safetensors").predict(features)
        >>> bool((again == found.labels_).all())
        True
    """
    path = Path(clusters) / "clusters.safetensors" if Path(clusters).is_dir() else Path(clusters)
    return FittedHead(*read_head(path, seed), path.absolute())


def _head(name: str) -> Any:
    known = [path.stem for path in registry.files("heads")]
    if name not in known:
        raise DeepclustError(f"unknown head {name!r}{did_you_mean(name, known)}")
    module: Any = registry.load("heads", name)
    if module.FACTS.needs_native or issubclass(module.Options, CombiningOptions):
        raise DeepclustError(f"the head {name} reads more than features: run it in the workflow, or choose another")
    return module


def _options(head: str, model: type[HeadOptions], given: dict[str, Any]) -> HeadOptions:
    for key in given.keys() - model.model_fields.keys():
        raise DeepclustError(f"the head {head} has no option {key!r}{did_you_mean(key, model.model_fields)}")
    try:
        return model(**given)
    except ValidationError as error:
        raise DeepclustError(f"options of the head {head}: {describe_validation(error)}") from error


def _seeds(given: int | Sequence[int]) -> list[int]:
    try:
        seeds = list(range(given)) if isinstance(given, int | np.integer) else [int(seed) for seed in given]
    except (TypeError, ValueError):
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise DeepclustError(f"seeds must be their number or a list of different numbers from 0, not {given!r}")
    return seeds


def _fit(folder: Path, arrays: list[Features], k: int, head: str, seeds: list[int], options: HeadOptions) -> Path:
    """Write `clusters.safetensors` and `seeds.json` into a folder; return the path of the former."""
    from deepclust.features.neighbors import find_neighbors
    from deepclust.heads.kit.clustering import ClusteringJob
    from deepclust.heads.kit.clustering import cluster as fit

    paths = [folder / f"features{number}.npy" for number in range(len(arrays))]
    neighbors = []
    for path, array in zip(paths, arrays):
        np.save(path, array)
    if load_head(head).FACTS.needs_neighbors:
        wanted = NeighborOptions(k=int(getattr(options, "neighbors", DEFAULT_NEIGHBORS)))
        neighbors = [path.with_name(f"neighbors{path.name}") for path in paths]
        for path, found in zip(paths, neighbors):
            find_neighbors([path], found, wanted, Progress(hidden=True), options.normalize == "half_whiten")
    run = ClusteringJob(
        method=head,
        options=options,
        k=k,
        seeds=seeds,
        backbones=[path.stem for path in paths],
        train=[TRAIN],
        features={TRAIN: paths},
        neighbors=neighbors,
    )
    clusters = folder / "clusters.safetensors"
    fit(run, clusters, folder / "seeds.json", code="", progress=Progress(hidden=True))
    return clusters


def _weights(tensors: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    start = "weights/"
    return {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}
