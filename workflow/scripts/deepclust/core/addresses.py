"""Where weights come from: the hub, another server, or a file here."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from deepclust.core.errors import DeepclustError

DEFAULT_FILE = "model.safetensors"
_HUB = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")


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


def hub_file(weights: str) -> HubFile | None:
    """The file that `hf://owner/name[@revision][/file]` means; None for other addresses and paths.

    Raises:
        DeepclustError: it starts like an address of the hub, but is none.
    """
    if not weights.startswith("hf://"):
        return None
    match = _HUB.fullmatch(weights)
    if match is None:
        raise DeepclustError(f"weights {weights} is no address on the hub: write hf://owner/name[@revision][/file]")
    return HubFile(match["repository"], match["file"] or DEFAULT_FILE, match["revision"])


def is_local(weights: str) -> bool:
    """Whether they are a file here: a path, or `file://` with one."""
    return "://" not in weights or urlsplit(weights).scheme == "file"
