"""Write the backbone that uses raw pixels as features."""

from pathlib import Path
from typing import Literal, cast

from pydantic import create_model

from deepclust.core.command import Job, JobArguments, run_job


class Files(JobArguments):
    """Write the backbone that uses raw pixels as features."""

    method: Literal["pixels"] = "pixels"
    """Kind of backbone."""
    model: Path
    """Backbone to write (`model.json`; an empty `model.safetensors` goes beside it)."""


def main(arguments: Files, job: Job) -> None:
    from deepclust.backbones import pixels

    options = pixels.Options(**{name: getattr(arguments, name) for name in pixels.Options.model_fields})
    pixels.write(options, arguments.model)
    job.options = {"method": arguments.method, **options.model_dump(mode="json")}
    job.outputs = {"model": arguments.model, "weights": arguments.model.with_suffix(".safetensors")}


def command_line() -> type[Files]:
    """The arguments of this command with those of the backbone."""
    from deepclust.backbones import pixels

    return cast(type[Files], create_model("Arguments", __base__=(Files, pixels.Options)))


if __name__ == "__main__":
    run_job("pixels", command_line(), main)
