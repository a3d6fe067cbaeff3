"""STL-10: colour photographs of 96 × 96 pixels; 5,000 + 8,000 in 10 classes, 100,000 without labels (Coates, 2011).

The binary version of https://cs.stanford.edu/~acoates/stl10/: files of pixels, plane by plane, column by column, and
files of labels, 1 to 10. Images keep the order of the archive, which is random. The MD5 is torchvision's, the SHA-256
that of TensorFlow Datasets for the same address.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.data.facts import Archive, ArchiveOptions, DatasetFacts
from deepclust.data.formats.archives import read_tar, wanted_members
from deepclust.data.splits import UNKNOWN, RawBlock, RawSplit

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
SHAPE = (3, 96, 96)
COUNTS = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}
_IMAGE = 3 * 96 * 96
_BLOCK = 1_000  # images

FACTS = DatasetFacts(
    splits=COUNTS,
    classes=len(CLASSES),
    shape=SHAPE,
    archives=(
        Archive(
            file="stl10_binary.tar.gz",
            sources=("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",),
            sha256="f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
            md5="91f7769df0f17e558f3565bffb0c7dfb",
        ),
    ),
    published_as="STL-10",
)


class Options(ArchiveOptions):
    """Options of STL-10."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> RawSplit:
    """Read the images of `split` (train, test or unlabeled), uint8 [n, 3, 96, 96].

    Raises:
        DeepclustError: the archive is not STL-10's.
    """
    return RawSplit(CLASSES, SHAPE, read_blocks(archives[0], split, COUNTS[split]))


def read_blocks(archive: Path, split: str, count: int) -> Iterator[RawBlock]:
    """Yield the `count` images of a split, some at a time."""
    labels = np.full(count, UNKNOWN) if split == "unlabeled" else _labels(archive, f"stl10_binary/{split}_y.bin", count)
    file = f"stl10_binary/{split}_X.bin"
    done = 0
    for member in wanted_members(archive, {file: None}):
        for block in member.blocks(_BLOCK * _IMAGE, count * _IMAGE):
            images = np.frombuffer(block, np.uint8).reshape(-1, *SHAPE).transpose(0, 1, 3, 2)
            rows = range(done, done + len(images))
            yield RawBlock(images, labels[done : done + len(images)], [f"{file}/{row}" for row in rows])
            done += len(images)


def _labels(archive: Path, file: str, count: int) -> npt.NDArray[np.integer]:
    labels = np.frombuffer(read_tar(archive, {file: count})[file], np.uint8)
    if labels.min() < 1 or labels.max() > len(CLASSES):
        wrong = next(label for label in labels if not 1 <= label <= len(CLASSES))
        raise DeepclustError(f"{archive}: {file} holds the label {wrong}, expected 1 to {len(CLASSES)}")
    return labels.astype(np.int32) - 1
