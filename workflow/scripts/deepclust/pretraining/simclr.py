"""SimCLR: two views of an image attract each other and repel all other images' (Chen et al. 2020, arXiv 2002.05709).

The defaults are SCAN's setting for CIFAR (Van Gansbeke et al. 2020): SGD instead of LARS, temperature 0.1, no blur.

Departures from SCAN's code: both views are compared with all others, as in SimCLR; SCAN's code compares only the first.
The learning rate falls to 0; there it falls to a thousandth of the highest.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.core.seeding import derive_seed
from deepclust.pretraining.engine.method import ImageFacts, Method
from deepclust.pretraining.engine.options import AugmentationOptions, PretrainingOptions


class Options(PretrainingOptions):
    """Options of SimCLR."""

    temperature: float = Field(0.1, gt=0)
    """Temperature of the contrastive loss; lower values weigh the hardest negatives more."""
    projection_dim: int = Field(128, ge=2)
    """Dimension of the projections that are compared."""
    augmentation: AugmentationOptions = AugmentationOptions()
    """Augmentation of the views of an image."""


class SimCLR(Method):
    """Backbone, a projector (linear, ReLU, linear; as wide as the features) and the NT-Xent loss between two views."""

    def __init__(self, options: Options, backbone: nn.Module, images: ImageFacts) -> None:
        super().__init__(options, backbone, images)
        width: int = backbone.feature_dim  # type: ignore[assignment]
        self.temperature = options.temperature
        self.projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, options.projection_dim))
        self.augment = images.augmentation(options.augmentation)

    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Draw two views of each image."""
        return [self.augment(images, derive_seed(seed, view)) for view in range(2)]

    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the projections of both views, each [B, projection_dim], after a common batch normalisation."""
        projections: Tensor = self.projector(self.backbone(torch.cat(views)))
        return projections.chunk(2)

    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """Return NT-Xent, and how often the other view of the same image is the nearest of all."""
        first, second = embeddings
        return nt_xent(first, second, self.temperature)


METHOD = SimCLR


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> dict[str, Tensor]:
    """Return the normalised temperature-scaled cross-entropy (Chen et al. 2020, eq. 1), averaged over all views.

    Args:
        first, second: projections [B, D] of two views of the same images.

    Returns:
        `loss`, and `accuracy`: the share of views whose nearest other view is of the same image.
    """
    projections = F.normalize(torch.cat([first, second]), dim=1)
    similarities = projections @ projections.T / temperature
    similarities.fill_diagonal_(-torch.inf)
    count = len(first)
    positives = torch.arange(2 * count, device=first.device).roll(count)
    return {
        "loss": F.cross_entropy(similarities, positives),
        "accuracy": (similarities.detach().argmax(1) == positives).float().mean(),
    }
