"""The binary layout of the CIFAR archives (https://www.cs.toronto.edu/~kriz/cifar.html).

A file is a sequence of records: one byte of label, then 3 × 32 × 32 bytes of pixels, plane by plane, row by row.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from deepclust.common.errors import DeepclustError
from deepclust.data.archives import read_tar
from deepclust.data.splits import RawBlock

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_RECORD = 1 + _PIXELS


def read_records(archive: Path, files: Sequence[str], records: int, classes: int) -> Iterator[RawBlock]:
    """The images of some files of a CIFAR archive, in the order given, one block per file.

    Args:
        archive: a .tar.gz.
        files: paths inside it.
        records: number of records in each file.
        classes: labels must be below it.

    Raises:
        DeepclustError: the archive is damaged, lacks a file, or a file has another size or a label out of range.
    """
    contents = read_tar(archive, dict.fromkeys(files, records * _RECORD))
    for file in files:
        table = np.frombuffer(contents.pop(file), np.uint8).reshape(records, _RECORD)
        labels = table[:, 0]
        if (labels >= classes).any():
            raise DeepclustError(f"{archive}: {file} holds the label {labels.max()}, expected 0 to {classes - 1}")
        yield RawBlock(table[:, 1:].reshape(records, *SHAPE), labels, [f"{file}/{row}" for row in range(records)])
