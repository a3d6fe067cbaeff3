"""Turn some of the images of a split into features: one of several parts, which extract_features puts together."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.features.options import ExtractionOptions


class Arguments(JobArguments, ExtractionOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Turn some of the images of a split into features."""

    images: Path
    """Prepared images (`images.bin`)."""
    model: Path
    """Backbone (`model.json`)."""
    part: str
    """Which part: `2-of-8`."""
    output: Path
    """The `features.npy` that will be put together; the part goes into a folder beside it."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.device import choose_devices, device_name
    from deepclust.core.fingerprint import code_digest
    from deepclust.core.images import Images
    from deepclust.features.extract import extract_part
    from deepclust.features.parts import Part

    options = ExtractionOptions(**{name: getattr(arguments, name) for name in ExtractionOptions.model_fields})
    devices = choose_devices()
    written = extract_part(
        Images(arguments.images.parent),
        arguments.model,
        arguments.output,
        Part.parse(arguments.part),
        options,
        devices=devices,
        code=code_digest("extract_part"),
        progress=job.progress,
    )
    job.device = ", ".join(device_name(device) for device in devices)
    job.options = options.model_dump(mode="json")
    job.inputs = {"images": arguments.images.with_suffix(".json"), "model": arguments.model}
    job.outputs = {"features": written} if written else {}


if __name__ == "__main__":
    run_job("extract_part", Arguments, main)
