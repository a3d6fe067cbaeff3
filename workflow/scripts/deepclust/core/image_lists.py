"""Lists of images: a text file with one path per line, or a table of paths and labels."""

from collections.abc import Iterator
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.core.tables import DELIMITERS, TextTable, explain_text_errors, open_table

LABEL_COLUMN = "label"
"""The column of labels that a table may lack."""

NOT_KNOWN = frozenset({"", "-1", "-1.0", "nan", "NaN", "None"})
"""Values that programs write in place of a label that is not known."""


def read_list(path: Path, path_column: str, label_column: str) -> dict[str, str]:
    """Return each image's label by its path, as it is written; the label is empty where it is not known.

    Raises:
        DeepclustError: the list cannot be read, is empty, names an image twice or lacks a column; or a row has no path
            or another number of fields than there are columns.
    """
    labels: dict[str, str] = {}
    rows = _rows(path, path_column, label_column) if path.suffix.lower() in DELIMITERS else _lines(path)
    for name, label in rows:
        if "\0" in name:
            raise DeepclustError(f"{path} names {name!r}, but no path holds NUL: save the list as UTF-8")
        if name in labels:
            raise DeepclustError(f"{path} names {name} twice")
        labels[name] = label
    if not labels:
        raise DeepclustError(f"{path} names no images")
    return labels


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with explain_text_errors(path), path.open(encoding="utf-8-sig", newline="") as file:
        yield from ((line.strip(), "") for line in file if line.strip())


def _rows(path: Path, path_column: str, label_column: str) -> Iterator[tuple[str, str]]:
    with open_table(path) as table:
        labelled = _check_columns(table, path_column, label_column)
        for line, (name, *labels) in table.rows([path_column, label_column] if labelled else [path_column]):
            if not name:
                raise DeepclustError(f"{path}, line {line}: no path")
            label = labels[0].strip() if labels else ""
            yield name, "" if label in NOT_KNOWN else label


def _check_columns(table: TextTable, path_column: str, label_column: str) -> bool:
    """Check that the columns are there; tell whether there are labels: only their default column may be missing."""
    for option, wanted in (("path_column", path_column), ("label_column", label_column)):
        if wanted in table.columns:
            continue
        for column in table.columns:
            if column.strip('"') == wanted:
                raise DeepclustError(
                    f"{table.path} has the column {column}, quotes included (it is a .tsv): leave them out"
                )
            if column.lower() == wanted.strip().lower():
                raise DeepclustError(
                    f"{table.path} has no column {wanted!r}, but {column!r}: rename it, or set {option}: {column}"
                )
        if option == "path_column" or wanted != LABEL_COLUMN:
            raise DeepclustError(f"{table.path} has no column {wanted!r}, only {table.columns}")
    return label_column in table.columns
