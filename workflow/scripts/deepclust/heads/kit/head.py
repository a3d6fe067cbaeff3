"""Interface of a clustering head, which is a module `deepclust.heads.<name>` with the members of `Head`.

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

Preparation = Literal["none", "l2", "center", "standardize", "whiten", "half_whiten"]


class HeadOptions(Options):
    """Options that all heads have."""

    normalize: Preparation = "none"
    """Preparation of the features. `l2`: the features of each image are scaled to length 1. `center`: the mean of the
    training splits is subtracted, then as `l2`. `standardize`: each dimension is scaled to mean 0 and variance 1 over
    the training splits. `whiten`: principal components of the training splits are scaled to variance 1, then as `l2`
    (the preprocessing of DeepCluster). `half_whiten`: as `whiten`, but each component is divided by the square root of
    its standard deviation. This is half-way between `center`, with which the few directions of the largest variance
    decide, and `whiten`, with which noise counts as much as they do. The features of several backbones are first scaled
    to length 1 each, so that they weigh the same. Only `turtle` reads backbones apart and normalises each by itself."""
    components: int = Field(256, ge=1)
    """Largest number of principal components that `normalize: whiten` and `half_whiten` keep."""


class CombiningOptions(HeadOptions):
    """Options of heads that read the clusters of other heads."""

    members: list[str] = Field(min_length=1)
    """Names of the heads whose clusters are combined: all their seeds, on the same dataset, backbones and k."""


class HeadFacts(BaseModel):
    """Facts about a head that planning reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs_neighbors: bool
    """True if `fit` reads neighbors."""
    max_backbones: int | None
    """Largest number of backbones that it can read together; None for any number."""
    needs_native: bool = False
    """True if `fit` reads the clusters that the backbone's own method found."""
    evens_batches: bool = False
    """True if its loss evens the clusters of every batch (`batch_size`), which must then hold two images of each."""


@dataclass(frozen=True)
class Partition:
    """Clusters that one seed of another head gave the N training images."""

    member: str
    """Name of the head in the experiment."""
    seed: int
    assignments: npt.NDArray[np.int32]
    """Clusters [N], values 0 … k - 1."""
    probabilities: npt.NDArray[np.float16] | None
    """Probabilities [N, k] of a probabilistic head, else None."""


@dataclass(frozen=True)
class TrainingData:
    """Training data of a head: the N images of all training splits, one after the other."""

    features: list[Features]
    """Features [N, D_b] of every backbone, float16 or float32, read-only and possibly memory-mapped."""
    neighbors: list[npt.NDArray[np.int32]] | None = None
    """Row numbers [N, n] of the nearest images by every backbone, nearest first; None for heads that need none."""
    members: list[Partition] | None = None
    """Partitions of all members and seeds, ordered by member and seed; None for heads that read no others."""
    scratch: Path | None = None
    """Folder in which a head may keep the state of an unfinished fit, so that a killed job goes on from there."""
    native: Path | None = None
    """The backbone's `native.safetensors`, for the head that needs it."""

    @property
    def count(self) -> int:
        """Number of images N."""
        return len(self.features[0])


def check_enough(images: int, k: int, source: str = "the training splits have") -> None:
    """Check that there are at least `k` images.

    Args:
        images: number of images.
        source: words before this number in the message, which say what has so many images.

    Raises:
        DeepclustError: there are fewer images than clusters.
    """
    if images < k:
        raise DeepclustError(f"{k} clusters need at least {k} images, {source} {images}: lower k")


@dataclass(frozen=True)
class SeedResult:
    """Result of one fitted seed."""

    seed: int
    weights: Weights
    """All that `predict` needs; empty if the seed failed."""
    objective: float | None
    """Criterion to choose among seeds, lower is better; None if the seed failed. It is computed on the training splits,
    without labels."""
    failure: str | None = None
    """Reason why this seed has no usable result, in one line that says what was seen and what to try."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """One entry per step worth showing (epoch, restart); numbers and strings."""
    seconds: float | None = None
    """Duration of its fit over all attempts, or its share if seeds were trained together. None stands for the time that
    passed since the result before."""
    advice: str | None = None
    """Advice if too few clusters have training images; None if the head checks this itself, or if it is no failure."""
    training: npt.NDArray[np.integer] | None = None
    """Clusters of the N training images, [N], if the head divides these themselves and `predict` only follows them."""


@dataclass(frozen=True)
class Prediction:
    """Clusters of N images."""

    assignments: npt.NDArray[np.int32]
    """Clusters [N], values 0 … k - 1."""
    probabilities: npt.NDArray[np.float16] | None = None
    """Probabilities [N, k] of a probabilistic head, else None."""


def certain(assignments: npt.NDArray[np.integer], k: int) -> Prediction:
    """Return a prediction of clusters [N], each with probability 1."""
    return Prediction(assignments.astype(np.int32), np.eye(k, dtype=np.float16)[assignments])


class Head(Protocol):
    """Members of a head's module."""

    FACTS: ClassVar[HeadFacts]
    Options: ClassVar[type[HeadOptions]]

    def fit(
        self, data: TrainingData, k: int, seeds: Sequence[int], options: Any, progress: Progress
    ) -> Iterator[SeedResult]:
        """Yield one result per seed, in any order, each as soon as it is there.

        A seed's result does not depend on which seeds are fitted with it. This holds to the bit on CPUs, and on other
        devices up to the rounding of products of other shapes.

        Raises:
            DeepclustError: no seed can be fitted on such data.
        """
        ...

    def predict(self, weights: Weights, features: list[Features], options: Any) -> Prediction:
        """Assign N images, in blocks, from their features [N, D_b] of every backbone."""
        ...


def load_head(method: str) -> Head:
    """Return the head called `method`.

    Raises:
        DeepclustError: there is no such head.
    """
    return cast(Head, registry.load("heads", method))
