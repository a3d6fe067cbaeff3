"""Options of the feature stage."""

from typing import Annotated, Literal

from pydantic import Field

from deepclust.core.options import Options


class ExtractionOptions(Options):
    """Reading out a backbone's features."""

    image_size: int | None = Field(None, ge=1)
    """Side of the square images that the backbone sees, in pixels; by default its own."""
    crop_fraction: float | None = Field(None, gt=0, le=1)
    """Share of a resized image's side that is left when its centre is cropped to `image_size`; 1 keeps the whole
    shorter side. By default the backbone's own."""
    pooling: Literal["class", "avg", "max", "avgmax", "class+avg", "head"] | None = None
    """Pooling of a feature map or of tokens to one vector: their average, their maximum, the mean of both; the class
    token of a vision transformer, or that and the average of its patches; `head`: that of the network's own head. By
    default the backbone's own."""
    layers: Annotated[list[int], Field(min_length=1)] | None = None
    """Blocks of the network whose outputs are pooled and put one after the other, negative numbers counting from the
    last: `[-4, -3, -2, -1]` are the last four, `[-3]` is an earlier one. By default the backbone's own: for most, the
    end of the network."""
    test_time_augmentation: Literal["none", "flip", "five-crop", "ten-crop"] = "none"
    """Mean of the features of several views of an image, which takes as many times the time. `flip`: the image and its
    mirror image; `five-crop`: its centre and its four corners, if images are larger than the crop; `ten-crop`: these
    and their mirror images (Krizhevsky et al. 2012)."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the network. `auto`: bf16 if the hardware has units for it, else fp32."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features."""

    @property
    def crops(self) -> int:
        """Return the number of crops per image that are prepared."""
        return 5 if self.test_time_augmentation in {"five-crop", "ten-crop"} else 1


class NeighborOptions(Options):
    """Search for neighbors."""

    k: int = Field(20, ge=1)
    """Number of neighbors of every image; more if a head or a pretraining reads more, fewer if there are not so many
    images. Neighbors for heads with `normalize: half_whiten`, and the 20 nearest (at most `k`) by which all clusters
    are judged, are found among half-whitened features, those for other heads among features as they are."""
    recall: float = Field(1.0, gt=0, le=1)
    """Share of the true neighbors to find at least, measured on a sample of the images. 1: an exact search, whose time
    grows with the square of the number of images; less: an approximate index, for more than some 100,000 images."""
