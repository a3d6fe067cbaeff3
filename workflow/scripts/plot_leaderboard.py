"""Draw all runs against their ceilings and published numbers."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job


class Arguments(JobArguments):
    """What to compare."""

    metrics: list[Path]
    """`metrics.json` of every run."""
    published: Path
    """Table of published results."""
    output: Path
    """Figure to write."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.leaderboard_figure import leaderboard_figure
    from deepclust.reporting.published import read_published
    from deepclust.reporting.runs import read_run
    from deepclust.reporting.style import save_figure

    runs = [read_run(path) for path in arguments.metrics]
    save_figure(leaderboard_figure(runs, read_published(arguments.published)), arguments.output)

    job.inputs = {str(path): path for path in [*arguments.metrics, arguments.published]}
    job.outputs = {"figure": arguments.output}


if __name__ == "__main__":
    run_job("plot_leaderboard", Arguments, main)
