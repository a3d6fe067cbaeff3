"""Options of the clustering stage that belong to no single head: `choose_k` takes `ChooseKOptions`."""

from typing import Annotated, Literal

from pydantic import Field

from deepclust.heads.kit.head import HeadOptions


class ChooseKOptions(HeadOptions):
    """How the number of clusters is chosen, without labels, for runs with `k: auto`."""

    range: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] = (2, 30)
    """Smallest and largest number of clusters that is tried."""
    candidates: int = Field(40, ge=2)
    """Numbers that are tried, at most; of a wider range, some at even ratios."""
    samples: int = Field(10_000, ge=20)
    """Training images that all criteria are computed on, at most; of more, a fixed random sample is used. Raise it for
    large numbers of clusters: they need some dozens of images each."""
    resamples: int = Field(6, ge=2)
    """Subsamples, each of 80 % of these images, between whose clusterings stability is measured."""
    neighbors: int = Field(20, ge=1)
    """Nearest neighbors of an image in the graph of modularity and eigengap."""
    normalize: Literal["none", "l2", "center", "standardize", "whiten", "half_whiten"] = "center"
    """What happens to the features first; see the heads. Where clusters differ in few directions `whiten` hides
    them."""
