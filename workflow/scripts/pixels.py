"""Write the backbone that uses raw pixels as features."""

from pathlib import Path
from typing import Any, Literal

from pydantic import create_model

from deepclust.common.job import Job, JobArguments, run_job


class Files(JobArguments):
    """Write the backbone that uses raw pixels as features."""

    method: Literal["pixels"] = "pixels"
    model: Path
    """Backbone to write (`model.json`; an empty `model.safetensors` goes beside it)."""


def main(arguments: Any, job: Job) -> None:
    from deepclust.backbones import pixels

    options = pixels.Options(image_size=arguments.image_size)
    pixels.write(options, arguments.model)
    job.options = options.model_dump(mode="json")
    job.outputs = {"model": arguments.model}


def command_line() -> Any:
    from deepclust.backbones import pixels

    return create_model("Arguments", __base__=(Files, pixels.Options))


if __name__ == "__main__":
    run_job("pixels", command_line(), main)
