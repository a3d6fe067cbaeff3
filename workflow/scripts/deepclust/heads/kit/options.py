"""Options of the clustering stage that belong to no single head: `choose_k` takes `ChooseKOptions`."""

from typing import Annotated

from pydantic import Field

from deepclust.heads.kit.head import HeadOptions, Preparation


class ChooseKOptions(HeadOptions):
    """Options of the choice of the number of clusters, without labels, for runs with `k: auto`."""

    range: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] = (2, 30)
    """Smallest and largest number of clusters that is tried."""
    candidates: int = Field(40, ge=2)
    """Largest count of numbers that are tried; a wider range is tried at even ratios."""
    samples: int = Field(10_000, ge=20)
    """Largest number of training images that the criteria are computed on. If there are more, a fixed random sample is
    used. Raise it for large numbers of clusters: they need some dozens of images each."""
    resamples: int = Field(6, ge=2)
    """Number of subsamples, each of 80 % of these images; stability compares their clusterings."""
    neighbors: int = Field(20, ge=1)
    """Nearest neighbors of an image in the graph of modularity and eigengap."""
    normalize: Preparation = "center"
    """Preparation of the features; see the heads. `whiten` hides clusters that differ in few directions."""
