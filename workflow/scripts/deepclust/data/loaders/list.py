"""Your own images, named in a list: a text file with one path per line, or a table of paths and labels.

Ids follow a hash of the path, so their order tells nothing about classes. A changed list is noticed, a changed image
behind the same path is not.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import DirectoryPath, Field, FilePath

from deepclust.common.errors import DeepclustError
from deepclust.data.facts import DatasetFacts, ImageFileOptions
from deepclust.data.names import printable
from deepclust.data.splits import UNKNOWN, EncodedFile, EncodedSplit, opaque_order

DELIMITERS = {".csv": ",", ".tsv": "\t"}

FACTS = DatasetFacts(splits={"train": None, "test": None}, optional_splits={"test": "test_path"}, watch="nothing")


class Options(ImageFileOptions):
    """Options of a list of images."""

    path: FilePath
    """The list. A `.csv` or `.tsv` file has a header and one image per row; any other file has one path per line."""
    test_path: FilePath | None = None
    """List of test images; without it there is no test split."""
    root: DirectoryPath | None = None
    """Folder that paths are relative to; by default the list's own."""
    path_column: str = Field(default="path", min_length=1)
    """Column of the paths."""
    label_column: str = Field(default="label", min_length=1)
    """Column of the labels, any text; an empty field means that the label is not known. A table without the default
    column has no labels; another column must be there."""


def read_split(options: Options, split: str, archives: Sequence[Path]) -> EncodedSplit:
    """The images named in `path` (train) or `test_path` (test).

    Both splits have the same classes: those of either list.

    Raises:
        DeepclustError: a list is empty, names an image twice, lacks a column or has a field of several lines.
    """
    listing = options.test_path if split == "test" else options.path
    if listing is None:
        raise DeepclustError("a list of images has a test split only where test_path is given")
    train = _read(options.path, options)
    test = _read(options.test_path, options) if options.test_path else {}
    labels = test if split == "test" else train
    classes = sorted({label for label in [*train.values(), *test.values()] if label})
    numbers = {label: number for number, label in enumerate(classes)}
    root = options.root or listing.parent
    files = (
        EncodedFile(printable(name), numbers.get(labels[name], UNKNOWN), (root / name).read_bytes)
        for name in opaque_order(labels)
    )
    return EncodedSplit(classes, options.channels, files, skip_unreadable=options.on_error == "skip")


def _read(path: Path, options: Options) -> dict[str, str]:
    """Path of each image → its label; empty where it is not known."""
    labels: dict[str, str] = {}
    try:
        for name, label in _rows(path, options):
            if "\0" in name:
                raise DeepclustError(f"{path} names {name!r}, but no path holds NUL: save the list as UTF-8")
            if name in labels:
                raise DeepclustError(f"{path} names {name} twice")
            labels[name] = label
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DeepclustError(f"{path} cannot be read: {error}") from error
    if not labels:
        raise DeepclustError(f"{path} names no images")
    return labels


def _rows(path: Path, options: Options) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() not in DELIMITERS:
            yield from ((line.strip(), "") for line in file if line.strip())
            return
        rows = _fields(path, file)
        _, header = next(rows, (0, []))
        columns = [column.strip() for column in header]
        _check_columns(path, columns, options)
        for line, fields in rows:
            row = dict(zip(columns, fields, strict=False))
            if not row.get(options.path_column):
                raise DeepclustError(f"{path}, line {line}: no path")
            yield row[options.path_column], row.get(options.label_column, "").strip()


def _fields(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of every line of a table but the blank ones."""
    ending = path.suffix.lower()
    table = csv.reader(
        file,
        delimiter=DELIMITERS[ending],
        quoting=csv.QUOTE_NONE if ending == ".tsv" else csv.QUOTE_MINIMAL,
        skipinitialspace=True,
    )
    for fields in table:
        if any("\n" in field or "\r" in field for field in fields):
            raise DeepclustError(
                f"{path}: the field that ends on line {table.line_num} began before: put it on one line, "
                "or close its quotes"
            )
        if fields:
            yield table.line_num, fields


def _check_columns(path: Path, columns: Sequence[str], options: Options) -> None:
    """The columns of paths and labels must be there; that of labels may be missing if it is the default one."""
    for option in ("path_column", "label_column"):
        wanted = getattr(options, option)
        if wanted in columns:
            continue
        for column in columns:
            if column.strip('"') == wanted:
                raise DeepclustError(f"{path} has the column {column}, quotes included (it is a .tsv): leave them out")
            if column.lower() == wanted.strip().lower():
                raise DeepclustError(
                    f"{path} has no column {wanted!r}, but {column!r}: rename it, or set {option}: {column}"
                )
        if option == "path_column" or wanted != Options.model_fields[option].default:
            raise DeepclustError(f"{path} has no column {wanted!r}, only {columns}")
