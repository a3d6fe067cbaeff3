"""Two-stage system: a head that learns from neighbors, then from its own confident predictions.

Zhou & Zhang, Deep Clustering with Features from Self-Supervised Pretraining, 2022, arxiv.org/abs/2207.13364. Stage one
is the backbone. An experiment may use any; the paper's idea is one that was pretrained without labels on a much larger
dataset. This is stage two. Only the paper's abstract was at hand, which does not describe it, so this is a
reconstruction: linear heads, neighbor consistency, a balance term and self-labelling, as in SCAN and NNM, with which
the paper compares.

The constants are ours and the same for all datasets. Only optimizer and learning rate were chosen by comparison,
without labels, by the lowest objective (consistency less entropy, see `fit_consistency`) on one set of features after
15 epochs; docs/methods.md has the numbers. Epochs, neighbors, entropy weight and self-labelling were not tuned. They
differ from those of `scan` in three ways: the optimizer is Adam instead of SGD, because its objective falls a little
faster at first; there are 20 neighbors, as neighbor search finds by default; self-labelling is on.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from deepclust.core.progress import Progress
from deepclust.heads.kit.head import Features, HeadFacts, Prediction, SeedResult, TrainingData, Weights
from deepclust.heads.kit.linear_classifier import predict_linear
from deepclust.heads.kit.neighbor_consistency import ConsistencyOptions, fit_consistency
from deepclust.heads.kit.self_labelling import SelfLabelling

FACTS = HeadFacts(needs_neighbors=True, max_backbones=None, evens_batches=True)


class Options(ConsistencyOptions):
    """Options of the two-stage system."""

    neighbors: int = Field(20, ge=1)
    """Nearest neighbors of an image (of each backbone) that it may be paired with."""
    epochs: int = Field(50, ge=1)
    """Passes over the training images."""
    optimizer: Literal["sgd", "adam"] = "adam"
    """`sgd` has a momentum of 0.9."""
    learning_rate: float = Field(0.1, gt=0)
    """Learning rate, which is constant."""
    self_labelling: SelfLabelling = SelfLabelling(epochs=20)
    """Training on confident predictions after the head's own training."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Train one head per seed; see `deepclust.heads.kit.head.Head` and `fit_consistency`."""
    return fit_consistency(data, k, seeds, options, progress)


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images to the most probable clusters; see `deepclust.heads.kit.head.Head`."""
    return predict_linear(weights, features, options)
