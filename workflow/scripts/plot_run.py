"""Draw one run: confusion matrix (or cluster sizes), image gallery, and map of the features.

The figures of a run whose every seed failed say so.
"""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.reporting.options import RunFigureOptions


class Input(Files):
    """Files of several splits are in the order of `score`."""

    metrics: Path
    """`metrics.json` of the run."""
    clusters: Path
    """`clusters.safetensors` of the run."""
    images: list[Path]
    """`images.bin` of the scored splits."""
    manifests: list[Path] = []
    """`images.json` of the scored splits."""
    labels: list[Path]
    """`labels.npy` of the scored splits."""
    map: Path
    """Map of the features."""


class Output(Files):
    confusion: Path
    """The confusion matrix, or the cluster sizes where there are no labels."""
    gallery: Path
    """Images of each cluster."""
    map_figure: Path
    """The map, coloured by cluster and class."""


class Arguments(JobArguments):
    """Draw one run."""

    input: Input
    output: Output
    options: RunFigureOptions
    score: list[str]
    """Names of the scored splits."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.confusion import run_overview
    from deepclust.reporting.failure import failure_figure
    from deepclust.reporting.gallery import gallery
    from deepclust.reporting.map_figure import map_figure
    from deepclust.reporting.projection import read_map
    from deepclust.reporting.runs import read_run
    from deepclust.reporting.scored import read_scored
    from deepclust.reporting.style import save_figure

    read, drawn, options = arguments.input, arguments.output, arguments.options
    run = read_run(read.metrics)
    with job.progress.task("draw", 3, "figures") as task:
        if run.selected is None:
            for _, path in drawn.listed():
                save_figure(failure_figure(run), path)
        else:
            scored = read_scored(read.clusters, run.selected, arguments.score, read.images, read.labels)
            save_figure(run_overview(run), drawn.confusion)
            task.advance()
            save_figure(gallery(run, scored, options.gallery_images, options.gallery_clusters), drawn.gallery)
            task.advance()
            save_figure(map_figure(run, scored, *read_map(read.map)), drawn.map_figure)
            task.advance()


if __name__ == "__main__":
    run_job("plot_run", Arguments, main)
