"""Training that heads share: steps, a log, monitors, and a state that outlives a killed job."""

import gc
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepclust.core.progress import Progress, Task
from deepclust.heads.kit.head import SeedResult, Weights
from deepclust.heads.kit.monitors import collapse, monitor
from deepclust.heads.kit.stacked import stacks
from deepclust.heads.kit.states import StackStates, State

SAVE_SECONDS = 120.0  # seconds between two saved states


class Training(ABC):
    """Training of some seeds of a head as one computation; the first dimension of every tensor is the seeds'.

    Every random draw comes from a seed derived from its purpose and the step, so there is no generator to save.
    """

    optimizers: Sequence[torch.optim.Optimizer]
    """Optimizers, whose parameters and moments are part of the state."""
    buffers: dict[str, Tensor]
    """Other tensors of the state; changed in place."""
    logged: Sequence[str] = ()
    """Names of buffers [S] that entries of the log have as well."""

    @abstractmethod
    def step(self, step: int) -> Tensor:
        """Train one step, without waiting for the device, and return the loss of every seed [S]."""

    @abstractmethod
    def probabilities(self) -> Tensor:
        """Return the probabilities of the watched images (`deepclust.heads.kit.monitors.watched`), [S, n, k]."""

    @abstractmethod
    def results(self) -> Sequence[tuple[Weights, float | None]]:
        """Return weights and objective of every seed; the objective is None if the head computes it afterwards."""


@dataclass(frozen=True)
class Schedule:
    """Length of a head's training, and facts for its log and its failures."""

    steps: int
    epoch: int
    """Steps between two looks at the clusters, each of which is an entry of the log."""
    k: int
    advice: str
    """Advice for the case that clusters are empty."""


@dataclass
class _Log:
    """Log of one seed."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    assignments: npt.NDArray[np.integer] | None = None
    failure: str | None = None


def train(
    start: Callable[[Sequence[int]], Training],
    seeds: Sequence[int],
    plan: Schedule,
    device: torch.device,
    scratch: Path | None,
    progress: Progress,
) -> Iterator[SeedResult]:
    """Train `seeds`, from saved states if there are any, and yield the result of each as soon as it is there.

    Args:
        start: makes the training of the seeds it is given, before its first step.
        scratch: folder for the state; None if it is not to be saved.
    """
    states = None if scratch is None else StackStates(scratch)
    if states is not None:
        states.remove_damaged(seeds)
    steps = _steps(seeds, states)
    with progress.task("train", plan.steps * len(seeds), "steps", sum(steps.values())) as task:
        waiting = [stack for group in _groups(seeds, states) for stack in stacks(group, device)]
        while waiting:
            stack = waiting.pop(0)
            others = task.done - sum(_steps(stack, states).values())
            results = _attempt(start, stack, plan, states, task)
            if results is None:
                _free(device)
                task.advance(others + sum(_steps(stack, states).values()) - task.done)
                halves = stack[: len(stack) // 2], stack[len(stack) // 2 :]
                waiting[:0] = [group for half in halves for group in _groups(half, states)]
                continue
            for result in results:
                yield result
                if states is not None:
                    states.remove(result.seed)  # the result is kept by now


def _free(device: torch.device) -> None:
    """Free the memory of a training at once, although its parts refer to each other."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _steps(seeds: Sequence[int], states: StackStates | None) -> dict[int, int]:
    return {seed: 0 if states is None else states.step(seed) for seed in seeds}


def _groups(seeds: Sequence[int], states: StackStates | None) -> list[list[int]]:
    """Group seeds by their step, as those of a stack must be at the same one; the farthest come first."""
    steps = _steps(seeds, states)
    return [[seed for seed in seeds if steps[seed] == step] for step in sorted(set(steps.values()), reverse=True)]


def _attempt(
    start: Callable[[Sequence[int]], Training], stack: list[int], plan: Schedule, states: StackStates | None, task: Task
) -> list[SeedResult] | None:
    """Train seeds together and return their results; None if the device has no memory for so many."""
    try:
        run = _Run(stack, start(stack), plan, states, task)
        if states is not None and states.step(stack[0]):
            run.restore([states.load(seed) for seed in stack])
        return list(run.finish())
    except torch.OutOfMemoryError:
        if len(stack) == 1:
            raise
        return None


class _Run:
    """Run of one stack of seeds through the steps."""

    def __init__(
        self, seeds: list[int], training: Training, plan: Schedule, states: StackStates | None, task: Task
    ) -> None:
        self.seeds, self.training, self.plan, self.states, self.task = seeds, training, plan, states, task
        self.step = 0
        self.logs = [_Log() for _ in seeds]
        self.losses: Tensor | None = None  # sum over the steps since the last entry
        self.started = time.perf_counter()
        self.earlier = torch.zeros(len(seeds), dtype=torch.float64)  # seconds of earlier attempts

    def finish(self) -> Iterator[SeedResult]:
        """Train to the end and yield the results."""
        saved = time.perf_counter()
        while self.step < self.plan.steps and any(log.failure is None for log in self.logs):
            losses = self.training.step(self.step)
            self.losses = losses if self.losses is None else self.losses + losses
            self.step += 1
            if self.step % self.plan.epoch == 0 or self.step == self.plan.steps:
                self._look()
            self.task.advance(len(self.seeds), f"step {self.step}/{self.plan.steps}, seed {self._names()}")
            if self.states is not None and time.perf_counter() - saved >= SAVE_SECONDS:
                self._save(self.states)
                saved = time.perf_counter()
        self.task.advance((self.plan.steps - self.step) * len(self.seeds))  # if all seeds failed before the end
        if all(log.failure for log in self.logs):
            yield from (
                SeedResult(seed, {}, None, log.failure, log.entries, seconds)
                for seed, log, seconds in zip(self.seeds, self.logs, self._seconds().tolist())
            )
            return
        results = self.training.results()
        spent = self._seconds().tolist()
        for seed, log, seconds, (weights, objective) in zip(self.seeds, self.logs, spent, results):
            failure = log.failure or collapse(log.entries[-1], self.plan.k, self.plan.advice)
            if failure is None and objective is not None and not math.isfinite(objective):
                failure = self._diverged()
            if failure is None:
                yield SeedResult(seed, weights, objective, None, log.entries, seconds, self.plan.advice)
            else:
                yield SeedResult(seed, {}, None, failure, log.entries, seconds)

    def restore(self, states: Sequence[State]) -> None:
        """Go on from states of the same step, one for every seed."""
        self.step = states[0].step
        stacked = {name: torch.cat([state.tensors[name] for state in states]) for name in states[0].tensors}
        self.losses = stacked.pop("run/losses", None)
        assignments = stacked.pop("run/assignments", None)
        self.earlier = stacked.pop("run/seconds")
        _load(self.training, stacked)
        for i, state in enumerate(states):
            self.logs[i] = _Log(json.loads(state.log), None if assignments is None else assignments[i].numpy())
        if self.losses is not None:
            self.losses = self.losses.to(next(_tensors(self.training))[1].device)

    def _look(self) -> None:
        """Add an entry to the log of every seed, and end those that diverged."""
        since = (self.step - 1) % self.plan.epoch + 1
        losses = [] if self.losses is None else (self.losses / since).tolist()
        self.losses = None
        probabilities = self.training.probabilities().float().cpu().numpy()
        logged = {name: self.training.buffers[name].tolist() for name in self.training.logged}
        for i, (loss, seen, log) in enumerate(zip(losses, probabilities, self.logs)):
            if log.failure is not None:
                continue
            if not (math.isfinite(loss) and np.isfinite(seen).all()):
                log.failure = self._diverged()
                continue
            own = {name: values[i] for name, values in logged.items() if math.isfinite(values[i])}
            found = {"step": self.step, "loss": loss, **own, **monitor(seen, log.assignments)}
            log.entries.append({k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in found.items()})
            log.assignments = seen.argmax(1)

    def _diverged(self) -> str:
        return f"the training diverged by step {self.step}: lower learning_rate"

    def _save(self, states: StackStates) -> None:
        tensors = {name: tensor.detach().cpu() for name, tensor in _tensors(self.training)}
        tensors["run/seconds"] = self._seconds()
        if self.losses is not None:
            tensors["run/losses"] = self.losses.cpu()
        for i, (seed, log) in enumerate(zip(self.seeds, self.logs)):
            if log.failure is not None:
                continue
            own = {name: tensor[i : i + 1] for name, tensor in tensors.items()}
            if log.assignments is not None:
                own["run/assignments"] = torch.from_numpy(log.assignments).unsqueeze(0)
            states.save(seed, State(self.step, json.dumps(log.entries), own))

    def _seconds(self) -> Tensor:
        """Return the seconds that every seed took so far, [S]; seeds that are trained together share the time."""
        return self.earlier + (time.perf_counter() - self.started) / len(self.seeds)

    def _names(self) -> str:
        return ", ".join(map(str, self.seeds))


def _parameters(training: Training) -> Iterator[tuple[str, torch.optim.Optimizer, Tensor]]:
    for number, optimizer in enumerate(training.optimizers):
        tensors = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for i, parameter in enumerate(tensors):
            yield f"optimizer{number}/{i}", optimizer, parameter


def _tensors(training: Training) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors that change in a training, [S, ...]."""
    for name, optimizer, parameter in _parameters(training):
        yield name, parameter
        for key, value in optimizer.state[parameter].items():
            # A counter of steps has no dimension, as it is the same for all seeds.
            yield f"{name}/{key}", value.expand(len(parameter)) if value.ndim == 0 else value
    for name, buffer in training.buffers.items():
        yield f"buffers/{name}", buffer


@torch.no_grad()
def _load(training: Training, tensors: dict[str, Tensor]) -> None:
    for name, optimizer, parameter in _parameters(training):
        parameter.copy_(tensors[name])
        remembered = {key.rpartition("/")[2]: value for key, value in tensors.items() if key.startswith(f"{name}/")}
        for key, value in remembered.items():
            value = value.to(parameter.device)
            optimizer.state[parameter][key] = value[0].clone() if key == "step" else value.clone()
    for name, buffer in training.buffers.items():
        buffer.copy_(tensors[f"buffers/{name}"])
