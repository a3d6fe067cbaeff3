"""Pretraining from images to a backbone, with network, method, images and trainer put together."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from deepclust.core.errors import DeepclustError
from deepclust.core.files import json_digest, read_json, sha256_file
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.core.seeding import derive_seed
from deepclust.models.model import Model, save_model
from deepclust.models.networks import build_network
from deepclust.pretraining.engine.batch_norm import synchronise
from deepclust.pretraining.engine.checkpoint import StateFolder, load_state, packed, unpacked
from deepclust.pretraining.engine.distributed import ALONE, Team
from deepclust.pretraining.engine.image_store import ImageStore
from deepclust.pretraining.engine.method import ImageFacts, Method
from deepclust.pretraining.engine.monitors import LostTraining
from deepclust.pretraining.engine.native import FILE, read_native, write_native
from deepclust.pretraining.engine.options import MethodFacts, PretrainingOptions
from deepclust.pretraining.engine.snapshots import Snapshots
from deepclust.pretraining.engine.trainer import Trainer
from deepclust.pretraining.engine.training_log import TrainingLog


@dataclass(frozen=True)
class TrainingFiles:
    """Files that a pretraining reads and writes."""

    splits: list[Images]
    """Images to train on."""
    start_model: Path | None
    """`model.json` of the backbone to start from; None for fresh weights."""
    model: Path
    """`model.json` to write, with `model.safetensors` and `native.safetensors` beside it."""
    log: Path
    """Training log to write: one JSON object per epoch."""
    tensorboard: Path
    """Folder to write the same log to as an event file of TensorBoard."""
    snapshots: Path
    """Folder to write snapshots to; see `deepclust.pretraining.engine.snapshots`."""
    neighbors: list[Path] = field(default_factory=list)
    """`neighbors.npy` of each split by the features of the backbone to start from; empty for methods that need none."""
    start_native: Path | None = None
    """`native.safetensors` of the backbone to start from, for methods that go on from its clusters."""


@dataclass(frozen=True)
class Session:
    """Settings of one process, on which the training does not depend."""

    device: torch.device
    progress: Progress
    code: str
    """Digest of the code that trains."""
    checkpoint_seconds: float
    """Time between two checkpoints."""
    listen: Callable[[Callable[[int], None]], None]
    """Function to be called with the function that a termination signal is to call."""
    team: Team = ALONE
    """Processes that train together."""


def pretrain(
    name: str, module: ModuleType, options: PretrainingOptions, files: TrainingFiles, session: Session
) -> Callable[[], None]:
    """Train a backbone, or go on where an interrupted process left off, and write it.

    Args:
        name: name of the method, for the record.
        module: module of the method; its `METHOD` is a class derived from `Method`.

    Returns:
        Function that removes the training's state, to be called when the result is accepted.

    Raises:
        DeepclustError: the inputs do not fit together, or one of the reasons of `Trainer.run`.
    """
    start = None if files.start_model is None else Model.load(files.start_model, torch.device("cpu"))
    _check_start(name, module, files)
    team = session.team
    states = state_folder(session.code, options, files) if team.first else None
    store = ImageStore(files.splits, options.image_size, session.device, session.progress, torch.get_num_threads())
    spec = _spec(name, options, store, start)
    method = _build_method(module, options, store, spec, start, files)
    method.to(session.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if team.count > 1 and options.sync_batch_norm:
        synchronise(method)

    log = TrainingLog(None if states is None else states.path)
    snapshots = Snapshots(states.path / "snapshots", spec, options.snapshot_every, options.epochs) if states else None
    trainer = Trainer(
        method,
        Model(method.backbone, spec),
        store,
        options,
        states,
        log,
        session.progress,
        session.checkpoint_seconds,
        snapshots,
        team,
    )
    _restore(trainer, states, options.resume_from)
    team.broadcast_module(method, parameters=True)
    session.listen(trainer.stop)
    try:
        trainer.run()
    except LostTraining as error:
        folder = ".state-*" if states is None else states.path.name
        raise DeepclustError(f"{error}; its curves are in {files.model.parent / folder / log.NAME}") from error
    if snapshots is not None:
        _write(files, method, spec, log, snapshots)
    team.barrier()
    return states.remove if states is not None else lambda: None


def _write(files: TrainingFiles, method: Method, spec: dict[str, Any], log: TrainingLog, snapshots: Snapshots) -> None:
    save_model(files.model, method.backbone, spec)
    write_native(files.model.with_name(FILE), method.native_head())
    snapshots.publish(files.snapshots)
    log.write(files.log, files.tensorboard)


def _check_start(name: str, module: ModuleType, files: TrainingFiles) -> None:
    facts: MethodFacts = getattr(module, "FACTS", MethodFacts())
    if facts.needs_neighbors and len(files.neighbors) != len(files.splits):
        raise DeepclustError(
            f"{name} needs the neighbors of every split: give neighbors.npy of each (--input.neighbors)"
        )
    if (facts.needs_neighbors or facts.needs_clusters) and files.start_model is None:
        raise DeepclustError(f"{name} starts from a backbone: name it (start_from)")


def state_folder(code: str, options: PretrainingOptions, files: TrainingFiles) -> StateFolder:
    """Return the folder of a training's state, which is another one if the state cannot be continued."""
    start = files.start_model
    parts: list[Any] = [
        code,
        options.model_dump(mode="json", exclude={"resume_from"}),
        [split.sha256 for split in files.splits],
        None if start is None else read_json(start)["sha256"],
        [sha256_file(path) for path in files.neighbors],
        None if files.start_native is None else sha256_file(files.start_native),
    ]
    return StateFolder(files.model, json_digest(parts)[:16])


def _spec(name: str, options: PretrainingOptions, store: ImageStore, start: Model | None) -> dict[str, Any]:
    """Describe the trained backbone; see `SPEC_KEYS` in `deepclust.models.description`."""
    architecture = {"name": options.architecture, "stem": options.stem, "in_channels": store.shape[0]}
    if options.sobel:
        architecture["sobel"] = True
    if start is not None and start.spec["architecture"] != architecture:
        raise DeepclustError(
            f"backbone {options.start_from} is {_describe(start.spec['architecture'])}, but {_describe(architecture)} "
            "is to be trained: give both the same architecture and stem, and images of the same channels"
        )
    # Weights that start from a backbone were trained with its normalisation.
    mean, std = (store.mean, store.std) if start is None else (start.spec["mean"], start.spec["std"])
    return {
        "architecture": architecture,
        "image_size": options.image_size,
        "interpolation": "bilinear",
        "mean": mean,
        "std": std,
        "crop_fraction": 1.0,
        "pooling": "avg",
        "layers": None,
        "feature_dim": None,
        "method": name,
        "dataset": options.dataset,
        "supervision": "self-supervised",
        "splits": options.splits,
        "epochs": options.epochs,
        "start_from": options.start_from,
        "origin": None,
    }


def _describe(architecture: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in architecture.items())


def _build_method(
    module: ModuleType,
    options: PretrainingOptions,
    store: ImageStore,
    spec: dict[str, Any],
    start: Model | None,
    files: TrainingFiles,
) -> Method:
    _, height, width = store.shape
    size = (height, width) if options.image_size is None else (options.image_size, options.image_size)
    start_head = None if files.start_native is None else read_native(files.start_native)
    facts = ImageFacts(store.count, size, spec["mean"], spec["std"], _read_neighbors(files), start_head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(options.seed, "weights"))
        backbone = build_network(spec["architecture"]) if start is None else start.network
        method: Method = module.METHOD(options, backbone, facts)
    spec["feature_dim"] = backbone.feature_dim
    return method


def _read_neighbors(files: TrainingFiles) -> torch.Tensor | None:
    """Read the neighbors of the splits, one after the other, numbered as the images are, int32 [N, n]."""
    if not files.neighbors:
        return None
    parts = [np.load(path) for path in files.neighbors]
    counts = [split.count for split in files.splits]
    if [len(part) for part in parts] != counts:
        raise DeepclustError("the neighbors are not those of the images: search them again")
    starts = np.cumsum([0, *counts[:-1]])
    width = min(part.shape[1] for part in parts)
    return torch.from_numpy(np.concatenate([part[:, :width] + np.int32(s) for part, s in zip(parts, starts)]))


def _restore(trainer: Trainer, states: StateFolder | None, resume_from: str | None) -> None:
    """Let the first process look for a state, and let all processes go on from it."""
    state, named = None, False
    if states is not None:
        state = states.load()
        if state is None and resume_from is not None:
            state, named = load_state(Path(resume_from)), True
    if trainer.team.count > 1:
        content = trainer.team.broadcast_bytes(None if state is None else packed(state))
        state = None if content is None else unpacked(content)
    if state is None:
        return
    epoch, step, epochs = state["position"]["epoch"], state["position"]["step"], trainer.options.epochs
    if (epoch, step) > (epochs, 0):  # only a state that was named can be there
        raise DeepclustError(
            f"the state in {resume_from} is at epoch {epoch + 1}, step {step}, beyond the end of epochs: {epochs}: "
            "give more epochs, or resume from an earlier state"
        )
    trainer.restore(state)
    if named and trainer.snapshots is not None and resume_from is not None:
        folder = Path(resume_from) if Path(resume_from).is_dir() else Path(resume_from).parent
        trainer.snapshots.adopt(folder / "snapshots", epoch)
    if states is not None:
        position, origin = trainer.position, resume_from if named else states.path
        print(f"continuing from {origin}: epoch {position.epoch + 1}, step {position.step}", flush=True)
