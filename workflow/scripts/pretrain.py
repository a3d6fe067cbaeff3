"""Train a backbone on images without labels."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from deepclust.core import registry
from deepclust.core.command import Job, JobArguments, on_terminate, run_job
from deepclust.core.fingerprint import code_digest
from deepclust.core.progress import Progress
from deepclust.core.time_limit import default_checkpoint_seconds
from deepclust.pretraining.launch.launcher_options import LauncherOptions

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from deepclust.pretraining.engine import pretraining as engine
    from deepclust.pretraining.engine.distributed import Team
    from deepclust.pretraining.engine.options import PretrainingOptions


# Read when PyTorch is loaded. Where one of several processes ends, PyTorch lets the others warn of the lost connection,
# with a list of functions; our errors say what happened.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


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
    processes: int | None = Field(None, ge=1)
    """Processes that train together on this machine, each on a GPU of its own; unless given, one for each GPU."""
    launcher: LauncherOptions = LauncherOptions()
    """How the processes are started."""
    keep_state: bool = False
    """Whether the state stays when the result stands; who started this command then removes it."""
    checkpoint_seconds: float = Field(default_factory=default_checkpoint_seconds, gt=0)
    """Time between two checkpoints; unless given, DEEPCLUST_CHECKPOINT_SECONDS or 5 minutes."""


def main(arguments: Files, job: Job) -> None:
    from deepclust.pretraining.engine import distributed

    if distributed.started_by_a_launcher():
        distributed.die_with_parent()
    elif arguments.launcher.method == "submitit":
        submit(arguments, job)
        return
    elif (count := distributed.processes_here(arguments.processes)) > 1:
        from deepclust.pretraining.launch import torchrun

        job.recorded = False
        torchrun.run([__file__, *job.argv], count)
        return
    device = distributed.local_device()
    with distributed.team_of_environment(device) as team:
        train(arguments, job, device, team)


def submit(arguments: Files, job: Job) -> None:
    """Let a job of its own train, and wait for it."""
    from deepclust.pretraining.engine import pretraining as engine
    from deepclust.pretraining.launch.submission import Submission, task_arguments

    job.recorded = False
    _, options, files, code = training(arguments)
    command = [sys.executable, str(Path(__file__).resolve()), *task_arguments(job.argv, arguments.launcher)]
    submission = Submission(arguments.launcher, arguments.model, command)
    submission.run(on_terminate)
    job.when_done += [engine.state_folder(code, options, files).remove, submission.remove]


def training(arguments: Files) -> "tuple[ModuleType, PretrainingOptions, engine.Files, str]":
    """Method, its options, files, and digest of the code."""
    from deepclust.core.images import Images
    from deepclust.pretraining.engine import pretraining as engine

    module = registry.load("pretraining", arguments.method)
    options = module.Options(**{name: getattr(arguments, name) for name in module.Options.model_fields})
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
    return module, options, files, code_digest("pretrain", [f"deepclust.pretraining.{arguments.method}"])


def train(arguments: Files, job: Job, device: "torch.device", team: "Team") -> None:
    """Train as one of the processes of a team."""
    from deepclust.core.device import device_name
    from deepclust.pretraining.engine import pretraining as engine
    from deepclust.pretraining.engine.native import FILE as NATIVE

    module, options, files, code = training(arguments)
    session = engine.Session(
        device=device,
        progress=job.progress if team.first else Progress(hidden=True),
        code=code,
        checkpoint_seconds=arguments.checkpoint_seconds,
        listen=partial(on_terminate, minutes=arguments.minutes),
        team=team,
    )
    remove_state = engine.pretrain(arguments.method, module, options, files, session)
    if not arguments.keep_state:
        job.when_done.append(remove_state)

    job.recorded = team.first
    if not team.first:
        return
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
