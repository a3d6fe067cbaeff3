"""Facts of a dataset before anything is downloaded: the class behind every loader's `FACTS`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from deepclust.core.options import Options


class Archive(BaseModel):
    """An official file of a dataset.

    If no checksum has been published, the one of the first download is recorded and required from then on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """Name of the file."""
    sources: tuple[str, ...] = Field(min_length=1)
    """Addresses, in the order in which they are tried."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    md5: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    splits: tuple[str, ...] | None = None
    """Splits that are read from it; None: all."""


class Variant(BaseModel):
    """Facts that differ if an option of the loader has a certain value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    splits: dict[str, int | None] | None = None
    classes: int | None = None
    archives: tuple[Archive, ...] | None = None
    published_as: str | None = None

    @model_serializer(mode="wrap")
    def _only_what_differs(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if name in self.model_fields_set}


class DatasetFacts(BaseModel):
    """Facts of a dataset that planning needs; None: known only when the dataset is prepared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    splits: dict[str, int | None]
    """Splits and their numbers of images."""
    optional_splits: dict[str, str] = {}
    """Splits that exist only where an option is given: split → name of the option."""
    classes: int | None = None
    """Number of classes."""
    shape: tuple[int, int, int] | None = None
    """(C, H, W) if all images have one size and are stored raw."""
    archives: tuple[Archive, ...] = ()
    """Files to download."""
    watch: Literal["images", "folders", ".parquet", ".tar", "listed"] = "images"
    """Files that are watched behind the paths in the options: the images of a folder, or its files with this ending;
    for folders too large to look at every file, new and removed files two levels down; or the images that lists name.
    """
    published_as: str | None = None
    """Name of the dataset in tables of published results."""
    variants: dict[str, dict[str, Variant]] = {}
    """Option → its value → the facts that differ."""

    def of(self, options: Options) -> "DatasetFacts":
        """Return the facts under these options."""
        changes: dict[str, Any] = {}
        for option, variants in self.variants.items():
            variant = variants.get(str(getattr(options, option)))
            changes |= {} if variant is None else {name: getattr(variant, name) for name in variant.model_fields_set}
        return self.model_copy(update=changes)

    def archives_of(self, split: str) -> list[Archive]:
        """Return the files that a split is read from."""
        return [archive for archive in self.archives if archive.splits is None or split in archive.splits]


class ArchiveOptions(Options):
    """Options of every dataset that is one download.

    They concern `download`; `prepare` reads the downloaded file.
    """

    source: str | Annotated[list[str], Field(min_length=1)] | None = None
    """Source of the archive instead of the official addresses: a path, or an address (https, http, file), or a list of
    them that is tried in order. The official checksum is still required, unless `sha256` says otherwise."""
    sha256: str | None = Field(default=None, pattern="^([0-9a-f]{64}|any)$")
    """SHA-256 of the archive at `source`, if it differs from the official one. `any` accepts any content; the
    provenance records it."""


class FilesOptions(Options):
    """Options of every dataset that is several downloads."""

    source: str | Annotated[list[str], Field(min_length=1)] | None = None
    """Source of the files instead of the official addresses: a folder, or an address to which their names are added, or
    a list of them that is tried in order. The official checksums are still required, unless `sha256` says otherwise."""
    sha256: Literal["any"] | None = None
    """`any` accepts any content; the provenance records it."""


def _from_flag(value: object) -> object:
    """Turn the text of a flag into its number, which a `Literal` of numbers takes."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class ImageFileOptions(Options):
    """Options of every dataset of image files."""

    channels: Annotated[Literal[1, 3], BeforeValidator(_from_flag)] = 3
    """3 for color, 1 for gray; images are converted as they are decoded."""
    on_error: Literal["fail", "skip"] = "fail"
    """Reaction to images that do not decode: fail, naming them, or leave them out and list them in `skipped.csv`,
    beside the labels."""
    skip_limit: float = Field(default=0.5, ge=0, le=1)
    """The largest share of the images that `on_error: skip` may leave out; more than that is an error."""


class OwnImageOptions(ImageFileOptions):
    """Options of every dataset whose splits are one's own."""

    on_overlap: Literal["fail", "keep"] = "fail"
    """Reaction to test images that are training images as well (the same bytes): fail, naming some, or keep them with a
    warning, for instance because an official split is so."""
