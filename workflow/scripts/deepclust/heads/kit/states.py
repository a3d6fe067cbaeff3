"""States of unfinished trainings on disk, one file per seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deepclust.core.files import remove_damaged_tensors, write_tensors


@dataclass(frozen=True)
class State:
    """State of the training of one seed."""

    step: int
    """Number of steps done."""
    log: str
    """Log so far, as JSON."""
    tensors: dict[str, Tensor]
    """Tensors [1, ...] on the CPU."""


class StackStates:
    """Folder of one run's states; its name, given by the caller, tells the code and options that they belong to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, seed: int, state: State) -> None:
        """Replace the state of `seed`."""
        arrays = {name: tensor.numpy() for name, tensor in state.tensors.items()}
        write_tensors(self._file(seed), arrays, {"step": str(state.step), "log": state.log})

    def step(self, seed: int) -> int:
        """Return the number of steps done in the state of `seed`; 0 without one."""
        from safetensors import safe_open

        if not self._file(seed).is_file():
            return 0
        with safe_open(self._file(seed), "pt") as file:
            return int(file.metadata()["step"])

    def load(self, seed: int) -> State:
        """Load the state of `seed`, which must have one."""
        from safetensors import safe_open

        with safe_open(self._file(seed), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            metadata = file.metadata()
        return State(int(metadata["step"]), metadata["log"], tensors)

    def remove_damaged(self, seeds: Sequence[int]) -> None:
        """Remove the states of these seeds that cannot be read."""
        for seed in seeds:
            remove_damaged_tensors(self._file(seed))

    def remove(self, seed: int) -> None:
        """Remove the state of `seed`."""
        self._file(seed).unlink(missing_ok=True)

    def _file(self, seed: int) -> Path:
        return self.path / f"state-{seed}.safetensors"
