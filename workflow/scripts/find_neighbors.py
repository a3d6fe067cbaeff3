"""Find the nearest neighbors of every image by its features."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.features.options import NeighborOptions


class Arguments(JobArguments, NeighborOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Find the nearest neighbors of every image, by cosine similarity of features."""

    features: list[Path]
    """Features (`features.npy`) of one split, or of several that are searched together, one after the other."""
    output: Path
    """The file of neighbors (.npy) to write."""
    half_whiten: bool = False
    """Compare half-whitened features."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.features.neighbors import find_neighbors

    options = NeighborOptions(**{name: getattr(arguments, name) for name in NeighborOptions.model_fields})
    recall = find_neighbors(arguments.features, arguments.output, options, job.progress, arguments.half_whiten)
    job.options = {"half_whiten": arguments.half_whiten, **options.model_dump(), "measured_recall": recall}
    job.inputs = {str(path): path for path in arguments.features}
    job.outputs = {"neighbors": arguments.output}


if __name__ == "__main__":
    run_job("find_neighbors", Arguments, main)
