"""What a clustering head is: a module `deepclust.heads.<name>` that has the members of `Head`.

A head is fitted on the features of the training splits, once per seed, and then assigns the images of any split. It
sees no labels and writes no files: `deepclust.heads.kit.clustering` does the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from deepclust.core import registry
from deepclust.core.errors import DeepclustError
from deepclust.core.options import Options
from deepclust.core.progress import Progress

Features = npt.NDArray[np.floating]
Weights = dict[str, npt.NDArray[Any]]


class HeadOptions(Options):
    """Options that all heads have."""

    normalize: Literal["none", "l2", "center", "standardize", "whiten", "half_whiten"] = "none"
    """What happens to the features first. `l2`: each image's are scaled to length 1. `center`: the mean of the training
    splits is taken away, then as `l2`. `standardize`: each dimension is scaled to mean 0 and variance 1 over the
    training splits. `whiten`: principal components of the training splits, each scaled to variance 1, then as `l2` (the
    preprocessing of DeepCluster). `half_whiten`: the same, but each divided by the square root of its standard
    deviation only, which is half-way from `center`, where the few directions of the largest variance decide, to
    `whiten`, where noise counts as much as they do. Where several backbones are joined, the features of each are always
    scaled to length 1 before, so that they weigh the same; only `turtle`, which reads them apart, normalises each by
    itself."""
    components: int = Field(256, ge=1)
    """Principal components that `normalize: whiten` and `half_whiten` keep, at most."""


class CombiningOptions(HeadOptions):
    """Options of heads that read the clusters of others."""

    members: list[str] = Field(min_length=1)
    """Names of the heads whose clusters are combined: all their seeds, on the same dataset, backbones and k."""


class HeadFacts(BaseModel):
    """What planning has to know about a head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs_neighbors: bool
    """Whether `fit` reads neighbors."""
    max_backbones: int | None
    """How many backbones it can read together; None: any number."""
    needs_native: bool = False
    """Whether `fit` reads the clusters that the backbone's own method found."""
    evens_batches: bool = False
    """Whether its loss evens the clusters of every batch (`batch_size`), which must then hold two images of each."""


@dataclass(frozen=True)
class Partition:
    """The clusters that one seed of another head gave the N training images."""

    member: str
    """Name of the head in the experiment."""
    seed: int
    assignments: npt.NDArray[np.int32]
    """[N], values 0 … k - 1."""
    probabilities: npt.NDArray[np.float16] | None
    """[N, k], if the head is a probabilistic one."""


@dataclass(frozen=True)
class TrainingData:
    """What a head is fitted on: the N images of all training splits, one after the other."""

    features: list[Features]
    """For every backbone [N, D_b], float16 or float32, read-only and possibly memory-mapped."""
    neighbors: list[npt.NDArray[np.int32]] | None = None
    """For every backbone [N, n], row numbers of the nearest images, nearest first; None for heads that need none."""
    members: list[Partition] | None = None
    """Those of all members and seeds, by member and seed; None for heads that read no others."""
    scratch: Path | None = None
    """Folder where a head may keep the state of an unfinished fit, so that a killed job goes on from there."""
    native: Path | None = None
    """The backbone's `native.safetensors`, for the head that needs it."""

    @property
    def count(self) -> int:
        """N."""
        return len(self.features[0])


def check_enough(images: int, k: int, source: str = "the training splits have") -> None:
    """Raise a DeepclustError if `k` clusters are asked of fewer `images`; `source` says where these are counted."""
    if images < k:
        raise DeepclustError(f"{k} clusters need at least {k} images, {source} {images}: lower k")


@dataclass(frozen=True)
class SeedResult:
    """One fitted head."""

    seed: int
    weights: Weights
    """All that `predict` needs; empty if the seed failed."""
    objective: float | None
    """What chooses among seeds: lower is better; from the training splits, without labels. None if the seed failed."""
    failure: str | None = None
    """Why this seed has no usable result, in one line: what was seen and what to try."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """One entry per step worth showing (epoch, restart); numbers and strings."""
    seconds: float | None = None
    """What its fit took, in all attempts, and its share where seeds were trained together; None: the time that passed
    since the result before."""
    advice: str | None = None
    """What to try where too few clusters have training images; None if the head sees to that itself, or where it is no
    failure."""
    training: npt.NDArray[np.integer] | None = None
    """Clusters of the N training images, [N], where the head divides these themselves and `predict` only follows
    them."""


@dataclass(frozen=True)
class Prediction:
    """Clusters of N images."""

    assignments: npt.NDArray[np.int32]
    """[N], values 0 … k - 1."""
    probabilities: npt.NDArray[np.float16] | None = None
    """[N, k], where the head is a probabilistic one."""


def certain(assignments: npt.NDArray[np.integer], k: int) -> Prediction:
    """Clusters [N] that are beyond doubt."""
    return Prediction(assignments.astype(np.int32), np.eye(k, dtype=np.float16)[assignments])


class Head(Protocol):
    """The members of a head's module."""

    FACTS: ClassVar[HeadFacts]
    Options: ClassVar[type[HeadOptions]]

    def fit(
        self, data: TrainingData, k: int, seeds: Sequence[int], options: Any, progress: Progress
    ) -> Iterator[SeedResult]:
        """Yield one result per seed, in any order, each as soon as it is there.

        A seed's result does not depend on which seeds are fitted with it: to the bit on CPUs, elsewhere but for the
        rounding of products of other shapes.

        Raises:
            DeepclustError: no seed can be fitted on such data.
        """
        ...

    def predict(self, weights: Weights, features: list[Features], options: Any) -> Prediction:
        """Clusters of N images from their features, for every backbone [N, D_b]; in blocks."""
        ...


def load_head(method: str) -> Head:
    """The head called `method`.

    Raises:
        DeepclustError: there is none.
    """
    return cast(Head, registry.load("heads", method))
