"""Options of the report, beside those of its figures; none of them changes a score."""

from pydantic import Field

from deepclust.core.options import Options


class MapOptions(Options):
    """The two-dimensional map of the features."""

    map_points: int = Field(2000, ge=10, le=20000)
    """Images on the map: a fixed random sample of the scored splits, the same for every backbone of a dataset."""
    map_perplexity: float = Field(30.0, gt=0)
    """Perplexity of t-SNE, about the number of neighbors that an image should stay close to; less if there are too few
    images."""


class PageOptions(Options):
    """The report page."""

    page_runs: int = Field(24, ge=0)
    """Runs with a section and figures of their own, the best of each dataset first. The leaderboard has all runs."""
