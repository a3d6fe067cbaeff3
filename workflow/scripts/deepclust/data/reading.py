"""Reading image files and checking that each decodes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from deepclust.core.decoding import UnreadableImageError, decode_reduced
from deepclust.data.splits import EncodedFile, EncodedSplit

_AHEAD = 2  # groups of files in memory for each thread
_GROUP = 16  # files of a group, unless there are large ones
_GROUP_BYTES = 2**20  # about so many in a group of several files

Result = TypeVar("Result")
Content = bytes | npt.NDArray[np.uint8] | UnreadableImageError


def read_checked(split: EncodedSplit, threads: int) -> Iterator[tuple[EncodedFile, Content]]:
    """Yield every file, in order, with its bytes (its pixels if the split has a shape), or the reason why not."""

    def read(file: EncodedFile) -> Content:
        try:
            data = file.read()
            # A JPEG shows whether it decodes at less than its full size.
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

    return in_threads(split.files, read, _size, threads)


def in_threads(
    files: Iterable[EncodedFile],
    work: Callable[[EncodedFile], Result],
    size: Callable[[Result], int],
    threads: int,
) -> Iterator[tuple[EncodedFile, Result]]:
    """Yield every file, in order, with the result of `work`; few large ones are in memory at a time.

    Args:
        size: tells by its result how many bytes a file takes in memory.
    """

    def work_on(group: list[EncodedFile]) -> list[Result]:
        return [work(file) for file in group]

    waiting = iter(files)
    ahead: deque[tuple[list[EncodedFile], Future[list[Result]]]] = deque()
    largest, together = 0, 1
    with ThreadPoolExecutor(threads) as pool:
        while True:
            while len(ahead) < _AHEAD * threads and (group := list(islice(waiting, together))):
                ahead.append((group, pool.submit(work_on, group)))
            if not ahead:
                return
            group, working = ahead.popleft()
            results = working.result()
            yield from zip(group, results)
            largest = max(largest, *map(size, results))
            together = min(max(_GROUP_BYTES // max(largest, 1), 1), _GROUP)


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else getattr(content, "nbytes", 0)
