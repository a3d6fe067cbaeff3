"""The binary layout of the CIFAR archives (https://www.cs.toronto.edu/~kriz/cifar.html).

A file is a sequence of records: one byte of label (CIFAR-100: two, coarse and fine), then 3 × 32 × 32 bytes of pixels,
plane by plane, row by row.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from deepclust.core.errors import DeepclustError
from deepclust.data.formats.archives import read_tar
from deepclust.data.splits import RawBlock

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


def read_records(
    archive: Path, files: Sequence[str], records: int, classes: Sequence[int], column: int = 0
) -> Iterator[RawBlock]:
    """Yield the images of some files of a CIFAR archive, in the order given, one block per file.

    Args:
        archive: a .tar.gz.
        files: paths inside it.
        records: number of records in each file.
        classes: for each byte of label, the number that it must be below.
        column: number of the byte that is the label.

    Raises:
        DeepclustError: the archive is damaged, lacks a file, or a file has another size or a label out of range.
    """
    width = len(classes) + _PIXELS
    contents = read_tar(archive, dict.fromkeys(files, records * width))
    for file in files:
        table = np.frombuffer(contents.pop(file), np.uint8).reshape(records, width)
        for labels, limit in zip(table.T, classes, strict=False):
            if (labels >= limit).any():
                raise DeepclustError(f"{archive}: {file} holds the label {labels.max()}, expected 0 to {limit - 1}")
        pixels = table[:, len(classes) :].reshape(records, *SHAPE)
        yield RawBlock(pixels, table[:, column], [f"{file}/{row}" for row in range(records)])
