"""Put everything on one page that stands alone."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.reporting.options import PageOptions


class Input(Files):
    metrics: list[Path]
    """`metrics.json` of every run."""
    records: list[Path]
    """Provenance files beside the metrics."""
    figures: list[Path]
    """All figures: those of a run or of a setting in a folder that ends in its path."""
    job_list: Path
    """The list of the provenance files of all jobs behind the runs; missing ones are passed over."""
    leaderboard: Path
    """The table over all runs, CSV."""
    choices: list[Path] = []
    """Results of `choose_k`, each in a folder `<dataset>/<backbones>/k/<protocol>.json`."""
    experiment: Path
    """The resolved experiment, YAML or JSON."""


class Output(Files):
    page: Path
    """The page (.html)."""


class Arguments(JobArguments):
    """Put everything on one page that stands alone."""

    input: Input
    output: Output
    options: PageOptions


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.files import write_text
    from deepclust.reporting.job_use import read_use, use_table
    from deepclust.reporting.page import Content, read_config, render_page
    from deepclust.reporting.published import read_published
    from deepclust.reporting.records import facts
    from deepclust.reporting.runs import read_run

    files = arguments.input
    runs = [read_run(path) for path in files.metrics]
    jobs = [Path(line) for line in files.job_list.read_text(encoding="utf-8").splitlines()]
    content = Content(
        runs=runs,
        figures=files.figures,
        published=read_published(),
        config=read_config(files.experiment),
        origin=facts(runs, files.records),
        jobs=use_table(read_use(jobs)),
        leaderboard=files.leaderboard,
        choices=files.choices,
    )
    write_text(arguments.output.page, render_page(content, arguments.options.page_runs, job.progress))


if __name__ == "__main__":
    run_job("report_page", Arguments, main)
