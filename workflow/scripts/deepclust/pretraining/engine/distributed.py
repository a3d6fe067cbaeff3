"""Processes that train together, each on its part of every batch.

Embeddings are gathered, so that every process computes the loss and the method's state on the whole batch. Gradients
are added up. A training by one process needs no communication (`ALONE`).
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepclust.core.device import choose_devices, make_current
from deepclust.core.errors import DeepclustError

MEETING = timedelta(minutes=5)  # time in which all processes must meet; a launcher starts them together
TIMEOUT = timedelta(hours=2)  # time in which one process may read images or write a result while the others wait
PR_SET_PDEATHSIG = 1
NCCLError = dist.DistBackendError


class Stopped(Exception):
    """End that a signal asked for; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _no_signal() -> int:
    return 0


@dataclass(frozen=True)
class Team:
    """Team of the processes of one training.

    Attributes:
        rank: number of this process, from 0; the first one writes all files.
        count: number of processes.
        signal: returns the signal that asked this process to end; 0 if there was none.
    """

    rank: int = 0
    count: int = 1
    signal: Callable[[], int] = _no_signal

    @property
    def first(self) -> bool:
        """True in the process that writes the files."""
        return self.rank == 0

    def bounds(self, total: int, rank: int | None = None) -> tuple[int, int]:
        """Return first and last + 1 of the `total` items that fall to a process; parts differ by at most one item."""
        rank = self.rank if rank is None else rank
        return total * rank // self.count, total * (rank + 1) // self.count

    def all_gather(self, parts: tuple[Tensor, ...], total: int) -> tuple[Tensor, ...]:
        """Concatenate the parts of all processes; no gradient flows back.

        Args:
            parts: tensors of one device and type whose first dimension is this process's part of `total`.

        Returns:
            Tensors of first dimension `total`, equal in all processes.
        """
        if self.count == 1:
            return parts
        rows = [part.detach().flatten(1) if part.ndim > 1 else part.detach().unsqueeze(1) for part in parts]
        widths = [row.shape[1] for row in rows]
        sizes = [stop - start for start, stop in (self.bounds(total, rank) for rank in range(self.count))]
        mine = rows[0].new_zeros(max(sizes), sum(widths))
        torch.cat(rows, 1, out=mine[: sizes[self.rank]])
        everyone = [torch.empty_like(mine) for _ in sizes]
        with other_processes():
            dist.all_gather(everyone, mine)
        whole = torch.cat([block[:size] for block, size in zip(everyone, sizes)])
        return tuple(
            values.reshape(total, *part.shape[1:]).contiguous() for values, part in zip(whole.split(widths, 1), parts)
        )

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of one device and type by their sums over all processes, in place."""
        tensors = list(tensors)
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with other_processes():
            dist.all_reduce(flat)
        sums = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(sums, tensors)])

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """Return the highest of each number over all processes; this happens on the CPU and waits for no device."""
        if self.count == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.int64)
        with other_processes():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [int(number) for number in tensor]

    def broadcast_module(self, module: nn.Module, parameters: bool = False) -> None:
        """Send the buffers of the first process's module, and with `parameters` these too, to all, in place."""
        self.broadcast([*module.buffers(), *(module.parameters() if parameters else ())])

    @torch.no_grad()
    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Send the tensors of the first process to all, in place."""
        if self.count == 1:
            return
        with other_processes():
            for tensor in tensors:
                value = tensor.detach().contiguous()
                dist.broadcast(value, 0)
                tensor.copy_(value)

    def broadcast_bytes(self, content: bytes | memoryview | None) -> bytes | None:
        """Send bytes, or None, of the first process to all; the arguments of the others are ignored."""
        size = -1 if content is None or not self.first else len(content)
        (size,) = self.all_reduce_max(size)
        if size < 0:
            return None
        tensor = torch.empty(size, dtype=torch.uint8)
        if self.first and content is not None:
            tensor = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        with other_processes():
            dist.broadcast(tensor, 0)
        return tensor.numpy().tobytes()

    def barrier(self) -> None:
        """Wait for all processes."""
        self.all_reduce_max(0)

    def end_if_asked(self, together: bool = True) -> None:
        """Look for a signal; long computations call this every few seconds.

        Args:
            together: whether all processes call this equally often; if not, only a single process looks.

        Raises:
            Stopped: a process got a signal.
        """
        number = 0
        if together:
            (number,) = self.all_reduce_max(self.signal())
        elif self.count == 1:
            number = self.signal()
        if number:
            raise Stopped(number)


ALONE = Team()


@dataclass(frozen=True)
class Rehearsal(Team):
    """Stand-in for a team, to find out without the others how much memory a step needs; it gathers its own part."""

    def all_gather(self, parts: tuple[Tensor, ...], total: int) -> tuple[Tensor, ...]:
        """Repeat this process's part until there are `total` rows."""
        rows = [torch.arange(total, device=part.device) % len(part) for part in parts]
        return tuple(part.detach()[index] for part, index in zip(parts, rows))

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Allocate the memory that the sum takes, and change nothing."""
        torch.cat([tensor.flatten() for tensor in tensors])


@contextlib.contextmanager
def other_processes() -> Iterator[None]:
    """Turn the failure of a communication into one line.

    Raises:
        DeepclustError: another process is gone, or NCCL fails.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        # NCCL has the same error for a process that is gone and for a network, GPUs or memory that it cannot use.
        reason = f"; if none does: {' '.join(str(error).split())[-300:]}" if isinstance(error, NCCLError) else ""
        ended = "another process of this training ended: its message says why"
        raise DeepclustError(f"{ended}{reason}; run again") from error


def started_by_a_launcher() -> bool:
    """Return whether this process is one of a team."""
    return "WORLD_SIZE" in os.environ


def processes_here(wanted: int | None) -> int:
    """Return the number of processes that train on this machine: as many as are wanted, else one for each GPU.

    Raises:
        DeepclustError: more are wanted than there are GPUs.
    """
    devices = choose_devices()
    if wanted is None or devices[0].type == "cpu":
        return wanted or len(devices)
    if wanted > len(devices):
        raise DeepclustError(f"{wanted} GPUs are asked for, but this job sees {len(devices)}: ask for fewer")
    return wanted


def die_with_parent() -> None:
    """Let this process be killed with the one that started it, so that it does not train beside its successor."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def local_device() -> torch.device:
    """Choose this process's device and share of the CPUs, among those of the team on this machine.

    Raises:
        DeepclustError: there are fewer GPUs than processes.
    """
    rank, count = (int(os.environ.get(name, default)) for name, default in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1)))
    if count > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    devices = choose_devices()
    # A launcher may bind GPUs to processes, so that each process sees only its own.
    if devices[0].type == "cuda" and 1 < len(devices) < count:
        raise DeepclustError(f"{count} processes are to train on this machine, which has {len(devices)} GPUs: one each")
    make_current(devices[rank % len(devices)])
    return devices[rank % len(devices)]


@contextlib.contextmanager
def team_of_environment(device: torch.device) -> Iterator[Team]:
    """Form the team of the processes that a launcher (torchrun, submitit) started together with this one.

    An error ends all processes. One of those that meet it reports it, the others end silently.

    Args:
        device: device of this process.

    Raises:
        DeepclustError: the processes do not meet.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    _join(backend)
    team = Team(dist.get_rank(), dist.get_world_size())
    if not team.first:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # to the end of this process
    try:
        yield team
    except BaseException:
        if not _first_to_fail():
            os._exit(1)
        raise


def _join(backend: str) -> None:
    """Meet the other processes at the launcher's address, within `MEETING`.

    Raises:
        DeepclustError: the others do not come, or the address cannot be reached.
    """
    try:
        dist.init_process_group(backend, timeout=MEETING)
        dist.all_reduce(torch.zeros(1))  # a process that went on before all are here could fail unseen
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}, port {os.environ.get('MASTER_PORT')}"
        said = str(error).partition("\n")[0]
        raise DeepclustError(
            f"the processes of this training do not meet at {place} ({said}): if none of them says why, that name must "
            "lead to the first node from all nodes, and ports between them must be open; GLOO_SOCKET_IFNAME and "
            "NCCL_SOCKET_IFNAME choose the network"
        ) from error
    dist.distributed_c10d._set_pg_timeout(TIMEOUT)
    dist.distributed_c10d._get_default_store().set_timeout(TIMEOUT)


def _first_to_fail() -> bool:
    store: Any = dist.distributed_c10d._get_default_store()
    try:
        return bool(store.add("deepclust/failed", 1) == 1)
    except RuntimeError:  # the process that kept the count is gone and has reported why
        return False
