"""Draw one run: confusion matrix (or cluster sizes), image gallery, and map of the features.

The figures of a run whose every seed failed say so.
"""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.reporting.options import RunFigureOptions


class Arguments(JobArguments, RunFigureOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Files of the run and figures to write. Files of several splits are in the order of `score`."""

    metrics: Path
    """`metrics.json` of the run."""
    clusters: Path
    """`clusters.safetensors` of the run."""
    score: list[str]
    """Names of the scored splits."""
    images: list[Path]
    """`images.bin` of the scored splits."""
    labels: list[Path]
    """`labels.npy` of the scored splits."""
    map: Path
    """Map of the features."""
    confusion: Path
    """Figure to write: the confusion matrix, or the cluster sizes where there are no labels."""
    gallery: Path
    """Figure to write: images of each cluster."""
    map_figure: Path
    """Figure to write: the map, coloured by cluster and class."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.confusion import run_overview
    from deepclust.reporting.failure import failure_figure
    from deepclust.reporting.gallery import gallery
    from deepclust.reporting.map_figure import map_figure
    from deepclust.reporting.projection import read_map
    from deepclust.reporting.runs import read_run
    from deepclust.reporting.scored import read_scored
    from deepclust.reporting.style import save_figure

    run = read_run(arguments.metrics)
    files = (arguments.confusion, arguments.gallery, arguments.map_figure)
    with job.progress.task("draw", len(files), "figures") as task:
        if run.selected is None:
            for path in files:
                save_figure(failure_figure(run), path)
        else:
            scored = read_scored(arguments.clusters, run.selected, arguments.score, arguments.images, arguments.labels)
            save_figure(run_overview(run), arguments.confusion)
            task.advance()
            save_figure(gallery(run, scored, arguments.gallery_images, arguments.gallery_clusters), arguments.gallery)
            task.advance()
            save_figure(map_figure(run, scored, *read_map(arguments.map)), arguments.map_figure)
            task.advance()

    job.options = {name: getattr(arguments, name) for name in RunFigureOptions.model_fields}
    manifests = [path.with_name("images.json") for path in arguments.images]
    read = [arguments.metrics, arguments.clusters, *manifests, *arguments.labels, arguments.map]
    job.inputs = {str(path): path for path in read}
    job.outputs = {"confusion": arguments.confusion, "gallery": arguments.gallery, "map": arguments.map_figure}


if __name__ == "__main__":
    run_job("plot_run", Arguments, main)
