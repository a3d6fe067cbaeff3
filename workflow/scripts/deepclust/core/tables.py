"""Tables in text files that people or their programs wrote (CSV, TSV): every row has a field for each column."""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from deepclust.core.errors import DeepclustError

DELIMITERS = {".csv": ",", ".tsv": "\t"}


class TextTable:
    """An open table; see `open_table`.

    Attributes:
        columns: their names.
    """

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path = path
        self._lines = _lines(path, file)
        _, header = next(self._lines, (0, []))
        self.columns = [column.strip() for column in header]

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of the line and the fields of some columns, row by row.

        Args:
            wanted: names of columns that are there.

        Raises:
            DeepclustError: one of them is there twice, or a row has another number of fields than there are columns.
        """
        if twice := [column for column in wanted if self.columns.count(column) > 1]:
            raise DeepclustError(f"{self.path} has the column {twice[0]!r} twice: rename one of them")
        places = [self.columns.index(column) for column in wanted]
        for line, fields in self._lines:
            if len(fields) != len(self.columns):
                raise DeepclustError(
                    f"{self.path}, line {line}: {_count(fields, 'field')}, but the table has "
                    f"{_count(self.columns, 'column')}: leave empty fields empty, and put one that holds the delimiter "
                    "into quotes (.csv)"
                )
            yield line, [fields[place] for place in places]


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'s' if len(things) != 1 else ''}"


@contextlib.contextmanager
def open_table(path: Path) -> Iterator[TextTable]:
    """Open a table with a header (UTF-8).

    Fields of a `.tsv` are not quoted; any other file is a CSV.

    Raises:
        DeepclustError: the file cannot be read or is no text, or a field has several lines.
    """
    with explain_text_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        yield TextTable(path, file)


@contextlib.contextmanager
def explain_text_errors(path: Path) -> Iterator[None]:
    """Turn any error while a text is read into one line.

    Raises:
        DeepclustError: the file cannot be read or is no text.
    """
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DeepclustError(f"{path} cannot be read: {error}") from error


def _lines(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and fields of every line of a table but the blank ones."""
    ending = path.suffix.lower()
    table = csv.reader(
        file,
        delimiter=DELIMITERS.get(ending, ","),
        quoting=csv.QUOTE_NONE if ending == ".tsv" else csv.QUOTE_MINIMAL,
        skipinitialspace=True,
    )
    for number, fields in enumerate(table, 1):
        if table.line_num != number:
            raise DeepclustError(
                f"{path}: the field that ends on line {table.line_num} began before: put it on one line, "
                "or close its quotes"
            )
        if fields:
            yield table.line_num, fields
