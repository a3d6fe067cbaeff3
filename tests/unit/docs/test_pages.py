"""Every page of Markdown can be read in an editor and leads where it says."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = (".", "docs", "lab", "experiments", "weights")
PAGES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
WIDTH = 160


def prose(text):
    """The lines outside code blocks and tables, with their numbers from 1."""
    code = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and not line.lstrip().startswith("|"):
            yield number, line


def anchors(page):
    """The anchors that GitHub gives to the headings of a page; a heading that is there again gets a number."""
    found: list[str] = []
    for _, line in prose(page.read_text(encoding="utf-8")):
        if match := re.match(r"#+ (.+)", line):
            words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", match[1]).strip().lower()
            anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            found.append(f"{anchor}-{again}" if (again := found.count(anchor)) else anchor)
        found += re.findall(r'<a id="([^"]+)"', line)
    return found


def links(page):
    """What the links and images of a page point to on this disk: path and anchor."""
    for _, line in prose(re.sub(r"^\s*\|", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if "://" not in target:
                path, _, anchor = unquote(target).partition("#")
                yield page.parent / path if path else page, anchor


def test_pages_are_found():
    assert {page.name for page in PAGES} >= {"README.md", "CHANGELOG.md", "results.md", "options.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_no_wider_than_an_editor(page):
    wide = [number for number, line in prose(page.read_text(encoding="utf-8")) if len(line) > WIDTH]
    assert not wide, f"{page.relative_to(ROOT)}: wrap lines {wide} at {WIDTH} columns"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    broken = [
        f"{path.relative_to(ROOT)}#{anchor}"
        for path, anchor in ((path.resolve(), anchor) for path, anchor in links(page))
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path))
    ]
    assert not broken


def test_no_page_is_forgotten():
    """Pages in other folders would not be checked."""
    known = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    if known.returncode:
        pytest.skip("not a clone")
    assert {ROOT / name for name in known.stdout.split()} <= set(PAGES)
