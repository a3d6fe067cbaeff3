"""Map the features of a dataset to two dimensions, to be looked at."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.reporting.options import MapOptions


class Arguments(JobArguments, MapOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Files are ordered by scored split, and by backbone within a split."""

    features: list[Path]
    """`features.npy` of the scored splits."""
    score: list[str]
    """Names of the scored splits."""
    output: Path
    """The map to write, `.safetensors`."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.reporting.projection import group_by_backbone, project, read_features, write_map

    backbones = group_by_backbone(arguments.features, len(arguments.score))
    with job.progress.task("map", None, "steps"):
        ids, features = read_features(backbones, arguments.map_points)
        write_map(arguments.output, ids, project(features, arguments.map_perplexity))

    job.options = {name: getattr(arguments, name) for name in MapOptions.model_fields}
    job.inputs = {str(path): path for path in arguments.features}
    job.outputs = {"map": arguments.output}


if __name__ == "__main__":
    run_job("project_map", Arguments, main)
