"""Find the nearest neighbors of every image, by cosine similarity of features."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.features.options import NeighborOptions


class Input(Files):
    features: list[Path]
    """Features (`features.npy`) of one split, or of several that are searched together, one after the other."""


class Output(Files):
    neighbors: Path
    """Neighbors [images, k] (.npy)."""


class Arguments(JobArguments):
    """Find the nearest neighbors of every image, by cosine similarity of features."""

    input: Input
    output: Output
    options: NeighborOptions
    half_whiten: bool = False
    """Compare half-whitened features."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.features.neighbors import find_neighbors

    files, options = arguments.input.features, arguments.options
    recall = find_neighbors(files, arguments.output.neighbors, options, job.progress, arguments.half_whiten)
    job.options["measured_recall"] = recall


if __name__ == "__main__":
    run_job("find_neighbors", Arguments, main)
