"""The IDX format of MNIST (http://yann.lecun.com/exdb/mnist/): one array of bytes behind a header, packed by gzip.

The header is big-endian: two zero bytes, the type (8: unsigned byte), the number of dimensions, and each dimension as
32 bits.
"""

import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.data.facts import Archive
from deepclust.data.formats.archives import explain_damage
from deepclust.data.splits import RawBlock, RawSplit

SHAPE = (1, 28, 28)
_UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read the array in a gzip-packed IDX file, uint8.

    Args:
        dimensions: how many it must have.

    Raises:
        DeepclustError: the file is damaged, or is no array of bytes with that many dimensions.
    """
    with explain_damage(path), gzip.open(path) as file:
        data = file.read()
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]) or len(data) < header:
        raise DeepclustError(f"{path} is no IDX file of bytes with {dimensions} dimensions: delete it and get it again")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != np.prod(shape, dtype=object):
        sizes = " × ".join(map(str, shape))
        raise DeepclustError(f"{path} holds {len(data) - header} bytes, its header says {sizes}: get it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def archives(files: Mapping[str, tuple[str, str]], addresses: Sequence[str]) -> tuple[Archive, ...]:
    """Return the downloads of a set in this layout, each of one split.

    Args:
        files: SHA-256 and MD5 by the name of the file, images before labels.
        addresses: folders on servers that hold all of them.
    """
    return tuple(
        Archive(
            file=file,
            sources=tuple(address + file for address in addresses),
            sha256=sha256,
            md5=md5,
            splits=("train" if file.startswith("train") else "test",),
        )
        for file, (sha256, md5) in files.items()
    )


def read_split(archives: Sequence[Path], classes: Sequence[str]) -> RawSplit:
    """Read images and labels of one split of MNIST or of a set in its layout, uint8 [n, 1, 28, 28].

    Args:
        archives: the files of the images and of the labels.

    Raises:
        DeepclustError: a file is damaged, the two do not belong together, or a label is out of range.
    """
    images, labels = read_idx(archives[0], 3), read_idx(archives[1], 1)
    if len(images) != len(labels):
        raise DeepclustError(f"{archives[0]} holds {len(images)} images, {archives[1]} {len(labels)} labels")
    if images.shape[1:] != SHAPE[1:]:
        raise DeepclustError(f"{archives[0]} holds images of {images.shape[2]} × {images.shape[1]}, expected 28 × 28")
    names = [f"{archives[0].name}/{row}" for row in range(len(images))]
    return RawSplit(classes, SHAPE, [RawBlock(images[:, None], labels, names)])
