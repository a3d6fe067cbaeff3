"""Sources of files, and the size of an experiment's downloads, said before it starts."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deepclust.core.addresses import hub_address, is_on_hub, local_path
from deepclust.planning.layout import rule_of

PATIENCE = 5.0  # seconds to wait for a server to tell a size


def looked_in(path: str | Path) -> str:
    """Return the folder that a relative path was looked for in, to be said after it; nothing for an absolute path."""
    return "" if Path(path).is_absolute() else f" (in {Path.cwd()})"


def planned_downloads(jobs: Iterable[Any]) -> tuple[list[tuple[Path, Sequence[str]]], list[str]]:
    """Return the downloads of Snakemake's jobs: files with their place and sources, and addresses on the hub."""
    files, hub = [], []
    for job in jobs:
        if rule_of(job) == "download":
            files.append((Path(job.output.archive), job.params.options["sources"]))
        elif rule_of(job) == "fetch_weights":
            options = job.params.options
            weights = options["weights"] or hub_address(f"timm/{options['model']}")
            hub += [weights] if is_on_hub(weights) else []
    return files, list(dict.fromkeys(hub))


def announcement(downloads: Iterable[tuple[Path, Sequence[str]]], hub: Sequence[str] = ()) -> list[str]:
    """Return one line on the downloads, their sizes and the free space, and one on the files from the hub.

    Args:
        downloads: for each file its place and its sources.
        hub: addresses on the Hugging Face hub; planning does not ask it how large they are, or what its cache holds.
    """
    lines = [f"From the hub, unless its cache has them: {', '.join(hub)}; of unknown size"] if hub else []
    sizes = {place: size_of(sources) for place, sources in downloads}
    if not sizes:
        return lines
    known = [size for size in sizes.values() if size is not None]
    total = ("at least " if len(known) < len(sizes) else "") + readable(sum(known)) if known else "of unknown size"
    files = ", ".join(f"{place.name} ({readable(size) if size is not None else '?'})" for place, size in sizes.items())
    here = next(folder for folder in next(iter(sizes)).absolute().parents if folder.exists())
    return [f"To download: {files}; {total} in all, {readable(shutil.disk_usage(here).free)} are free", *lines]


def size_of(sources: Sequence[str]) -> int | None:
    """Return the bytes of the file at the first source that tells them; None if none does."""
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
    """Return a size like `170 MB`, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
