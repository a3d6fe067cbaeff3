"""Addresses of files: the hub, another server, or a path here.

No other module reads or writes `hf://…`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deepclust.core.errors import DeepclustError

DEFAULT_FILE = "model.safetensors"
_SCHEME = "hf://"
_HUB = re.compile(rf"{_SCHEME}(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the Hugging Face hub.

    Attributes:
        repository: `owner/name`.
        file: path of the file in it.
        revision: branch, tag or commit; None: the one of the first use.
    """

    repository: str
    file: str
    revision: str | None


def is_on_hub(address: str) -> bool:
    """Tell whether an address begins like one on the hub."""
    return address.startswith(_SCHEME)


def hub_file(address: str) -> HubFile | None:
    """Return the file that `hf://owner/name[@revision][/file]` means; None for other addresses and paths.

    Raises:
        DeepclustError: it begins like an address on the hub, but is none.
    """
    if not is_on_hub(address):
        return None
    match = _HUB.fullmatch(address)
    if match is None:
        raise DeepclustError(f"{address} is no address on the hub: write {hub_address('owner/name[@revision][/file]')}")
    return HubFile(match["repository"], match["file"] or DEFAULT_FILE, match["revision"])


def hub_address(repository: str, file: str | None = None) -> str:
    """Return the address of a file of a repository, or of its weights."""
    return "/".join(filter(None, [f"{_SCHEME}{repository}", file]))


def local_path(address: str) -> Path | None:
    """Return the path of a file here, given as it is or as `file://…`; None for an address elsewhere."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in address else Path(address)
