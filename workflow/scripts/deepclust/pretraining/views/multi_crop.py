"""Multi-crop: views of the usual size and more small ones (Caron et al. 2020, arXiv 2006.09882, section 3.3)."""

from itertools import groupby

import torch
from torch import Tensor, nn

from deepclust.core.seeding import derive_seed
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.engine.options import AugmentationOptions, SmallCropOptions


class MultiCrop(nn.Module):
    """Augmentation that draws several views of each image, of two sizes."""

    def __init__(
        self, images: ImageFacts, augmentation: AugmentationOptions, small: SmallCropOptions, views: int = 2
    ) -> None:
        """Make both augmentations, which differ in size and crop only.

        Args:
            images: facts about the images; their `size` is the usual size of a view.
            augmentation: options of the views.
            small: number, size and crop of the small views.
            views: number of views of the usual size.
        """
        super().__init__()
        self.views, self.small_views = views, small.count
        self.large = images.augmentation(augmentation)
        square = ImageFacts(images.count, (small.size, small.size), images.mean, images.std)
        self.small = square.augmentation(augmentation.model_copy(update={"crop_scale": small.crop_scale}))

    def forward(self, images: Tensor, seed: int) -> list[Tensor]:
        """Draw views, float [B, C, h, w], of images uint8 [B, C, H, W]: the large ones, then the small ones."""
        large = [self.large(images, derive_seed(seed, view)) for view in range(self.views)]
        return large + [self.small(images, derive_seed(seed, "small", view)) for view in range(self.small_views)]


def embed_by_size(network: nn.Module, views: list[Tensor]) -> list[Tensor]:
    """Return the outputs [B, D] of `network` for each view; neighbouring views of equal size are computed together."""
    outputs: list[Tensor] = []
    for _, group in groupby(views, key=lambda view: view.shape[2:]):
        same = list(group)
        outputs += network(torch.cat(same)).chunk(len(same))
    return outputs
