"""Draw all runs beside their ceilings and published results."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job


class Input(Files):
    metrics: list[Path]
    """`metrics.json` of every run."""


class Output(Files):
    figure: Path
    """The figure (.png)."""


class Arguments(JobArguments):
    """Draw all runs beside their ceilings and published results."""

    input: Input
    output: Output


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.leaderboard_figure import leaderboard_figure
    from deepclust.reporting.published import read_published
    from deepclust.reporting.runs import read_run
    from deepclust.reporting.style import save_figure

    runs = [read_run(path) for path in arguments.input.metrics]
    save_figure(leaderboard_figure(runs, read_published()), arguments.output.figure)


if __name__ == "__main__":
    run_job("plot_leaderboard", Arguments, main)
