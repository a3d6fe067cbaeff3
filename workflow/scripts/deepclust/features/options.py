"""Options of the feature stage."""

from typing import Literal

from pydantic import Field

from deepclust.common.options import Options


class ExtractionOptions(Options):
    """How a backbone's features are read out."""

    image_size: int | None = Field(None, ge=1)
    """Side of the square images that the backbone sees, in pixels; by default its own."""
    pooling: Literal["avg", "max", "avgmax"] = "avg"
    """How a feature map becomes one vector: its average, its maximum, or the mean of both."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the network. `auto`: bf16 where the hardware has units for it, else fp32."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features."""


class NeighborOptions(Options):
    """How neighbors are searched."""

    k: int = Field(20, ge=1)
    """Number of neighbors of every image."""
    recall: float = Field(1.0, gt=0, le=1)
    """Share of the true neighbors to find at least, measured on a sample of the images. 1: an exact search, whose time
    grows with the square of the number of images; less: an approximate index, for more than some 100,000 images."""
