"""Reading image files and checking that each decodes."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from deepclust.common.decoding import UnreadableImageError, decode_reduced
from deepclust.data.splits import EncodedFile

_AHEAD = 64  # files in memory at once, per thread


def read_checked(
    files: Iterable[EncodedFile], channels: int, threads: int
) -> Iterator[tuple[EncodedFile, bytes | UnreadableImageError]]:
    """Every file, in order, with its bytes, or with the reason why it is not an image."""

    def read(file: EncodedFile) -> bytes | UnreadableImageError:
        try:
            data = file.read()
            decode_reduced(data, channels, file.name, at_least=1)
        except OSError as error:
            return UnreadableImageError(file.name, error.strerror or str(error))
        except UnreadableImageError as error:
            return error
        return data

    waiting = iter(files)
    with ThreadPoolExecutor(threads) as pool:
        while group := list(islice(waiting, _AHEAD * threads)):
            yield from zip(group, pool.map(read, group))
