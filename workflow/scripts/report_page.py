"""Put everything on one page that stands alone."""

from pathlib import Path

from pydantic import Field

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.reporting.options import PageOptions


class Arguments(JobArguments, PageOptions):  # type: ignore[misc]  # pydantic merges the configs
    """What the page is made of."""

    metrics: list[Path]
    """`metrics.json` of every run."""
    figures: list[Path]
    """Figures of the runs, each in a folder that ends in its run's path."""
    records: list[Path]
    """Provenance files beside the metrics."""
    jobs: list[Path] = Field(default_factory=list)
    """Provenance files of all jobs that the runs are made of; missing ones are passed over."""
    leaderboard: Path
    """The table over all runs, CSV."""
    leaderboard_figure: Path
    """The picture of all runs."""
    choices: list[Path] = Field(default_factory=list)
    """What `choose_k` found, each in a folder `<dataset>/<backbones>/k/<protocol>.json`."""
    choice_figures: list[Path] = Field(default_factory=list)
    """Figures of these, in the same order."""
    training_figure: Path | None = None
    """Training curves, if a backbone was pretrained here."""
    snapshots_figure: Path | None = None
    """Scores over epochs, if snapshots were kept."""
    layer_figure: Path | None = None
    """Linear probes per layer, if the experiment asks for them."""
    published: Path
    """Table of published results."""
    config: Path
    """The resolved experiment, YAML or JSON."""
    template: Path
    """Jinja template of the page."""
    style: Path
    """Style sheet of the page."""
    output: Path
    """The page to write."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.files import write_text
    from deepclust.reporting.job_use import read_use, use_table
    from deepclust.reporting.page import read_config, render_page
    from deepclust.reporting.published import read_published
    from deepclust.reporting.records import facts
    from deepclust.reporting.runs import read_run

    runs = [read_run(path) for path in arguments.metrics]
    page = render_page(
        runs,
        arguments.figures,
        read_published(arguments.published),
        read_config(arguments.config),
        facts(runs, arguments.records),
        use_table(read_use(arguments.jobs)),
        template=arguments.template,
        style=arguments.style,
        leaderboard=arguments.leaderboard,
        leaderboard_figure=arguments.leaderboard_figure,
        training_figure=arguments.training_figure,
        snapshots_figure=arguments.snapshots_figure,
        layer_figure=arguments.layer_figure,
        choices=list(zip(arguments.choices, arguments.choice_figures, strict=True)),
        most_runs=arguments.page_runs,
        progress=job.progress,
    )
    write_text(arguments.output, page)

    job.options = {name: getattr(arguments, name) for name in PageOptions.model_fields}
    fixed = [arguments.leaderboard, arguments.leaderboard_figure, arguments.published, arguments.config]
    figures = (arguments.training_figure, arguments.snapshots_figure, arguments.layer_figure)
    fixed += [path for path in figures if path is not None]
    fixed += [*arguments.choices, *arguments.choice_figures]
    job.inputs = {str(path): path for path in [*arguments.metrics, *arguments.figures, *arguments.records, *fixed]}
    job.outputs = {"page": arguments.output}


if __name__ == "__main__":
    run_job("report_page", Arguments, main)
