"""What a loader says about its dataset before anything is downloaded: the class behind every loader's `FACTS`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepclust.common.options import Options


class Archive(BaseModel):
    """The official file of a dataset. At least one checksum is known, so that a download can be trusted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """Name of the file."""
    sources: tuple[str, ...] = Field(min_length=1)
    """Addresses, in the order in which they are tried."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    md5: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")

    @model_validator(mode="after")
    def _has_checksum(self) -> "Archive":
        if self.sha256 is None and self.md5 is None:
            raise ValueError("an archive needs a checksum")
        return self


class DatasetFacts(BaseModel):
    """Facts of a dataset that planning needs. None: known only when the dataset is prepared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    splits: dict[str, int | None]
    """Splits and their numbers of images."""
    optional_splits: dict[str, str] = {}
    """Splits that exist only where an option is given: split → name of the option."""
    classes: int | None = None
    """Number of classes."""
    shape: tuple[int, int, int] | None = None
    """(C, H, W) where all images have one size and are stored raw."""
    archive: Archive | None = None
    """What is downloaded; None: nothing."""
    published_as: str | None = None
    """Name of the dataset in tables of published results."""


class ArchiveOptions(Options):
    """Options of every dataset that is downloaded. They concern `download`; `prepare` reads what it has fetched."""

    source: str | Annotated[list[str], Field(min_length=1)] | None = None
    """Where to get the archive instead of the official addresses: a path, or an address (https, http, file), or a list
    of them that is tried in order. The official checksum is still required, unless `sha256` says otherwise."""
    sha256: str | None = Field(default=None, pattern="^([0-9a-f]{64}|any)$")
    """SHA-256 of the archive at `source`, where it differs from the official one. `any` accepts any content; the
    provenance records it."""
