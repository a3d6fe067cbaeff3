"""Watches a training without labels and ends it when it is lost."""

import math

from torch import Tensor
from torch.nn import functional as F

from deepclust.common.errors import DeepclustError

COLLAPSED = 1e-3  # spread of features below which they tell images apart no more


def check_finite(means: dict[str, float], epoch: int) -> None:
    """Make sure that all numbers are numbers.

    Raises:
        DeepclustError: the training diverged.
    """
    for name, value in means.items():
        if not math.isfinite(value):
            raise DeepclustError(
                f"training diverged in epoch {epoch + 1}: {name} is {value}; "
                "try a lower learning_rate, more warmup_epochs or precision: fp32"
            )


def feature_spread(features: Tensor) -> float:
    """How far apart L2-normalised features [n, D] are: near 1 if they use all directions alike, 0 if they are equal.

    It is the standard deviation over images, averaged over dimensions, times the square root of D (as watched by Chen &
    He 2021, arXiv 2011.10566, section 4.1).
    """
    normalised = F.normalize(features, dim=1)
    return normalised.std(0).mean().item() * math.sqrt(features.shape[1])


def check_spread(spread: float, epoch: int) -> None:
    """Make sure that features tell images apart.

    Raises:
        DeepclustError: the features collapsed.
    """
    if spread < COLLAPSED:
        raise DeepclustError(
            f"features collapsed in epoch {epoch + 1}: feature_std is {spread:.2g}, all images look the same; "
            "try a lower learning_rate, more warmup_epochs or stronger augmentation"
        )
