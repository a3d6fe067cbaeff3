"""Turn the images of a split into features, one vector per image."""

from pathlib import Path

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
    parts: list[Path] = []
    """Records of jobs that have done it in parts, in their order: the parts are joined, and nothing is computed."""


class Output(Files):
    features: Path
    """Features [images, D] (`features.npy`)."""


class Arguments(JobArguments):
    """Turn the images of a split into features, one vector per image."""

    input: Input
    output: Output
    options: ExtractionOptions


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.images import Images
    from deepclust.models.identity import features_identity

    files, features = arguments.input, arguments.output.features
    images = Images(files.images.parent)
    if files.parts:
        from deepclust.features.partial import remove_states
        from deepclust.features.parts import join_parts

        job.parts = join_parts(files.parts, len(images), features)
        job.device = job.parts[0]["device"]
        job.when_done.append(lambda: remove_states(features))
    else:
        from deepclust.core.device import choose_devices, device_name
        from deepclust.core.fingerprint import code_digest
        from deepclust.features.extract import extract

        devices, code = choose_devices(), code_digest("extract_features")
        extract(images, files.model, features, arguments.options, devices=devices, code=code, progress=job.progress)
        job.device = ", ".join(device_name(device) for device in devices)
    job.options["identity"] = features_identity(files.model, arguments.options.model_dump(mode="json"))


if __name__ == "__main__":
    run_job("extract_features", Arguments, main)
