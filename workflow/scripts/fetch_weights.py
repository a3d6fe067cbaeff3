"""Fetch the weights of a backbone that was trained elsewhere."""

from pathlib import Path
from typing import Any

from pydantic import Field

from deepclust.core.command import Files, Job, JobArguments, run_job


class Input(Files):
    file: Path | None = None
    """The file that `weights` names, if it is here; else it comes from the hub."""
    tensors: Path | None = None
    """The weights of a backbone of this project, if they do not lie beside its `model.json`."""


class Output(Files):
    model: Path
    """Backbone (`model.json`)."""
    weights: Path | None = None
    """Its weights (`model.safetensors`, beside it)."""


class Arguments(JobArguments):
    """Fetch the weights of a backbone that was trained elsewhere."""

    input: Input = Input()
    output: Output
    options: Any
    """Options of this backbone."""
    method: str = "pretrained"
    """Kind of backbone."""
    pins: Path = Field(Path("resources/weights"), exclude=True)
    """Folder that remembers the version of weights at their first use."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.backbones.pretrained import fetch

    file, tensors = arguments.input.file, arguments.input.tensors
    origin = fetch(arguments.options, file, arguments.pins, arguments.output.model, job.progress, tensors)
    job.options["origin"] = origin


if __name__ == "__main__":
    run_job("fetch_weights", Arguments, main, method=("backbones", "method"))
