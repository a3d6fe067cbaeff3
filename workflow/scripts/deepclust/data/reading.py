"""Reading image files and checking that each decodes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import numpy.typing as npt

from deepclust.common.decoding import UnreadableImageError, decode_reduced
from deepclust.data.splits import EncodedFile, EncodedSplit

_GROUP = 64  # files that a thread reads at a time; so many per thread are in memory

Checked = tuple[EncodedFile, bytes | npt.NDArray[np.uint8] | UnreadableImageError]


def read_checked(split: EncodedSplit, threads: int) -> Iterator[Checked]:
    """Every file, in order, with its bytes (its pixels where the split has a shape), or the reason why not."""

    def read(file: EncodedFile) -> bytes | npt.NDArray[np.uint8] | UnreadableImageError:
        try:
            data = file.read()
            # To know whether it decodes a JPEG need not be decoded at its full size.
            pixels = decode_reduced(data, split.channels, file.name, None if split.shape else 1).pixels
        except OSError as error:
            return UnreadableImageError(file.name, error.strerror or str(error))
        except UnreadableImageError as error:
            return error
        if split.shape is None:
            return data
        if pixels.shape != split.shape:
            sizes = ["×".join(map(str, shape)) for shape in (pixels.shape, split.shape)]
            return UnreadableImageError(file.name, f"{sizes[0]}, expected {sizes[1]}")
        return pixels

    def read_group(files: list[EncodedFile]) -> list[bytes | npt.NDArray[np.uint8] | UnreadableImageError]:
        return [read(file) for file in files]

    waiting = iter(split.files)
    with ThreadPoolExecutor(threads) as pool:
        while ahead := list(islice(waiting, _GROUP * threads)):
            groups = [ahead[start : start + _GROUP] for start in range(0, len(ahead), _GROUP)]
            for group, results in zip(groups, pool.map(read_group, groups)):
                yield from zip(group, results)
