"""Draw one figure of a setting: a dataset, backbones and a protocol."""

from pathlib import Path

from deepclust.core import registry
from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.core.options import Options
from deepclust.reporting.scopes import SettingFiles


class Output(Files):
    figure: Path
    """The figure (.png)."""


class Arguments(JobArguments):
    """Draw one figure of a setting; the options of the figure are flags as well."""

    input: SettingFiles
    output: Output
    options: Options
    figure: str
    """Name of the figure, e.g. choice_of_k."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.style import save_figure

    module = registry.load("reporting.figures", arguments.figure)
    save_figure(module.draw(arguments.input, arguments.options), arguments.output.figure)


if __name__ == "__main__":
    run_job("plot_setting", Arguments, main, method=("reporting.figures", "figure"))
