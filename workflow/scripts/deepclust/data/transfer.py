"""Getting bytes from one source: an https or http address, a file address, or a path."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from deepclust.core.progress import Progress
from deepclust.data.partial import Origin, Partial

_BLOCK = 1 << 20
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}


class SourceError(Exception):
    """A source does not give the file.

    Attributes:
        temporary: trying again may help.
        wait: seconds after which the server asks to try again; None: it does not say.
    """

    def __init__(self, reason: str, *, temporary: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.temporary = temporary
        self.wait = wait


def fetch(source: str, partial: Partial, resume: bool, client: httpx.Client, progress: Progress) -> None:
    """Bring `partial` to the full length of the file at `source`.

    Args:
        resume: continue from what `partial` holds, if the server can; else start again.

    Raises:
        SourceError: the source does not give the file; the bytes that have arrived stay in `partial`.
    """
    parts = urlsplit(source)
    if parts.scheme in {"http", "https"}:
        _fetch_http(source, partial, resume, client, progress)
    elif parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        _copy(Path(unquote(parts.path)), partial, progress)
    elif "://" in source:
        raise SourceError("not an address that can be fetched (https, http, file) nor a path")
    else:
        _copy(Path(source), partial, progress)


def _copy(path: Path, partial: Partial, progress: Progress) -> None:
    if not path.is_file():
        raise SourceError("no such file")
    with progress.task(f"copy {path.name}", path.stat().st_size, "B") as task:
        partial.begin(Origin(str(path), ""), keep=0)
        with partial.path.open("ab") as file:
            for block in _blocks(path):
                file.write(block)
                task.advance(len(block))


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise SourceError(error.strerror or str(error)) from error


def _fetch_http(source: str, partial: Partial, resume: bool, client: httpx.Client, progress: Progress) -> None:
    # Transfers are not compressed: the bytes of the file itself are wanted, and ranges of them.
    headers = {"Accept-Encoding": "identity"}
    if resume and partial.size:
        headers["Range"] = f"bytes={partial.size}-"
        if partial.origin is not None and partial.origin.source == source and partial.origin.validator:
            headers["If-Range"] = partial.origin.validator
    with (
        _explain_http_errors(),
        client.stream("GET", source, headers=headers, follow_redirects=True) as response,
    ):
        start, total = _extent(response, partial.size)
        if start is None:
            partial.discard()
            raise SourceError("has another version of the file", temporary=True)
        with progress.task(f"download {partial.target.name}", total, "B", done=start) as task:
            if start and start == total:
                return  # all of it had arrived before
            partial.begin(Origin(source, _validator(response)), keep=start)
            with partial.path.open("ab") as file:
                for block in response.iter_raw():
                    file.write(block)
                    task.advance(len(block))
    if total is not None and partial.size != total:
        raise SourceError(f"sent {partial.size} of {total} bytes", temporary=True)


@contextlib.contextmanager
def _explain_http_errors() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        temporary = isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)
        raise SourceError(str(error) or type(error).__name__, temporary=temporary) from error


def _extent(response: httpx.Response, size: int) -> tuple[int | None, int | None]:
    """Return how a response continues a partial file of `size` bytes: its first byte, and the length of the whole file.

    The first byte is None if it does not fit; the length is None if the server does not tell it.

    Raises:
        SourceError: the response is no file.
    """
    status = response.status_code
    if status == httpx.codes.OK:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    if status in {httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE}:
        extent = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
        first, length = extent.groups() if extent else (None, "*")
        total = None if length == "*" else int(length)
        # A range that starts at the end of the file cannot be satisfied: nothing is left to send.
        start = int(first) if first is not None else total
        return (size if start == size else None), total
    wait = response.headers.get("Retry-After", "")
    raise SourceError(
        f"HTTP {status} {response.reason_phrase}",
        temporary=status in _TEMPORARY,
        wait=float(wait) if wait.isdecimal() else None,
    )


def _validator(response: httpx.Response) -> str:
    """Return the version that a later request can ask for again; weak ETags do not promise equal bytes."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
