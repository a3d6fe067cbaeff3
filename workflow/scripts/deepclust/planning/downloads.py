"""Where files come from, and how much an experiment has to download, said before it starts."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

PATIENCE = 5.0  # seconds to wait for a server to tell a size


def local_path(source: str) -> Path | None:
    """The path of a source that is a file here, None for an address elsewhere."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in source else Path(source)


def announcement(downloads: Iterable[tuple[Path, Sequence[str]]]) -> list[str]:
    """One line about the files to be downloaded: how many, how large, how much room there is.

    Args:
        downloads: for each file its place and its sources.
    """
    sizes = {place: size_of(sources) for place, sources in downloads}
    if not sizes:
        return []
    known = [size for size in sizes.values() if size is not None]
    total = ("at least " if len(known) < len(sizes) else "") + readable(sum(known)) if known else "of unknown size"
    files = ", ".join(f"{place.name} ({readable(size) if size is not None else '?'})" for place, size in sizes.items())
    here = next(folder for folder in next(iter(sizes)).absolute().parents if folder.exists())
    return [f"To download: {files}; {total} in all, {readable(shutil.disk_usage(here).free)} are free"]


def size_of(sources: Sequence[str]) -> int | None:
    """Bytes of the file at the first source that tells; None where none does."""
    for source in sources:
        path = local_path(source)
        if path is not None and path.is_file():
            return path.stat().st_size
        if urlsplit(source).scheme in {"http", "https"} and (size := _remote_size(source)) is not None:
            return size
    return None


def _remote_size(address: str) -> int | None:
    import httpx

    try:
        headers = {"Accept-Encoding": "identity"}
        answer = httpx.head(address, timeout=PATIENCE, follow_redirects=True, headers=headers).raise_for_status()
    except httpx.HTTPError:
        return None
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def readable(size: float) -> str:
    """`170 MB`, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
