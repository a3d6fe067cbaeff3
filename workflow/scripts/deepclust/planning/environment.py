"""The environment of jobs."""

import os
import re
import sys
from pathlib import Path
from shlex import quote

PYTHON = Path(sys.executable)


def prefer_this_python() -> None:
    """Make `python` in a job the one that runs Snakemake; an activated conda environment still comes before it."""
    os.environ["PATH"] = os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", os.defpath)])
    if quote(str(PYTHON)) != str(PYTHON):  # Snakemake writes it into commands without quotes
        sys.executable = PYTHON.name


def place_errors(snakefile: str) -> list[str]:
    """Return one line if Snakemake spoils the path of its own file in commands."""
    if not re.search(r"""[{}\\\n\r\t]|'.*["$`]|["$`].*'""", snakefile):
        return []
    spoiling = "braces, backslashes, line breaks, or an apostrophe beside quotes or $ in its path"
    return [f"{snakefile}: Snakemake cannot use it because of {spoiling}: rename the folder"]
