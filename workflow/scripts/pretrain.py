"""Train a backbone on images without labels."""

from functools import partial
from pathlib import Path

from pydantic import Field

from deepclust.common import registry
from deepclust.common.code import code_digest
from deepclust.common.job import Job, JobArguments, on_terminate, run_job
from deepclust.common.time_limit import default_checkpoint_seconds


class Files(JobArguments):
    """Train a backbone on images without labels. The options of the chosen method are flags as well."""

    method: str
    """Pretraining method, e.g. simclr."""
    images: list[Path] = Field(min_length=1)
    """Prepared images (`images.bin`), one flag per split."""
    start_model: Path | None = None
    """Backbone to start from (`model.json`)."""
    neighbors: list[Path] = Field([])
    """`neighbors.npy` of each split by that backbone's features, for methods that need them."""
    model: Path
    """Backbone to write (`model.json`; the weights go beside it)."""
    log: Path
    """Training log to write."""
    tensorboard: Path
    """Folder to write the same log to as an event file of TensorBoard."""
    snapshots: Path
    """Folder to write the snapshots to; it stays empty without `snapshot_every`."""
    checkpoint_seconds: float = Field(default_factory=default_checkpoint_seconds, gt=0)
    """Time between two checkpoints; unless given, DEEPCLUST_CHECKPOINT_SECONDS or 5 minutes."""


def main(arguments: Files, job: Job) -> None:
    from deepclust.common.device import choose_device, device_name
    from deepclust.common.images import Images
    from deepclust.pretraining import engine
    from deepclust.pretraining.native import FILE as NATIVE

    module = registry.load("pretraining", arguments.method)
    options = module.Options(**{name: getattr(arguments, name) for name in module.Options.model_fields})
    device = choose_device()
    session = engine.Session(
        device=device,
        progress=job.progress,
        code=code_digest("pretrain", [f"deepclust.pretraining.{arguments.method}"]),
        checkpoint_seconds=arguments.checkpoint_seconds,
        listen=partial(on_terminate, minutes=arguments.minutes),
    )
    splits = [Images(path.parent) for path in arguments.images]
    files = engine.Files(
        splits,
        arguments.start_model,
        arguments.model,
        arguments.log,
        arguments.tensorboard,
        arguments.snapshots,
        arguments.neighbors,
    )
    job.when_done.append(engine.pretrain(arguments.method, module, options, files, session))

    job.device = device_name(device)
    job.options = {"method": arguments.method, **options.model_dump(mode="json")}
    job.inputs = {f"images.{i}": path.with_suffix(".json") for i, path in enumerate(arguments.images)}
    if arguments.start_model is not None:
        job.inputs["start_model"] = arguments.start_model
    if files.start_native is not None:
        job.inputs["start_native"] = files.start_native
    job.inputs |= {f"neighbors.{i}": path for i, path in enumerate(arguments.neighbors)}
    job.outputs = {
        "model": arguments.model,
        "weights": arguments.model.with_suffix(".safetensors"),
        "native": arguments.model.with_name(NATIVE),
        "log": arguments.log,
        **{f"snapshots.{path.parent.name}": path for path in sorted(arguments.snapshots.glob("*/model.json"))},
    }


if __name__ == "__main__":
    run_job("pretrain", Files, main, method=("pretraining", "method"))
