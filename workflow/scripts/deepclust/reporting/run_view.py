"""One run, for the figures that are drawn of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.reporting.projection import read_map
from deepclust.reporting.runs import ScoredRun, read_run
from deepclust.reporting.scopes import RunFiles
from deepclust.reporting.scored import Scored, read_scored


@dataclass(frozen=True)
class RunView:
    """One run, whose files are read when the first figure asks for them.

    Attributes:
        splits: names of the scored splits.
    """

    files: RunFiles
    splits: Sequence[str]

    @cached_property
    def run(self) -> ScoredRun:
        """Return the scores."""
        return read_run(self.files.metrics)

    @cached_property
    def scored(self) -> Scored:
        """Return the scored images with their clusters under the selected seed, and their labels."""
        files = self.files
        if files.clusters is None or not (files.images and files.labels):
            raise _not_read("clusters, images and labels")
        assert self.run.selected is not None
        return read_scored(files.clusters, self.run.selected, self.splits, files.images, files.labels)

    @cached_property
    def map(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the map: numbers of the images on it, [n], and their places, [n, 2]."""
        if self.files.map is None:
            raise _not_read("map")
        return read_map(self.files.map)


def _not_read(names: str) -> DeepclustError:
    return DeepclustError(f"a figure draws from {names}, which no figure of runs reads: name them in its FACTS")
