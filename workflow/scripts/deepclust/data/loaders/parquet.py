"""Images in parquet files, in the layout of the Hugging Face hub.

One row per image; the column of images holds their encoded bytes and file names (`struct<bytes, path>`), or the bytes
alone. Names of classes are taken from the schema's `huggingface` metadata. Ids follow a hash of file and row, by way of
a temporary copy.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import DirectoryPath, Field

from deepclust.core.errors import DeepclustError
from deepclust.core.image_files import SPECIAL, is_special
from deepclust.data.classes import one_order
from deepclust.data.facts import DatasetFacts, OwnImageOptions
from deepclust.data.names import printable
from deepclust.data.splits import UNKNOWN, EncodedFile, EncodedSplit

_ROWS = 64  # read at once
_NULL = (None, {"bytes": None}, {"bytes": None, "path": None})

FACTS = DatasetFacts(splits={"train": None, "test": None}, optional_splits={"test": "test"}, watch=".parquet")


class Options(OwnImageOptions):
    """Options of images in parquet files."""

    path: DirectoryPath
    """Folder of the dataset, such as a clone of its repository."""
    train: str = Field(default="data/train-*.parquet", pattern="^[^/]")
    """Files of the train split: a pattern, relative to `path`."""
    test: str | None = Field(default=None, pattern="^[^/]")
    """Files of the test split, e.g. `data/test-*.parquet` or `data/validation-*.parquet`; without it there is none."""
    image_column: str = "image"
    """Column of the images."""
    label_column: str = "label"
    """Column of the labels, whole numbers from 0; null, NaN and -1 mean that the label is not known. An empty name: the
    images have no labels."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> EncodedSplit:
    """Read the images in the files of `split` (train or test).

    Both splits have the same classes: those of either's files, the first file's in its order before all others.

    Raises:
        DeepclustError: there are no such files, they are damaged or lack a column, or some name classes differently and
            others not at all.
    """
    paths, passed_over = _paths(options, split)
    others, _ = _paths(options, "train" if split == "test" else "test") if options.test else ([], [])
    train, test = (others, paths) if split == "test" else (paths, others)
    classes, numbers = _one_order({path: _classes(path, options) for path in [*train, *test]})
    files = (file for path in paths for file in _rows(path, options, numbers[path]))
    return EncodedSplit(
        classes,
        options.channels,
        files,
        skip_unreadable=options.on_error == "skip",
        skip_limit=options.skip_limit,
        shuffle=True,
        passed_over=passed_over,
    )


def _paths(options: Options, split: str) -> tuple[list[Path], list[tuple[str, str]]]:
    """Return the files of a split, and other entries with names like theirs."""
    pattern = options.test if split == "test" else options.train
    found = sorted(options.path.glob(pattern)) if pattern else []
    paths = [path for path in found if not is_special(path)]
    if not paths:
        raise DeepclustError(f"{options.path} holds no files {pattern} for the {split} split")
    others = set(found) - set(paths)
    return paths, [(printable(str(path.relative_to(options.path))), SPECIAL) for path in sorted(others)]


def _one_order(names: Mapping[Path, list[str] | None]) -> tuple[list[str] | None, dict[Path, list[int] | None]]:
    """Return one list of classes, and for each file the places of its own names in it.

    None: there are no names. Numbers in a file without names then mean the names that all others agree about.
    """
    named = {path: own for path, own in names.items() if own is not None}
    if not named:
        return None, dict.fromkeys(names)
    classes, places = one_order(list(named.values()))
    numbers = dict(zip(named, places, strict=True))
    nameless = [path for path in names if path not in named]
    if nameless and any(own != places[0] for own in places):
        raise DeepclustError(
            f"{nameless[0]} holds numbers of classes but no names (metadata `huggingface`), and other files have their "
            "names in different orders: write the names into each"
        )
    return classes, {path: numbers.get(path, places[0]) for path in names}


def _open(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        # As bytes: a name that is not Unicode cannot be passed as text.
        return pyarrow.parquet.ParquetFile(pyarrow.OSFile(os.fsencode(path)))
    except (pyarrow.ArrowException, OSError) as error:
        raise DeepclustError(f"{path} is damaged or no parquet file ({error}): get it again") from error


def _classes(path: Path, options: Options) -> list[str] | None:
    """Return the names of the classes; None: they are numbers; empty: there are no labels."""
    schema = _open(path).schema_arrow
    for column in [options.image_column, *([options.label_column] if options.label_column else [])]:
        if column not in schema.names:
            raise DeepclustError(f"{path} has no column {column!r}, only {', '.join(schema.names)}")
    if not options.label_column:
        return []
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        names = features.get(options.label_column, {}).get("names")
        return None if names is None else [str(name) for name in names]
    except (ValueError, AttributeError, TypeError) as error:
        raise DeepclustError(f"{path}: its metadata `huggingface` is not the hub's ({error})") from error


def _rows(path: Path, options: Options, numbers: Sequence[int] | None) -> Iterator[EncodedFile]:
    import pyarrow

    columns = [options.image_column, *([options.label_column] if options.label_column else [])]
    file = printable(str(path.relative_to(options.path)))
    row = 0
    try:
        for batch in _open(path).iter_batches(_ROWS, columns=columns):
            images = batch.column(options.image_column).to_pylist()
            labels = batch.column(options.label_column).to_pylist() if options.label_column else [None] * len(images)
            for image, label in zip(images, labels, strict=True):
                name = f"{file}/{row}"
                data = image.get("bytes") if isinstance(image, dict) else image
                if image in _NULL:
                    data = b""  # does not decode, like a damaged one
                if not isinstance(data, bytes):
                    raise DeepclustError(f"{name} holds no image bytes: they must be embedded in the parquet files")
                yield EncodedFile.loaded(name, _label(name, label, numbers), data)
                row += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise DeepclustError(f"{path} is damaged ({error}): get it again") from error


def _label(name: str, label: object, numbers: Sequence[int] | None) -> int:
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return UNKNOWN
    # Programs write whole numbers as floating-point ones if some labels are not known.
    if not isinstance(label, int | float) or not float(label).is_integer():
        raise DeepclustError(f"{name} has the label {label!r}, expected a whole number")
    number = int(label)
    if numbers is None or number == UNKNOWN:
        return number
    if not 0 <= number < len(numbers):
        raise DeepclustError(f"{name} has the label {number} of {len(numbers)} classes")
    return numbers[number]
