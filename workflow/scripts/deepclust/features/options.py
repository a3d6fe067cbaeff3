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
