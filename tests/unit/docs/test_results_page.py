"""docs/results.md names commands that exist, and published numbers as they are on record."""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "workflow" / "scripts" / "deepclust" / "reporting" / "published.csv"


def section(heading):
    """The lines below a heading that begins so."""
    return PAGE.partition(f"## {heading}")[2].partition("\n## ")[0].splitlines()


def test_every_row_names_an_experiment_that_is_there():
    named = set(re.findall(r"`(?:experiments/)?([\w-]+\.yaml)`", PAGE))
    assert "cifar10-scan-cpu.yaml" in named
    assert {name for name in named if not (ROOT / "experiments" / name).exists()} == set()


def test_every_head_is_one_that_the_script_knows():
    script = (ROOT / "lab" / "heads_on_features.py").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in PAGE.splitlines() if re.match(r"\| .* \| `[\w-]+` \| \d", line)]
    assert len(rows) > 50
    assert {row[1].strip("`") for row in rows if f'"{row[1].strip("`")}": (' not in script} == set()


def test_published_numbers_are_those_on_record():
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        known = {tuple(row[name] or "–" for name in ("acc", "nmi", "ari")) for row in csv.DictReader(file)}
    table = [line.strip("| ").split(" | ") for line in section("CIFAR-10: trained on one CPU core") if " | " in line]
    start = next(number for number, row in enumerate(table) if row[-1] == "source")
    rows = table[start + 2 :]
    assert rows
    assert {row[0] for row in rows if tuple(row[1:4]) not in known} == set()
