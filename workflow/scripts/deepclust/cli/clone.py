"""The clone that a command works on: its Snakefile, and the library beside its rules."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

CLONE = Path(__file__).resolve().parents[4]
"""The clone of this library, unless it is an installed copy."""
SCRIPTS = Path(__file__).resolve().parents[2]
NO_CLONE = (
    "error: there is no Snakefile here, and deepclust is not installed from a clone that is still there: "
    "go to the folder of a clone, or name its Snakefile by --snakefile"
)


def snakefile(named: Path | None = None) -> Path:
    """Return the Snakefile that is named, else the one here, else the one of this library's own clone.

    Raises:
        SystemExit: there is none.
    """
    if named is not None:
        return named
    for path in (Path("Snakefile"), Path("workflow/Snakefile"), CLONE / "Snakefile"):
        if path.is_file() and (path.parent != CLONE or (CLONE / "workflow" / "rules").is_dir()):
            return path
    sys.exit(NO_CLONE)


def use_library_of_clone(words: Sequence[str]) -> None:
    """Start the command again with the library of the clone that it works on, unless it runs already.

    Planning compares results with the code of the clone, and two versions of the library cannot be in one process.

    Args:
        words: the command line, without the program.
    """
    library = (snakefile(_named(words)).resolve().parent / "workflow" / "scripts").resolve()
    if library == SCRIPTS or not (library / "deepclust" / "cli").is_dir():
        return
    path = os.pathsep.join(filter(None, [str(library), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "deepclust", *words]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})


def _named(words: Sequence[str]) -> Path | None:
    """Return the value of Snakemake's `--snakefile`."""
    for word, following in zip(words, [*words[1:], ""]):
        if word in ("--snakefile", "-s"):
            return Path(following)
        if word.startswith("--snakefile="):
            return Path(word.partition("=")[2])
    return None
