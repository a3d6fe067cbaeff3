"""Your own images, named in a list: a text file with one path per line, or a table of paths and labels.

Ids follow a hash of the path, so their order tells nothing about classes.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import DirectoryPath, Field, FilePath

from deepclust.core.errors import DeepclustError
from deepclust.core.image_lists import LABEL_COLUMN, read_list
from deepclust.data.classes import in_alphabetical_order
from deepclust.data.facts import DatasetFacts, OwnImageOptions
from deepclust.data.names import printable
from deepclust.data.splits import UNKNOWN, EncodedFile, EncodedSplit, opaque_order

FACTS = DatasetFacts(splits={"train": None, "test": None}, optional_splits={"test": "test_path"}, watch="listed")


class Options(OwnImageOptions):
    """Options of a list of images."""

    path: FilePath
    """The list. A `.csv` or `.tsv` file has a header and one image per row; any other file has one path per line."""
    test_path: FilePath | None = None
    """List of test images; without it there is no test split."""
    root: DirectoryPath | None = None
    """Folder that paths are relative to; by default the list's own."""
    path_column: str = Field(default="path", min_length=1)
    """Column of the paths."""
    label_column: str = Field(default=LABEL_COLUMN, min_length=1)
    """Column of the labels, any text; an empty field, `-1`, `nan`, `NaN` and `None` mean that the label is not known. A
    table without the default column has no labels; another column must be there."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> EncodedSplit:
    """Find the images named in `path` (train) or `test_path` (test).

    Both splits have the same classes: those of either list.

    Raises:
        DeepclustError: a list is not what it should be; see `read_list`.
    """
    listing = options.test_path if split == "test" else options.path
    if listing is None:
        raise DeepclustError("a list of images has a test split only where test_path is given")
    columns = options.path_column, options.label_column
    train = read_list(options.path, *columns)
    test = read_list(options.test_path, *columns) if options.test_path else {}
    labels = test if split == "test" else train
    classes, numbers = in_alphabetical_order(label for label in [*train.values(), *test.values()] if label)
    root = options.root or listing.parent
    files = (
        EncodedFile.stored(printable(name), numbers.get(labels[name], UNKNOWN), root / name)
        for name in opaque_order(labels)
    )
    skip = options.on_error == "skip"
    return EncodedSplit(classes, options.channels, files, skip_unreadable=skip, skip_limit=options.skip_limit)
