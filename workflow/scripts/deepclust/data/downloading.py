"""Downloads that arrive whole or not at all: several sources, several attempts, resumed, and checked before use."""

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from deepclust.core.errors import DeepclustError
from deepclust.core.files import explain_disk_errors
from deepclust.core.progress import Progress
from deepclust.data.checksums import Checksum
from deepclust.data.partial import Partial
from deepclust.data.transfer import SourceError, fetch

_ADVANCE = 1 << 20  # bytes; a failed attempt that brought so many more made progress
_LONGEST_WAIT = 60.0  # seconds


@dataclass(frozen=True)
class Patience:
    """How long to try one source.

    Attributes:
        attempts: failed attempts in a row, without progress, after which a source is given up.
        wait: seconds before the second attempt; they double with every further one.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes.
    """

    attempts: int = 5
    wait: float = 1.0
    connect: float = 15.0
    read: float = 60.0


def download(
    sources: Sequence[str],
    target: Path,
    checksum: Checksum | None,
    progress: Progress,
    patience: Patience | None = None,
) -> str:
    """Bring the file to `target` from the first source that has it; return that source.

    When an attempt or the process fails, the bytes so far stay in `<target>.part`. The next attempt or process goes on
    from there: from any source if a checksum decides at the end, else only from the same version at the same source.

    Args:
        sources: addresses (https, http, file) or paths.
        checksum: of the content; None: any content will do, except none or a web page, which servers in trouble send.

    Raises:
        DeepclustError: no source has the file, or the disk is full.
    """
    patience = patience or Patience()
    partial = Partial(target)
    problems = []
    timeout = httpx.Timeout(patience.read, connect=patience.connect)
    with explain_disk_errors(target), httpx.Client(timeout=timeout) as client:
        for source in sources:
            try:
                _get(source, partial, checksum, client, progress, patience)
            except SourceError as error:
                problems.append(f"{source}: {error}")
                continue
            partial.move_into_place()
            return source
    raise DeepclustError(
        f"cannot get {target.name}: {'; '.join(problems)}. Check the network, or name a copy of it: `source` of a "
        "dataset, `weights` of a backbone"
    )


def _get(
    source: str,
    partial: Partial,
    checksum: Checksum | None,
    client: httpx.Client,
    progress: Progress,
    patience: Patience,
) -> None:
    failures, furthest = 0, partial.size
    while True:
        origin = partial.origin
        same = origin is not None and origin.source == source and bool(origin.validator)
        resume = partial.size > 0 and (checksum is not None or same)
        try:
            fetch(source, partial, resume, client, progress)
            if checksum is not None:
                _verify(partial, checksum, continued=resume)
            elif partial.size == 0 or partial.is_web_page():
                problem = "a web page (HTML) instead of the file" if partial.size else "an empty file"
                partial.discard()
                raise SourceError(f"sent {problem}")
            return
        except SourceError as error:
            advanced = partial.size >= furthest + _ADVANCE
            failures = 1 if advanced else failures + 1
            furthest = max(furthest, partial.size)
            if not error.temporary or failures >= patience.attempts:
                raise
            seconds = _pause(error, failures, patience)
            print(f"{source}: {error}; trying again in {seconds:.1f} s", file=sys.stderr, flush=True)
            time.sleep(seconds)


def _verify(partial: Partial, checksum: Checksum, continued: bool) -> None:
    got = partial.hash(checksum.algorithm)
    if got != checksum.value:
        partial.discard()
        # Bytes of two versions may have been put together: worth a new start.
        raise SourceError(
            f"wrong checksum: {checksum.algorithm} is {got}, expected {checksum.value}", temporary=continued
        )


def _pause(error: SourceError, failures: int, patience: Patience) -> float:
    """Return the seconds to wait: exponential back-off with jitter, or what the server asks for."""
    seconds = patience.wait * 2 ** (failures - 1) * random.uniform(0.5, 1.0)
    return min(seconds if error.wait is None else error.wait, _LONGEST_WAIT)
