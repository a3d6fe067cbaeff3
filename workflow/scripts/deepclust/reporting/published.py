"""Published numbers, each with its source and protocol."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deepclust.core.errors import DeepclustError

PROTOCOLS = ("held-out", "merged", "train", "test", "not stated")
METRICS = ("acc", "nmi", "ari")
TABLE = Path(__file__).with_name("published.csv")
_COLUMNS = ("dataset", "method", "backbone", "protocol", *METRICS, "source", "note")


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        dataset: the name in the literature, e.g. `CIFAR-10`; `CIFAR-100-20` means the 20 superclasses.
        protocol: `held-out` (trained on the train split, scored on the test split), `merged` (trained and scored on
            both together), `train` or `test` (trained and scored on that split alone) or `not stated`.
        scores: `acc`, `nmi` and `ari` as fractions; scores that were not published are missing.
        source: the publication of the numbers.
        note: remark that a reader needs to compare with them; may be empty.
    """

    dataset: str
    method: str
    backbone: str
    protocol: str
    scores: dict[str, float]
    source: str
    note: str


def read_published(path: Path = TABLE) -> list[Published]:
    """Read a table of published results, by default the project's: CSV with the columns above and scores in percent.

    Raises:
        DeepclustError: a column is missing, or a row has no source, an unknown protocol or an impossible score.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in _COLUMNS if column not in (reader.fieldnames or [])]
        if missing:
            raise DeepclustError(f"{path} lacks the columns {', '.join(missing)}")
        return [_parse(row, f"{path}, line {reader.line_num}") for row in reader]


def _parse(row: dict[str, str], where: str) -> Published:
    if not row["source"]:
        raise DeepclustError(f"{where}: a published number needs a source")
    if row["protocol"] not in PROTOCOLS:
        raise DeepclustError(f"{where}: protocol {row['protocol']!r} is none of {', '.join(PROTOCOLS)}")
    try:
        scores = {metric: float(row[metric]) / 100 for metric in METRICS if row[metric]}
    except ValueError as error:
        raise DeepclustError(f"{where}: {error}") from error
    if not scores or not all(-1 <= score <= 1 for score in scores.values()):
        raise DeepclustError(f"{where}: scores are percentages, and there is at least one")
    texts = {name: row[name] for name in ("dataset", "method", "backbone", "protocol", "source", "note")}
    return Published(scores=scores, **texts)


def comparable(
    published: Iterable[Published], dataset: str, protocols: Iterable[str], metric: str, most: int | None = None
) -> list[Published]:
    """Return published results of `dataset` that have `metric`: those under `protocols` first, then by score.

    Args:
        most: keep the first so many; None: all.
    """
    wanted = set(protocols)
    rows = [row for row in published if row.dataset == dataset and metric in row.scores]
    rows.sort(key=lambda row: (row.protocol not in wanted, -row.scores[metric], row.method, row.backbone))
    return rows[:most]
