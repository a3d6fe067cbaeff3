"""Files of weights from any source, which must stay as they were at their first use."""

from dataclasses import dataclass, replace
from pathlib import Path

from deepclust.backbones.hub import RevisionError, fetch_from_hub
from deepclust.backbones.pins import Pin, check_pin, keep_pin, pin_path, read_pin
from deepclust.core.addresses import HubFile, hub_file, local_path
from deepclust.core.errors import DeepclustError
from deepclust.core.files import sha256_file
from deepclust.core.progress import Progress


@dataclass(frozen=True)
class Source:
    """A file that is here.

    Attributes:
        path: its place here.
        weights: its origin: an address or a path.
        sha256: of the file.
        hub: its place on the hub with the commit, None elsewhere.
    """

    path: Path
    weights: str
    sha256: str
    hub: HubFile | None = None

    def origin(self) -> dict[str, str | None]:
        """Return the entry of `model.json` about where it came from."""
        return {
            "weights": self.weights,
            "repository": self.hub.repository if self.hub else None,
            "revision": self.hub.revision if self.hub else None,
            "sha256": self.sha256,
        }

    def keep(self, pins: Path) -> None:
        """Require this file of later uses of its address.

        Call it when the file has proved to be right: a server's error page must not be required of later downloads.
        """
        if local_path(self.weights) is None:
            keep_pin(pins, self._pin())

    def check(self, pins: Path) -> None:
        """Check that it is the file that came first from its address.

        Raises:
            DeepclustError: it is another file.
        """
        if local_path(self.weights) is None:
            check_pin(pins, self._pin())

    def _pin(self) -> Pin:
        return Pin(self.weights, self.hub.revision if self.hub else None, self.sha256)


def obtain(weights: str, file: Path | None, sha256: str | None, pins: Path, progress: Progress) -> Source:
    """Get the file that `weights` means.

    Args:
        weights: an address or a path.
        file: this file, if it is here or was downloaded; None: it is on the hub.
        sha256: the SHA-256 that it must have; None: any.
        pins: folder that remembers the version of the first use.

    Raises:
        DeepclustError: it cannot be had, is another file than asked for, or has changed since its first use.
    """
    wanted = hub_file(weights) if file is None else None
    if file is None and wanted is None:
        raise DeepclustError(f"{weights} was not fetched: give its file")
    if wanted is None:
        assert file is not None
        source = Source(file, weights, sha256_file(file))
    else:
        path, commit = _from_hub(wanted, weights, pins, progress)
        source = Source(path, weights, sha256_file(path), replace(wanted, revision=commit))
    if sha256 not in (None, source.sha256):
        raise DeepclustError(f"{weights} has SHA-256 {source.sha256}, but {sha256} is asked for (sha256)")
    source.check(pins)
    return source


def _from_hub(wanted: HubFile, weights: str, pins: Path, progress: Progress) -> tuple[Path, str]:
    pinned = read_pin(pins, weights)
    if wanted.revision is None and pinned is not None:
        wanted = replace(wanted, revision=pinned.revision)
    try:
        return fetch_from_hub(wanted, progress)
    except RevisionError as error:
        if pinned is None:
            raise
        raise DeepclustError(
            f"{error}; it was the first use's: delete {pin_path(pins, weights)} to use another"
        ) from error
