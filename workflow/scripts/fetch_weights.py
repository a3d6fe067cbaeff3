"""Fetch the weights of a backbone that was trained elsewhere."""

from pathlib import Path
from typing import Literal, cast

from pydantic import create_model

from deepclust.core.command import Job, JobArguments, run_job


class Files(JobArguments):
    """Fetch the weights of a backbone that was trained elsewhere."""

    method: Literal["pretrained"] = "pretrained"
    """Kind of backbone."""
    file: Path | None = None
    """What `weights` names, where it is a file here; else it comes from the hub."""
    tensors: Path | None = None
    """The weights of a backbone of this project, where they do not lie beside its `model.json`."""
    pins: Path = Path("resources/weights")
    """Folder that remembers what weights were at their first use."""
    output: Path
    """Backbone to write (`model.json`; `model.safetensors` goes beside it)."""


def main(arguments: Files, job: Job) -> None:
    from deepclust.backbones import pretrained

    options = pretrained.Options(**{name: getattr(arguments, name) for name in pretrained.Options.model_fields})
    file, tensors = arguments.file, arguments.tensors
    origin = pretrained.fetch(options, file, arguments.pins, arguments.output, job.progress, tensors)
    job.options = {"method": arguments.method, **options.model_dump(mode="json"), "origin": origin}
    job.inputs = {name: path for name, path in (("file", file), ("tensors", tensors)) if path is not None}
    job.outputs = {"model": arguments.output, "weights": arguments.output.with_suffix(".safetensors")}


def command_line() -> type[Files]:
    """The arguments of this command with those of the backbone."""
    from deepclust.backbones import pretrained

    return cast(type[Files], create_model("Arguments", __base__=(Files, pretrained.Options)))


if __name__ == "__main__":
    run_job("fetch_weights", command_line(), main)
