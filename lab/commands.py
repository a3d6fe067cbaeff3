"""The workflow's commands as its rules call them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "workflow" / "scripts"
Files = Mapping[str, Path | str | list[Path]]


def command(script: str, inputs: Files, outputs: Files, **options: object) -> list[str]:
    """The words of a command: its files by the names that its rule gives them, and its options; on one thread."""
    words = [sys.executable, str(SCRIPTS / f"{script}.py")]
    for kind, files in (("input", inputs), ("output", outputs)):
        for name, value in files.items():
            words += [f"--{kind}.{name}", *map(str, value if isinstance(value, list) else [value])]
    for name, value in {"threads": 1, **options}.items():
        words += [f"--{name}", str(value) if isinstance(value, str | Path) else json.dumps(value)]
    return words


def prepared(folder: Path, **labels: Path) -> dict[str, Path]:
    """The images of a split and their manifest in a folder, by the names of `prepare`."""
    return {"images": folder / "images.bin", "manifest": folder / "images.json", **labels}


def prepare_outputs(images: Path, labels: Path) -> dict[str, Path]:
    """All that `prepare` writes, by name."""
    return prepared(images, labels=labels / "labels.npy", classes=labels / "classes.json", ids=labels / "ids.csv")
