"""Train a backbone on images without labels."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from deepclust.core import registry
from deepclust.core.command import Files, Job, JobArguments, on_terminate, run_job
from deepclust.core.fingerprint import code_digest
from deepclust.core.progress import Progress
from deepclust.core.time_limit import default_checkpoint_seconds
from deepclust.pretraining.launch.launcher_options import LauncherOptions

if TYPE_CHECKING:
    import torch

    from deepclust.pretraining.engine import pretraining as engine
    from deepclust.pretraining.engine.distributed import Team


# Read when PyTorch is loaded. If one of several processes ends, PyTorch lets the others warn of the lost connection,
# with a list of functions; our errors say what happened.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


class Input(Files):
    images: list[Path] = Field(min_length=1)
    """Prepared images (`images.bin`) of every split."""
    manifests: list[Path] = []
    """Their manifests (`images.json`, beside them)."""
    start: Path | None = None
    """Backbone to start from (`model.json`)."""
    native: Path | None = None
    """The clusters of that backbone's own method (`native.safetensors`), for methods that need them."""
    neighbors: list[Path] = []
    """`neighbors.npy` of each split by that backbone's features, for methods that need them."""


class Output(Files):
    """Files of one folder."""

    model: Path
    """Backbone (`model.json`)."""
    weights: Path | None = None
    """Its weights (`model.safetensors`)."""
    native: Path | None = None
    """The method's own clusters (`native.safetensors`)."""
    log: Path
    """Training log (`training.jsonl`)."""
    tensorboard: Path
    """Folder of the same log as an event file of TensorBoard."""
    snapshots: Path
    """Folder of the snapshots; it stays empty without `snapshot_every`."""


class Arguments(JobArguments):
    """Train a backbone on images without labels; the options of the chosen method are flags as well."""

    input: Input
    output: Output
    options: Any
    """Options of the method."""
    method: str
    """Pretraining method, e.g. simclr."""
    processes: int | None = Field(None, ge=1, exclude=True)
    """Processes that train together on this machine, each on a GPU of its own; unless given, one for each GPU."""
    launcher: LauncherOptions = Field(LauncherOptions(), exclude=True)
    """Start of the processes."""
    keep_state: bool = Field(False, exclude=True)
    """Keep the state when the result stands; whoever started this command then removes it."""
    checkpoint_seconds: float = Field(default_factory=default_checkpoint_seconds, gt=0, exclude=True)
    """Time between two checkpoints; unless given, DEEPCLUST_CHECKPOINT_SECONDS or 5 minutes."""


def main(arguments: Arguments, job: Job) -> None:
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


def submit(arguments: Arguments, job: Job) -> None:
    """Let a job of its own train, and wait for it."""
    from deepclust.pretraining.engine import pretraining as engine
    from deepclust.pretraining.launch.submission import Submission, task_arguments

    job.recorded = False
    files, code = training(arguments)
    command = [sys.executable, str(Path(__file__).resolve()), *task_arguments(job.argv, arguments.launcher)]
    submission = Submission(arguments.launcher, arguments.output.model, command)
    submission.run(on_terminate)
    job.when_done += [engine.state_folder(code, arguments.options, files).remove, submission.remove]


def training(arguments: Arguments) -> "tuple[engine.TrainingFiles, str]":
    """Return the files of the training, and the digest of its code."""
    from deepclust.core.images import Images
    from deepclust.pretraining.engine import pretraining as engine

    read, write = arguments.input, arguments.output
    files = engine.TrainingFiles(
        splits=[Images(path.parent) for path in read.images],
        start_model=read.start,
        start_native=read.native,
        neighbors=read.neighbors,
        model=write.model,
        log=write.log,
        tensorboard=write.tensorboard,
        snapshots=write.snapshots,
    )
    return files, code_digest("pretrain", [f"deepclust.pretraining.{arguments.method}"])


def train(arguments: Arguments, job: Job, device: "torch.device", team: "Team") -> None:
    """Train as one of the processes of a team."""
    from deepclust.core.device import device_name
    from deepclust.pretraining.engine import pretraining as engine

    module = registry.load("pretraining", arguments.method)
    files, code = training(arguments)
    session = engine.Session(
        device=device,
        progress=job.progress if team.first else Progress(hidden=True),
        code=code,
        checkpoint_seconds=arguments.checkpoint_seconds,
        listen=partial(on_terminate, minutes=arguments.minutes),
        team=team,
    )
    remove_state = engine.pretrain(arguments.method, module, arguments.options, files, session)
    if not arguments.keep_state:
        job.when_done.append(remove_state)

    job.recorded = team.first
    job.device = device_name(device)


if __name__ == "__main__":
    run_job("pretrain", Arguments, main, method=("pretraining", "method"))
