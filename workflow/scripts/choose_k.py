"""Choose a number of clusters, without labels."""

from pathlib import Path

from pydantic import Field

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.heads.kit.options import ChooseKOptions


class Arguments(JobArguments, ChooseKOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Choose a number of clusters by the features of the training splits."""

    train: list[str] = Field(min_length=1)
    """Names of the training splits."""
    backbones: list[str] = Field(min_length=1)
    """Names of the backbones that the features come from."""
    features: list[Path]
    """`features.npy` for every split in `train` and, within a split, every backbone."""
    output: Path
    """The file to write (.json)."""


def main(arguments: Arguments, job: Job) -> None:
    from dataclasses import asdict

    import numpy as np

    from deepclust.core.device import choose_device, device_name
    from deepclust.core.errors import DeepclustError
    from deepclust.core.files import write_json
    from deepclust.heads.kit.choosing_k import choose_k

    options = ChooseKOptions(**{name: getattr(arguments, name) for name in ChooseKOptions.model_fields})
    names = [f"{split}.{backbone}" for split in arguments.train for backbone in arguments.backbones]
    if len(arguments.features) != len(names):
        raise DeepclustError(f"choose_k: {len(arguments.features)} files of features for {', '.join(names)}")
    arrays = [np.load(path, mmap_mode="r") for path in arguments.features]
    count = len(arguments.backbones)
    splits = [arrays[first : first + count] for first in range(0, len(arrays), count)]
    if any(len(array) != len(split[0]) for split in splits for array in split):
        raise DeepclustError("choose_k: the backbones' features differ in number: extract them again")
    if len({tuple(array.shape[1] for array in split) for split in splits}) > 1:
        raise DeepclustError("choose_k: features of the training splits differ in their dimensions: extract them again")
    job.device = device_name(choose_device())
    choice = choose_k(splits, options, job.progress)
    print(choice.reason)
    write_json(arguments.output, asdict(choice))

    job.options = options.model_dump(mode="json") | {"train": arguments.train, "backbones": arguments.backbones}
    job.inputs = dict(zip(names, arguments.features))
    job.outputs = {"choice": arguments.output}


if __name__ == "__main__":
    run_job("choose_k", Arguments, main)
