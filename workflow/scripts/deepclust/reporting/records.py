"""Origin of the results: revision, versions and devices from the provenance of the runs."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepclust.core.files import read_json
from deepclust.reporting.runs import ScoredRun

Origin = list[tuple[str, list[tuple[str, int]]]]


def facts(runs: Iterable[ScoredRun], records: Iterable[Path]) -> Origin:
    """Return revision, devices and versions: their values with the number of files that name them, most frequent first.

    Args:
        runs: name the device and the versions that clustering used.
        records: provenance files beside the results, with the revision.
    """
    counts: dict[str, Counter[str]] = {}

    def count(name: str, value: Any) -> None:
        if value:
            counts.setdefault(name, Counter())[str(value)] += 1

    for run in runs:
        count("device", run.cost.get("device"))
        for package, version in sorted((run.cost.get("packages") or {}).items()):
            count(package, version)
    for path in records:
        record = read_json(path)
        count("git revision", record.get("git"))
        count("Python", record.get("python"))
    first = [name for name in ("git revision", "device", "Python") if name in counts]
    order = first + sorted(set(counts) - set(first))
    return [(name, sorted(counts[name].items(), key=lambda item: (-item[1], item[0]))) for name in order]
