"""SCAN on frozen features: linear heads that give an image and its neighbors the same cluster.

Van Gansbeke et al., SCAN: Learning to Classify Images without Labels, ECCV 2020, arxiv.org/abs/2005.12320. The defaults
are those of the paper's runs with a frozen backbone (ImageNet): 10 linear heads, 50 neighbors, entropy weight 5, SGD
with learning rate 5 and momentum 0.9, batches of 1024 (512 for 50 classes), 100 epochs. Self-labelling:
`deepclust.heads.kit.self_labelling`.

Departures:
- There is no augmentation: an image's neighbor is its only other view. Therefore an image is never paired with itself;
  the authors' code draws from the image and its neighbors.
- The paper keeps the head and epoch with the lowest loss (consistency less entropy, unweighted) on the evaluation
  split, with 5 neighbors and the image itself. Here the loss is measured on up to 10,000 images of the training splits,
  with their 5 nearest neighbors, so that nothing is chosen on images that are scored.
- The features are centred and scaled to length 1, since the learning rate suits features of about that length. The
  paper uses them as they are (`normalize: none`).
"""

from collections.abc import Iterator, Sequence

from deepclust.core.progress import Progress
from deepclust.heads.kit.head import Features, HeadFacts, Prediction, SeedResult, TrainingData, Weights
from deepclust.heads.kit.linear_classifier import predict_linear
from deepclust.heads.kit.neighbor_consistency import ConsistencyOptions, fit_consistency

FACTS = HeadFacts(needs_neighbors=True, max_backbones=None, evens_batches=True)


class Options(ConsistencyOptions):
    """Options of SCAN."""


def fit(data: TrainingData, k: int, seeds: Sequence[int], options: Options, progress: Progress) -> Iterator[SeedResult]:
    """Run one SCAN per seed; see `deepclust.heads.kit.head.Head` and `fit_consistency`."""
    return fit_consistency(data, k, seeds, options, progress)


def predict(weights: Weights, features: list[Features], options: Options) -> Prediction:
    """Assign images to the most probable clusters; see `deepclust.heads.kit.head.Head`."""
    return predict_linear(weights, features, options)
