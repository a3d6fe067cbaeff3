"""The figures of the report, as the plan and the page know them: by their files, which are read and not imported.

A figure is a file `reporting/figures/<name>.py`. It says what it shows and reads (`FACTS`), what can be set
(`Options`), and how it is drawn (`draw`). Drawing needs libraries that planning does without, so `FACTS` holds only
constants, which are taken from the syntax tree.
"""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from deepclust.core import registry
from deepclust.core.errors import DeepclustError

Scope = Literal["run", "setting", "experiment"]
PACKAGE = "reporting.figures"


@dataclass(frozen=True)
class FigureFacts:
    """Facts about a figure before it is drawn: the class of every figure's `FACTS`. All texts are plain but ``code``.

    Attributes:
        title: its heading on the page.
        scope: it is drawn once per run, once per setting (dataset, backbones and protocol) or once per experiment.
        reads: names of the files that it is drawn from, among those that `planning/graph.py` has for its scope. Without
            one of them there is nothing to draw.
        section: heading of its section on the page, by default its title; figures of runs stand with their run.
        explanation: what is shown, on the page and in Snakemake's report.
        reading: what to look for, in Snakemake's report.
        without_labels: title and explanation where no image has a label, if others.
        alternative: the text for those who cannot see it; by default its title.
        look: a `chart` changes its colours on a dark page, `paper` stays white.
        order: figures with smaller numbers come first.
    """

    title: str
    scope: Scope
    reads: tuple[str, ...]
    section: str = ""
    explanation: str = ""
    reading: str = ""
    without_labels: tuple[str, str] | None = None
    alternative: str = ""
    look: Literal["paper", "chart"] = "paper"
    order: int = 100

    @property
    def heading(self) -> str:
        """Return the heading that it stands under: a section of the page, a category of Snakemake's report."""
        return "Runs" if self.scope == "run" else self.section or self.title


@dataclass(frozen=True)
class FigureFile:
    """A figure by its file.

    Attributes:
        options: names of its options, which are those of the experiment's `report`.
    """

    name: str
    facts: FigureFacts
    options: tuple[str, ...]

    @property
    def module(self) -> str:
        """Return the library module that draws it."""
        return f"deepclust.{PACKAGE}.{self.name}"


@functools.cache
def figures(scope: Scope | None = None) -> dict[str, FigureFile]:
    """Return all figures by name, or those of a scope, in the order of the page.

    Raises:
        DeepclustError: a file does not say what a figure has to.
    """
    if scope is not None:
        return {name: figure for name, figure in figures().items() if figure.facts.scope == scope}
    found = [read_figure(path) for path in registry.files(PACKAGE)]
    found.sort(key=lambda figure: (figure.facts.order, figure.name))
    return {figure.name: figure for figure in found}


def read_figure(path: Path) -> FigureFile:
    """Read the file of a figure.

    Raises:
        DeepclustError: it does not say what a figure has to.
    """
    try:
        body = ast.parse(path.read_bytes()).body
        assigned = {node.targets[0].id: node.value for node in body if _names_one(node)}  # type: ignore[attr-defined]
        facts = FigureFacts(**{word.arg: ast.literal_eval(word.value) for word in assigned["FACTS"].keywords})
        if facts.scope not in get_args(Scope):
            raise ValueError(f"scope {facts.scope!r} is none of {', '.join(get_args(Scope))}")
    except SyntaxError as error:
        raise DeepclustError(f"{path}, line {error.lineno}: {error.msg}") from error
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        wanted = "FACTS = FigureFacts(title=…, scope=…, reads=…), each of them a constant"
        raise DeepclustError(f"{path} does not say what it draws ({error}): write {wanted}") from error
    models = [node for node in body if isinstance(node, ast.ClassDef) and node.name == "Options"]
    fields = [item.target for model in models for item in model.body if isinstance(item, ast.AnnAssign)]
    options = tuple(field.id for field in fields if isinstance(field, ast.Name))
    for name in options:
        if not name.startswith(f"{path.stem}_"):  # those of all figures are together in the section `report`
            raise DeepclustError(
                f"{path}: call its option {name} {path.stem}_{name}, since all figures share a section"
            )
    return FigureFile(path.stem, facts, options)


def _names_one(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
