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
    """Figures of the runs, each in a folder that ends in its run's path."""
    job_list: Path
    """The list of the provenance files of all jobs that the runs are made of; missing ones are passed over."""
    leaderboard: Path
    """The table over all runs, CSV."""
    leaderboard_figure: Path
    """The picture of all runs."""
    training: Path | None = None
    """Training curves, if a backbone was pretrained here."""
    snapshots: Path | None = None
    """Scores over epochs, if snapshots were kept."""
    layers: Path | None = None
    """Linear probes per layer, if the experiment asks for them."""
    choices: list[Path] = []
    """Results of `choose_k`, each in a folder `<dataset>/<backbones>/k/<protocol>.json`."""
    choice_figures: list[Path] = []
    """Figures of these, in the same order."""
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
    from deepclust.reporting.page import read_config, render_page
    from deepclust.reporting.published import read_published
    from deepclust.reporting.records import facts
    from deepclust.reporting.runs import read_run

    files = arguments.input
    runs = [read_run(path) for path in files.metrics]
    jobs = [Path(line) for line in files.job_list.read_text(encoding="utf-8").splitlines()]
    page = render_page(
        runs,
        files.figures,
        read_published(),
        read_config(files.experiment),
        facts(runs, files.records),
        use_table(read_use(jobs)),
        leaderboard=files.leaderboard,
        leaderboard_figure=files.leaderboard_figure,
        training_figure=files.training,
        snapshots_figure=files.snapshots,
        layer_figure=files.layers,
        choices=list(zip(files.choices, files.choice_figures, strict=True)),
        most_runs=arguments.options.page_runs,
        progress=job.progress,
    )
    write_text(arguments.output.page, page)


if __name__ == "__main__":
    run_job("report_page", Arguments, main)
