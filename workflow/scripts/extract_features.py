"""Turn images into features: one vector per image."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.features.options import ExtractionOptions


class Arguments(JobArguments, ExtractionOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Turn the images of a split into features, one vector per image."""

    images: Path
    """Prepared images (`images.bin`)."""
    model: Path
    """Backbone (`model.json`)."""
    parts: tuple[Path, ...] = ()
    """Records of jobs that have done it in parts, in their order: put these together, compute nothing."""
    output: Path
    """The `features.npy` to write."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.images import Images
    from deepclust.models.identity import features_identity

    images = Images(arguments.images.parent)
    options = ExtractionOptions(**{name: getattr(arguments, name) for name in ExtractionOptions.model_fields})
    if arguments.parts:
        from deepclust.features.partial import remove_states
        from deepclust.features.parts import join_parts

        job.parts = join_parts(arguments.parts, len(images), arguments.output)
        job.device = job.parts[0]["device"]
        job.when_done.append(lambda: remove_states(arguments.output))
    else:
        from deepclust.core.device import choose_devices, device_name
        from deepclust.core.fingerprint import code_digest
        from deepclust.features.extract import extract

        devices = choose_devices()
        code = code_digest("extract_features")
        extract(images, arguments.model, arguments.output, options, devices=devices, code=code, progress=job.progress)
        job.device = ", ".join(device_name(device) for device in devices)
    reading = options.model_dump(mode="json")
    job.options = {**reading, "identity": features_identity(arguments.model, reading)}
    job.inputs = {"images": arguments.images.with_suffix(".json"), "model": arguments.model}
    job.outputs = {"features": arguments.output}


if __name__ == "__main__":
    run_job("extract_features", Arguments, main)
