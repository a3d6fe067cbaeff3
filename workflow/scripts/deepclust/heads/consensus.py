"""Consensus: one partition out of those that several heads and seeds found on the same features.

This method is ours. Heads on frozen features tend to follow the few directions in which the features vary most, whether
or not these tell the classes apart. If all directions count the same, as after whitening, noise counts as well. So the
partitions of the members are judged and improved half-way between: on half-whitened features and the neighbors among
them.

1. Every partition, and the aligned mean of the best two, three, … of them, is scored by its modularity on the neighbor
   graph. The best `starts` of these votes are kept.
2. Each vote becomes a linear classifier, by least squares, and is trained further. The loss of SCAN (Van Gansbeke et
   al. 2020, arxiv.org/abs/2005.12320) puts an image and its neighbors into the same cluster and keeps clusters of
   similar size.
3. The classifier with the highest modularity goes through `rounds` of moves. Other classifiers are trained beside it,
   for which its least cohesive cluster was dissolved and one of the others split (`heads.kit.split_and_merge`), because
   training alone does not leave a partition in which two classes share a cluster. The highest modularity wins again.

No step sees labels. The loss and modularity prefer clusters of similar size. A seed fails if the members agree that
sizes are far from that (`evened_out`): one of the members is better then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from deepclust.core.device import choose_device
from deepclust.core.progress import Progress
from deepclust.heads.kit.agreement import LinearFit, Votes, candidates
from deepclust.heads.kit.consensus_training import ConsensusTraining, Recipe
from deepclust.heads.kit.head import (
    CombiningOptions,
    Features,
    HeadFacts,
    Prediction,
    Preparation,
    SeedResult,
    TrainingData,
    Weights,
    check_enough,
)
from deepclust.heads.kit.linear_classifier import predict_linear
from deepclust.heads.kit.normalization import fit_normalization
from deepclust.heads.kit.stacked import Rows
from deepclust.heads.kit.training import Schedule, Training, train

FACTS = HeadFacts(needs_neighbors=True, max_backbones=None, evens_batches=True)

ALIKE = 0.1  # members agree on the sizes if at most this share of the images would have to move
EVENED = 0.4  # sizes differ from a member's if more than this share would have to move, as from 1:10 to 1:1


class Options(CombiningOptions):
    """Options of the consensus."""

    normalize: Preparation = "half_whiten"
    """Preparation of the features; see the other heads. Neighbors are searched among half-whitened features with
    `half_whiten` only, else among the features as they are."""
    components: int = Field(512, ge=1)
    """Largest number of principal components that `normalize: whiten` and `half_whiten` keep."""
    starts: int = Field(3, ge=1)
    """Number of the best votes that are trained further."""
    heads: int = Field(10, ge=2)
    """Number of classifiers that are trained side by side in a round of moves."""
    neighbors: int = Field(20, ge=1)
    """Nearest neighbors of an image (of each backbone) that it is paired with."""
    entropy_weight: float = Field(5.0, ge=0)
    """Weight of the entropy of a batch's mean probabilities, which keeps clusters from running empty."""
    epochs: int = Field(20, ge=1)
    """Passes over the training images, from the votes."""
    rounds: int = Field(3, ge=0)
    """Rounds of moves after that."""
    round_epochs: int = Field(8, ge=1)
    """Passes over the training images in each round."""
    batch_size: int = Field(1024, ge=1)
    """Images per step; must be much larger than the number of clusters."""
    learning_rate: float = Field(0.01, gt=0)
    """Learning rate of Adam at the beginning of a round; it falls to 0 in a straight line."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Train one classifier per seed from the same votes; see `deepclust.heads.kit.head.Head`.

    The objective is the negative modularity on the graph of `data.neighbors`. The weights are `weight` [k, D] and
    `bias` [k] on the normalised features, float32.

    A member has no vote if all of its seeds failed. Every seed fails if no member has a vote.

    Raises:
        DeepclustError: there are fewer images than clusters.
    """
    check_enough(data.count, k)
    points, normalization = fit_normalization(data.features, options)
    if not data.members:
        reason = f"nothing to combine: every seed of {', '.join(options.members)} failed; their seeds.json say why"
        yield from (SeedResult(seed, {}, None, reason) for seed in seeds)
        return
    points *= np.sqrt(points.shape[1], dtype=np.float32)  # values of about 1, for which the learning rate is meant
    linear_fit = LinearFit(points)
    device = choose_device()
    rows = Rows(points, device)
    graph = np.concatenate([array[:, : options.neighbors] for array in data.neighbors or []], axis=1)
    neighbors = torch.from_numpy(graph).long().to(device)
    soft_or_hard = (m.assignments if m.probabilities is None else m.probabilities for m in data.members)
    ranked = candidates([Votes.of(partition, k) for partition in soft_or_hard], graph)
    votes = [votes for votes, _ in ranked[: options.starts]]
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})

    def start(stack: Sequence[int]) -> Training:
        return ConsensusTraining(rows, neighbors, votes, linear_fit, stack, recipe)

    epoch = max(1, data.count // options.batch_size)
    plan = Schedule(recipe.all_epochs * epoch, epoch, k, "raise entropy_weight or batch_size, or name other members")
    for result in train(start, seeds, plan, device, data.scratch, progress):
        if not result.failure:
            result = replace(result, weights=_unscaled(result.weights) | normalization)
            assignments = predict(result.weights, data.features, options).assignments
            if failure := evened_out(assignments, [member.assignments for member in data.members], k):
                result = SeedResult(result.seed, {}, None, failure, result.log, result.seconds)
        yield result


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images to the most probable clusters; see `deepclust.heads.kit.head.Head`."""
    return predict_linear(weights, features, options)


def evened_out(assignments: npt.NDArray[Any], members: Sequence[npt.NDArray[Any]], k: int) -> str | None:
    """Return why clusters [N] are no result, if members [N] agree on sizes that training evened out, or None."""
    sizes = np.sort(np.bincount(assignments, minlength=k)) / len(assignments)
    theirs = [np.sort(np.bincount(member, minlength=k)) / len(member) for member in members]
    alike = all(_moved(one, other) <= ALIKE for one, other in combinations(theirs, 2))
    if not alike or min(_moved(sizes, own) for own in theirs) <= EVENED:
        return None
    return (
        f"the members agree on clusters of {theirs[0][0]:.1%} to {theirs[0][-1]:.1%} of the images and training evened "
        f"them out, to {sizes[0]:.1%} to {sizes[-1]:.1%}: a consensus is for classes of similar size, use a member"
    )


def _moved(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the share of the images that have to move between two lists of sorted shares of clusters [k]."""
    return float(np.abs(one - other).sum() / 2)


def _unscaled(weights: Weights) -> Weights:
    """Return the weights for features that are not multiplied by the root of their dimension."""
    weight = weights["weight"]
    return weights | {"weight": weight * np.sqrt(weight.shape[1], dtype=np.float32)}
