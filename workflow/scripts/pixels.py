"""Write the backbone that uses raw pixels as features."""

from pathlib import Path
from typing import Any

from deepclust.core.command import Files, Job, JobArguments, run_job


class Output(Files):
    model: Path
    """Backbone (`model.json`)."""
    weights: Path | None = None
    """Its weights (`model.safetensors`, beside it): there are none."""


class Arguments(JobArguments):
    """Write the backbone that uses raw pixels as features."""

    output: Output
    options: Any
    """Options of this backbone."""
    method: str = "pixels"
    """Kind of backbone."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.backbones import pixels

    pixels.write(arguments.options, arguments.output.model)


if __name__ == "__main__":
    run_job("pixels", Arguments, main, method=("backbones", "method"))
