"""The scored images of a run: its splits one after the other, with assignments and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.evaluation.assignments import read_assignments


@dataclass(frozen=True)
class Scored:
    """The scored splits of a run, in the order in which the evaluation concatenated them.

    Attributes:
        images: one prepared split after the other.
        assignments: cluster of every image, int64 [N].
        labels: class of every image, -1 if unknown, int64 [N].
    """

    images: Sequence[Images]
    assignments: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    @property
    def labelled(self) -> bool:
        """Tell whether any image has a known class."""
        return bool((self.labels >= 0).any())

    def decode(self, index: int) -> npt.NDArray[np.uint8]:
        """Return image number `index` of all splits together, uint8 [C, H, W]."""
        for split in self.images:
            if index < len(split):
                return split.decode(index)
            index -= len(split)
        raise IndexError(index)


def read_scored(
    clusters: Path, seed: int, splits: Sequence[str], images: Sequence[Path], labels: Sequence[Path]
) -> Scored:
    """Open the scored splits.

    Args:
        clusters: `clusters.safetensors` with `seed<seed>/assignments/<split>`.
        splits: names of the scored splits.
        images: the file `images.json` of each split, in the same order.
        labels: the file `labels.npy` of each split, in the same order.

    Raises:
        DeepclustError: the files do not belong together.
    """
    assignments = np.concatenate(read_assignments(clusters, [seed], splits), axis=1)[0]
    opened = [Images(path.parent) for path in images]
    known = np.concatenate([np.load(path, allow_pickle=False).astype(np.int64) for path in labels])
    counts = {"images": sum(map(len, opened)), "assignments": len(assignments), "labels": len(known)}
    if len(set(counts.values())) > 1:
        raise DeepclustError(f"{clusters}: the numbers of {counts} differ: these files are not of the same splits")
    return Scored(opened, assignments, known)
