"""Draw all figures of one run; if all its seeds failed, the figures say so."""

from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from deepclust.core import registry
from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.core.figures import PACKAGE, figures
from deepclust.reporting.run_view import RunView
from deepclust.reporting.scopes import RunFiles

FIGURES = figures("run")
MODULES = {name: registry.load(PACKAGE, name) for name in FIGURES}

_files: dict[str, Any] = {name: (Path, Field(description=figure.facts.title)) for name, figure in FIGURES.items()}
Output = create_model("Output", __base__=Files, **_files)
Options = create_model("Options", __base__=tuple(module.Options for module in MODULES.values()))


class Arguments(JobArguments):
    """Draw all figures of one run; the options of the figures are flags as well."""

    input: RunFiles
    output: Output  # type: ignore[valid-type]  # one file for every figure that there is
    options: Options  # type: ignore[valid-type]
    score: list[str]
    """Names of the scored splits."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.failure import failure_figure
    from deepclust.reporting.style import save_figure

    view, given = RunView(arguments.input, arguments.score), arguments.options.model_dump()
    with job.progress.task("draw", len(FIGURES), "figures") as task:
        for name, module in MODULES.items():
            options = module.Options(**{key: given[key] for key in module.Options.model_fields})
            failed = view.run.selected is None
            drawn = failure_figure(view.run) if failed else module.draw(view, options)
            save_figure(drawn, getattr(arguments.output, name))
            task.advance()


if __name__ == "__main__":
    run_job("plot_run", Arguments, main, modules=[figure.module for figure in FIGURES.values()])
