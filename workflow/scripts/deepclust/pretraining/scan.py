"""SCAN on the whole network: an image and its neighbors get the same cluster (Van Gansbeke et al. 2020).

SCAN: Learning to Classify Images without Labels, ECCV 2020, arXiv 2005.12320. Training starts from a backbone that was
trained without clusters (SimCLR) and from the neighbors in its features, with strong augmentation. The defaults are
those for CIFAR-10. `selflabel` is the step after it.

Departures:
- An image is paired with its neighbors only; the authors' code draws from these and the image itself.
- Neighbors are searched in the backbone's features; the authors' code searches (for small images) in the outputs of
  SimCLR's projector.
- The last epoch is kept, not the one with the lowest loss on the images that are scored.
- Views show the whole stored square, resized; the published ones crop it to the size of a view, which is the same for
  images of that size.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from deepclust.core.errors import DeepclustError
from deepclust.core.seeding import derive_seed
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.engine.options import MethodFacts, Optimizer, PretrainingOptions
from deepclust.pretraining.parts.classifier import Classifier
from deepclust.pretraining.views.strong_augmentation import StrongAugmentation, StrongAugmentationOptions

FACTS = MethodFacts(native_k="clusters", needs_neighbors=True)


class Options(PretrainingOptions):
    """Options of SCAN."""

    start_from: str
    """Backbone whose weights and neighbors training starts from; it must have the same architecture."""
    clusters: int = Field(ge=2)
    """Number of clusters."""
    nearest: int = Field(20, ge=1)
    """Number of the nearest neighbors that an image is paired with."""
    entropy_weight: float = Field(5.0, ge=0)
    """Weight of the entropy of a batch's mean prediction, which keeps clusters from growing empty."""
    augmentation: StrongAugmentationOptions = StrongAugmentationOptions()
    """Augmentation of the views."""
    epochs: int = Field(50, ge=1)
    """Passes over the images."""
    batch_size: int = Field(128, ge=2)
    """Images per step, each with one neighbor; many more than there are clusters."""
    optimizer: Optimizer = "adam"
    """Optimizer. LARS is SGD with momentum and steps scaled per layer, for large batches. LARC is LARS whose steps are
    never longer than those of SGD."""
    learning_rate: float = Field(1e-4, gt=0)
    """Learning rate; after the warm-up it is constant."""


class Scan(Classifier):
    """Backbone and linear layer, which see each image together with one of its neighbors."""

    options: Options
    images_per_item = 2

    def __init__(self, options: Options, backbone: nn.Module, images: ImageFacts) -> None:
        super().__init__(options, backbone, images, options.clusters)
        assert images.neighbors is not None
        if images.neighbors.shape[1] < options.nearest:
            searched = images.neighbors.shape[1]
            raise DeepclustError(f"nearest is {options.nearest}, but an image has only {searched} others: lower it")
        self.neighbors = images.neighbors[:, : options.nearest].long()  # not part of the state
        self.augment = StrongAugmentation(options.augmentation, images.size, images.mean, images.std)

    def order(self, count: int, seed: int) -> Tensor:
        """Draw an order in which each image is followed by one of its neighbors."""
        generator = torch.Generator().manual_seed(seed)
        anchors = torch.randperm(count, generator=generator)
        drawn = torch.randint(self.neighbors.shape[1], (count,), generator=generator)
        return torch.stack([anchors, self.neighbors[anchors, drawn]], 1).flatten()

    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Draw a view of each image and one of its neighbor."""
        return [self.augment(images[part::2], derive_seed(seed, part)) for part in range(2)]

    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the scores of images and neighbors, each [B, k]."""
        return tuple(self.logits(view) for view in views)

    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """Return SCAN's loss, with which images agree with their neighbors and all clusters are used."""
        anchors, neighbors = embeddings
        return scan_loss(anchors, neighbors, self.options.entropy_weight)


METHOD = Scan


def scan_loss(anchors: Tensor, neighbors: Tensor, entropy_weight: float) -> dict[str, Tensor]:
    """Return the mean of -log <p, p'> over pairs, less the weighted entropy of the anchors' mean prediction (eq. 2).

    Args:
        anchors, neighbors: scores [B, k].
    """
    log_anchors, log_neighbors = anchors.log_softmax(1), neighbors.log_softmax(1)
    consistency = -(log_anchors + log_neighbors).logsumexp(1).mean()
    probabilities = log_anchors.exp()
    mean = probabilities.mean(0)
    entropy = -torch.xlogy(mean, mean.clamp(min=torch.finfo(mean.dtype).tiny)).sum()
    return {
        "loss": consistency - entropy_weight * entropy,
        "consistency_loss": consistency,
        "entropy": entropy,
        "mean_max_probability": probabilities.detach().amax(1).mean(),
    }
