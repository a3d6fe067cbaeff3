"""docs/options.md says everything once; as a reader reads it, it gives every option of every method and its default."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from deepclust.planning.plan import Schema

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "options.md"
WORDS = 8000
SECTIONS = {"datasets": "loader", "backbones": "backbone", "heads": "head"}


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def read_page():
    """Return, by section and heading, the rows of the tables and the text between them."""
    page = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = page.setdefault(line[3:], {})
            rows, text = section.setdefault("", ([], []))
        elif line.startswith("### "):
            rows, text = section.setdefault(line[4:], ([], []))
        elif line.startswith("| `"):
            rows.append(cells(line))
        elif line and not line.startswith(("|", "#")) and page:
            text.append(line)
    return page


def told(section, name):
    """Return the options of a method, dotted key to default, as the page tells them."""
    shared = next(rows for heading, (rows, _) in section.items() if heading.startswith("shared options"))
    rows, text = next(found for heading, found in section.items() if heading.split(": ")[-1] == name)
    options = {key.strip("`"): default for key, _, default, _ in rows}
    named = " ".join(text).partition("[Shared](")[2].partition("): ")[2]
    for entry in re.findall(r"`([^`]+)`", named):
        key, _, default = entry.partition(": ")
        for other, _, usual, meaning in shared:
            other = other.strip("`")
            of = re.match(r"\(([^)]*)\) ", meaning)
            if of and name not in of[1].split(", "):
                continue
            if other == key or (key.endswith(".*") and other.startswith(key[:-1])):
                options[other] = f"`{default}`" if default else usual
    return options


def in_schema(node, definitions, prefix="", outer=None):
    """Yield dotted key and default of the options of a model and of those nested in it."""
    for key, option in node["properties"].items():
        nested = definitions[option["$ref"].split("/")[-1]] if "$ref" in option else {}
        default = (outer or {}).get(key, option.get("default", ...))
        if "properties" in nested:
            yield from in_schema(nested, definitions, f"{prefix}{key}.", default if isinstance(default, dict) else {})
        elif "const" not in option:
            yield f"{prefix}{key}", "required" if default is ... else f"`{json.dumps(default)}`"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_of_every_method_is_told_with_its_default(section):
    page, definitions = read_page()[section], Schema().definitions
    kind = SECTIONS[section]
    names = [name.split("/")[-1] for name in definitions[kind]["discriminator"]["mapping"].values()]
    assert names
    for name in names:
        options = told(page, name.removeprefix(f"{kind}."))
        assert options == dict(in_schema(definitions[name], definitions)), name


def test_no_row_stands_twice():
    rows = [row for section in read_page().values() for found, _ in section.values() for row in found]
    same = Counter((key, kind, re.sub(r"^\([^)]*\) ", "", meaning)) for key, kind, _, meaning in rows)
    assert len(rows) > 200
    assert [row for row, times in same.items() if times > 1] == []


def test_page_is_short_enough_to_be_read():
    words = [word for word in PAGE.read_text(encoding="utf-8").split() if word != "|"]
    assert len(words) <= WORDS
