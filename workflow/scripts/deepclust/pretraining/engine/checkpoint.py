"""Checkpoints of a training: whole files with digests in their names, of which the newest two are kept."""

import contextlib
import hashlib
import io
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from deepclust.core.errors import DeepclustError
from deepclust.core.files import atomic_path

KEPT = 2
ABANDONED = 600  # seconds after which a partial file counts as left behind

State = dict[str, Any]


class StateFolder:
    """Folder that holds the state of one training until its result is there.

    A file's name is the number of steps done and the start of its content's SHA-256, so a damaged file is recognised.
    """

    def __init__(self, model_json: Path, fingerprint: str) -> None:
        """Make the folder beside the model, and remove partial files left behind in it.

        Args:
            model_json: file that the training will write.
            fingerprint: digest of everything that would invalidate the state.
        """
        self.path = Path(model_json).parent / f".state-{fingerprint}"
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self.path.glob(".*.partial"):
            with contextlib.suppress(FileNotFoundError):  # a process that was not quite dead has moved it
                if time.time() - leftover.stat().st_mtime > ABANDONED:
                    leftover.unlink()

    def save(self, state: State, steps: int) -> None:
        """Write `state` (tensors, numbers, strings, lists, dicts) as the newest checkpoint; remove old ones."""
        content = packed(state)
        with atomic_path(self.path / f"{steps:09d}-{_digest(content)}.pt") as temporary:
            temporary.write_bytes(content)
        for old in _checkpoints(self.path)[KEPT:]:
            old.unlink(missing_ok=True)

    def load(self) -> State | None:
        """Load the newest whole checkpoint, or return None; damaged ones are reported and removed."""
        for path in _checkpoints(self.path):
            try:
                return load_state(path)
            except DeepclustError as error:
                print(f"warning: {error}; trying the one before", file=sys.stderr, flush=True)
                path.unlink(missing_ok=True)
        return None

    def remove(self) -> None:
        """Remove the folder and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def load_state(path: Path) -> State:
    """Load a checkpoint, or the newest one in a folder of checkpoints, on to the CPU.

    Raises:
        DeepclustError: there is no checkpoint, or it is damaged.
    """
    if path.is_dir():
        found = _checkpoints(path)
        if not found:
            raise DeepclustError(f"{path} holds no checkpoint")
        path = found[0]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DeepclustError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if not path.stem.endswith(_digest(content)):
        raise DeepclustError(f"checkpoint {path} is damaged")
    return unpacked(content)


def packed(state: State) -> memoryview:
    """Return a state as the content of a file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def unpacked(content: bytes) -> State:
    """Return the state that a file's content holds, on the CPU."""
    state: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def _checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in a folder, newest first."""
    return sorted(folder.glob("[0-9]*-*.pt"), reverse=True)


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
