"""Self-labelling: confident predictions become labels for strong views (Van Gansbeke et al. 2020, section 2.3).

SCAN: Learning to Classify Images without Labels, ECCV 2020, arXiv 2005.12320. Training starts from a backbone with
clusters of its own (SCAN, SeCu). The defaults are those for CIFAR-10.

Departures: a batch without any confident image changes nothing; the authors' code stops. Views show the whole stored
square, resized; the published ones crop it. A projector that comes with the clusters is trained further without its
batch normalisation, which is folded in.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.engine.options import MethodFacts, Optimizer, PretrainingOptions
from deepclust.pretraining.parts.classifier import Classifier
from deepclust.pretraining.views.strong_augmentation import StrongAugmentation, StrongAugmentationOptions

FACTS = MethodFacts(native_k="clusters", needs_clusters=True)
PLAIN = StrongAugmentationOptions(flip_probability=0, operations=0, cutout=0)


class Options(PretrainingOptions):
    """Options of self-labelling."""

    start_from: str
    """Backbone whose weights and clusters training starts from; it must have the same architecture."""
    clusters: int = Field(ge=2)
    """Number of clusters, which is that of the backbone it starts from."""
    threshold: float = Field(0.99, ge=0, lt=1)
    """An image counts if the probability of its cluster is higher than this."""
    balance: bool = True
    """Give all clusters among a batch's confident images the same weight."""
    augmentation: StrongAugmentationOptions = StrongAugmentationOptions()
    """Augmentation of the views that learn the labels."""
    epochs: int = Field(200, ge=1)
    """Passes over the images."""
    batch_size: int = Field(1000, ge=2)
    """Images per step."""
    optimizer: Optimizer = "adam"
    """Optimizer. LARS is SGD with momentum and steps scaled per layer, for large batches. LARC is LARS whose steps are
    never longer than those of SGD."""
    learning_rate: float = Field(1e-4, gt=0)
    """Learning rate; after the warm-up it is constant."""


class SelfLabel(Classifier):
    """Backbone and clusters of another method, which see each image as it is and in a strong view."""

    options: Options

    def __init__(self, options: Options, backbone: nn.Module, images: ImageFacts) -> None:
        start = images.start_head
        if start is None:
            raise DeepclustError(
                f"backbone {options.start_from} has no clusters of its own: start from one of scan, secu or tcc"
            )
        if len(start.weight) != options.clusters:
            raise DeepclustError(f"{options.start_from} has {len(start.weight)} clusters, not {options.clusters}")
        super().__init__(options, backbone, images, options.clusters)
        self.projector, self.normalize = start.projector, start.normalize
        self.head = nn.Linear(start.weight.shape[1], options.clusters)
        self.head.load_state_dict({"weight": start.weight, "bias": start.bias})
        self.plain, self.strong = (
            StrongAugmentation(each, images.size, images.mean, images.std) for each in (PLAIN, options.augmentation)
        )

    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Return each image as it is, and a strong view of it."""
        return [self.plain(images, seed), self.strong(images, seed)]

    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the scores of both views, each [B, k], those of the plain one without gradient."""
        with torch.no_grad():
            plain = self.logits(views[0])
        return plain, self.logits(views[1])

    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of the strong views with the confident clusters of the plain ones."""
        plain, strong = embeddings
        return self_label_loss(plain, strong, self.options.threshold, self.options.balance)


METHOD = SelfLabel


def self_label_loss(plain: Tensor, strong: Tensor, threshold: float, balance: bool) -> dict[str, Tensor]:
    """Return the weighted mean cross-entropy of the images whose plain view is confident; 0 if there is none.

    Args:
        plain, strong: scores [B, k].
        balance: whether each image weighs 1 / the number of confident images of its cluster.
    """
    confidence, labels = plain.softmax(1).max(1)
    confident = (confidence > threshold).to(strong.dtype)
    weights = confident
    if balance:
        sizes = torch.zeros_like(plain[0], dtype=strong.dtype).scatter_add(0, labels, confident)
        weights = confident / sizes.clamp(min=1)[labels]
    losses = F.cross_entropy(strong, labels, reduction="none")
    return {
        "loss": (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny),
        "confident": confident.mean(),
        "mean_max_probability": confidence.mean(),
    }
