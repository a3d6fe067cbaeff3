"""Turn some of the images of a split into features, as one of several jobs."""

from pathlib import Path

from pydantic import Field

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.features.options import ExtractionOptions


class Input(Files):
    images: Path
    """Prepared images (`images.bin`)."""
    manifest: Path | None = None
    """Their manifest (`images.json`, beside them)."""
    model: Path
    """Backbone (`model.json`)."""
    weights: Path | None = None
    """Its weights (`model.safetensors`, beside it)."""


class Arguments(JobArguments):
    """Turn some of the images of a split into features; the record says where they are."""

    input: Input
    options: ExtractionOptions
    part: str = Field(exclude=True)
    """The number of the part: `2-of-8`."""
    features: Path = Field(exclude=True)
    """The `features.npy` that will be joined from the parts; this part goes into a folder beside it."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.device import choose_devices, device_name
    from deepclust.core.fingerprint import code_digest
    from deepclust.core.images import Images
    from deepclust.features.extract import extract_part
    from deepclust.features.parts import Part

    devices = choose_devices()
    written = extract_part(
        Images(arguments.input.images.parent),
        arguments.input.model,
        arguments.features,
        Part.parse(arguments.part),
        arguments.options,
        devices=devices,
        code=code_digest("extract_part"),
        progress=job.progress,
    )
    job.device = ", ".join(device_name(device) for device in devices)
    job.options["rows"] = None if written is None else str(written)


if __name__ == "__main__":
    run_job("extract_part", Arguments, main)
