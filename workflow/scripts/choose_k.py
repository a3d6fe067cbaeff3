"""Choose how many clusters there are, by the features of the training splits alone."""

from pathlib import Path

from pydantic import Field

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.heads.kit.options import ChooseKOptions


class Input(Files):
    features: list[Path]
    """`features.npy` for every split in `train` and, within a split, every backbone."""


class Output(Files):
    choice: Path
    """The number, with the criteria for all that were tried (.json)."""


class Arguments(JobArguments):
    """Choose a number of clusters by the features of the training splits."""

    input: Input
    output: Output
    options: ChooseKOptions
    train: list[str] = Field(min_length=1)
    """Names of the training splits."""
    backbones: list[str] = Field(min_length=1)
    """Names of the backbones that the features come from."""


def main(arguments: Arguments, job: Job) -> None:
    from dataclasses import asdict

    import numpy as np

    from deepclust.core.device import choose_device, device_name
    from deepclust.core.files import by_split, write_json
    from deepclust.heads.kit.choosing_k import choose_k

    job.device = device_name(choose_device())
    files = by_split(arguments.input.features, arguments.train, len(arguments.backbones))
    features = [[np.load(path, mmap_mode="r") for path in paths] for paths in files.values()]
    choice = choose_k(features, arguments.options, job.progress)
    print(choice.reason)
    write_json(arguments.output.choice, asdict(choice))


if __name__ == "__main__":
    run_job("choose_k", Arguments, main)
