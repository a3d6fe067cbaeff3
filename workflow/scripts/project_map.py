"""Map the features of a dataset to two dimensions, to be looked at."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.reporting.options import MapOptions


class Input(Files):
    features: list[Path]
    """`features.npy` of the scored splits and, within a split, of every backbone."""


class Output(Files):
    map: Path
    """The map (.safetensors)."""


class Arguments(JobArguments):
    """Map the features of a dataset to two dimensions."""

    input: Input
    output: Output
    options: MapOptions
    score: list[str]
    """Names of the scored splits."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.files import by_split
    from deepclust.reporting.projection import project, read_features, write_map

    options = arguments.options
    backbones = list(zip(*by_split(arguments.input.features, arguments.score).values()))
    with job.progress.task("map", None, "steps"):
        ids, features = read_features(backbones, options.map_points)
        write_map(arguments.output.map, ids, project(features, options.map_perplexity))


if __name__ == "__main__":
    run_job("project_map", Arguments, main)
