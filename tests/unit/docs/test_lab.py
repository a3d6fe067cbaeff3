"""What is measured in the lab can still be measured: its scripts find what they use in the library."""

import subprocess
import sys
from pathlib import Path

LAB = Path(__file__).resolve().parents[3] / "lab"
IMPORT = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"


def test_scripts_find_what_they_use():
    names = sorted(path.stem for path in LAB.glob("*.py") if path.stem != "run")  # which measures as it is imported
    assert "heads_table" in names
    done = subprocess.run([sys.executable, "-c", IMPORT, *names], cwd=LAB, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_script_is_quoted_or_used():
    """A script whose numbers no page has, and that no other script needs, goes."""
    texts = {path: path.read_text(encoding="utf-8") for path in LAB.glob("*.*") if path.suffix in {".py", ".md"}}
    pages = [LAB.parent / "docs" / "results.md", LAB.parent / "docs" / "methods.md"]
    texts |= {page: page.read_text(encoding="utf-8") for page in pages}
    for path in LAB.glob("*.py"):
        words = (f"lab/{path.name}", f"import {path.stem}", f"from {path.stem} import", f"`{path.name}`")
        others = [text for other, text in texts.items() if other != path]
        assert any(word in text for text in others for word in words), f"nothing quotes {path.name}"
