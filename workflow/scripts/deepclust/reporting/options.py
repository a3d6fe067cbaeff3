"""Options of the report. They change what is drawn, never a score."""

from pydantic import Field

from deepclust.core.options import Options


class MapOptions(Options):
    """The two-dimensional map of the features."""

    map_points: int = Field(2000, ge=10, le=20000)
    """Images on the map: a fixed random sample of the scored splits, the same for every backbone of a dataset."""
    map_perplexity: float = Field(30.0, gt=0)
    """Perplexity of t-SNE, about the number of neighbors that an image should stay close to; less where there are too
    few images."""


class RunFigureOptions(Options):
    """The figures of one run."""

    gallery_images: int = Field(12, ge=1, le=50)
    """Images per cluster in the gallery, a fixed random sample of the cluster."""
    gallery_clusters: int = Field(20, ge=1, le=100)
    """Clusters in the gallery at most, chosen evenly from the largest to the smallest."""


class PageOptions(Options):
    """The report page."""

    page_runs: int = Field(24, ge=0)
    """Runs with a section and figures of their own, the best of each dataset first. The leaderboard has all runs."""


class ReportOptions(MapOptions, RunFigureOptions, PageOptions):
    """The report."""
