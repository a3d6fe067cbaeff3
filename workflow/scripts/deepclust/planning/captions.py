"""Captions of figures in Snakemake's report: the subject of a figure, and the explanation in its file.

Snakemake wants one file of reStructuredText for an output with any wildcards, and renders it with Jinja for a job.
"""

from collections.abc import Iterable
from pathlib import Path

from deepclust.core.figures import FigureFile, Scope, figures
from deepclust.core.files import write_text

_OF: dict[Scope, str] = {
    "run": "``{{ snakemake.wildcards.head }}`` on ``{{ snakemake.wildcards.backbones }}`` "
    "(``{{ snakemake.wildcards.dataset }}``, k = {{ snakemake.wildcards.k }}, {{ snakemake.wildcards.protocol }}).",
    "setting": "``{{ snakemake.wildcards.backbones }}`` on ``{{ snakemake.wildcards.dataset }}``, "
    "{{ snakemake.wildcards.protocol }}.",
    "experiment": "",
}


def caption(figure: FigureFile) -> str:
    """Return the caption of a figure."""
    facts = figure.facts
    paragraphs = [_OF[facts.scope], facts.explanation, facts.reading]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def caption_file(names: Iterable[str], folder: Path) -> str:
    """Write the caption of an output that is one of these figures: if they are several, its wildcard tells which.

    Args:
        folder: absolute path of the folder to write it to.
    """
    chosen = [figures()[name] for name in names]
    if len(chosen) == 1:
        text = caption(chosen[0])
    else:
        text = "".join(
            f'{{% if snakemake.wildcards.figure == "{f.name}" %}}\n{caption(f)}{{% endif %}}\n' for f in chosen
        )
    path = folder / f"{'-'.join(figure.name for figure in chosen)}.rst"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return str(path)
