"""Training loop that all pretraining methods share."""

import math
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from deepclust.core.device import has_fast_bf16
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress, Task
from deepclust.core.rows import evenly_spread
from deepclust.core.seeding import derive_seed
from deepclust.models.model import Model
from deepclust.pretraining.engine.batch_norm import unsynchronised
from deepclust.pretraining.engine.checkpoint import State, StateFolder
from deepclust.pretraining.engine.compilation import should_compile
from deepclust.pretraining.engine.distributed import ALONE, Rehearsal, Stopped, Team
from deepclust.pretraining.engine.gradient_cache import backward, count_pieces
from deepclust.pretraining.engine.image_store import ImageStore
from deepclust.pretraining.engine.method import Epoch, Method
from deepclust.pretraining.engine.monitors import check_collapse, check_finite, feature_spread
from deepclust.pretraining.engine.optimization import build_optimizer
from deepclust.pretraining.engine.options import PretrainingOptions
from deepclust.pretraining.engine.snapshots import Snapshots
from deepclust.pretraining.engine.training_log import TrainingLog
from deepclust.pretraining.views.base import part_of_batch

CHECK_EVERY = 100  # steps between two looks at the loss, each of which waits for the device
MONITORED = 256  # images whose features are watched


@dataclass
class Position:
    """Position of a training in its epochs and steps."""

    epoch: int = 0
    step: int = 0
    """Number of steps done in this epoch."""
    micro_batch: int = 0
    """Largest number of images sent through the network at a time."""
    seconds: float = 0.0
    """Time spent on this epoch by earlier processes."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Sums over this epoch's steps of the scalars that the method's loss returned."""


class Trainer:
    """Trainer of one method, from its last checkpoint to its end.

    Every random draw comes from a seed derived from its purpose and place, so there is no generator to save.
    """

    def __init__(
        self,
        method: Method,
        model: Model,
        store: ImageStore,
        options: PretrainingOptions,
        states: StateFolder | None,
        log: TrainingLog,
        progress: Progress,
        checkpoint_seconds: float,
        snapshots: Snapshots | None,
        team: Team = ALONE,
    ) -> None:
        """Prepare the optimizer and the first position.

        Args:
            method: method on the images' device.
            model: its backbone with the preparation of images.
            states: folder for checkpoints; None if another process of the team writes them.
            snapshots: snapshots to take; None if another process of the team takes them.

        Raises:
            DeepclustError: there are more processes than images in a batch.
        """
        self.method, self.model, self.store, self.options = method, model, store, options
        self.states, self.log, self.progress = states, log, progress
        self.checkpoint_seconds, self.snapshots, self.team = checkpoint_seconds, snapshots, team
        self.device = store.device
        self.bf16 = options.precision == "bf16" or (options.precision == "auto" and has_fast_bf16(self.device))
        if should_compile(options.compile, self.device, team):
            method.backbone.compile(dynamic=False)  # in place, so that the names in its state stay the same
        torch.backends.cudnn.benchmark = self.device.type == "cuda"  # steps are all of the same shapes
        self.optimizer = build_optimizer(method.parameter_groups(), options)
        self.batch = min(options.batch_size, store.count)
        self.steps = store.count // self.batch
        if self.batch < team.count:
            raise DeepclustError(f"{team.count} processes cannot share batches of {self.batch} images: use fewer")
        self.position = Position(micro_batch=self.batch)
        self._rehearsed = team.count == 1
        self._signal = 0  # received by this process
        self._stopped_by = 0  # signal that all processes know of
        self._clock = self._saved = time.perf_counter()

    def stop(self, signal_number: int) -> None:
        """Save the state after the current step and end, because of a signal."""
        self._signal = signal_number

    def restore(self, state: State) -> None:
        """Go on from a checkpoint.

        A checkpoint of other options may fit too; its epoch starts anew if the steps differ.

        Raises:
            DeepclustError: the checkpoint is of another network or optimizer.
        """
        if state["optimizer_name"] != self.options.optimizer:
            raise DeepclustError(
                f"the checkpoint is of optimizer {state['optimizer_name']}, it does not fit {self.options.optimizer}"
            )
        try:
            self.method.load_state_dict(state["method"])
            # The optimizer keeps its state but takes the present options.
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        except (RuntimeError, ValueError) as error:
            raise DeepclustError(
                f"the checkpoint does not fit these options: {' '.join(str(error).split())}"
            ) from error
        self.position = Position(**state["position"])
        self.position.sums = {name: value.to(self.device) for name, value in self.position.sums.items()}
        if (state["batch"], state["steps"]) != (self.batch, self.steps):
            self.position = Position(self.position.epoch, micro_batch=self.batch)
        self.log.restore(state["log"])

    def run(self) -> None:
        """Train to the end.

        Raises:
            DeepclustError: the training diverged or collapsed, does not fit into memory, or was stopped by a signal.
        """
        print(
            f"{self.store.count} images ({'on the device' if self.store.resident else 'read as needed'}), "
            f"{self.options.epochs} epochs of {self.steps} steps of {self.batch} images on {self.device}, "
            f"{'bf16' if self.bf16 else 'fp32'}" + (f", {self.team.count} processes" if self.team.count > 1 else ""),
            flush=True,
        )
        position, per_epoch = self.position, self.steps * self.batch
        done = position.epoch * per_epoch + position.step * self.batch
        self._saved = time.perf_counter()
        if done == 0:
            self._take_snapshot(0)
        with self.progress.task("start", self.options.epochs * per_epoch, "images", done) as task:
            while self.position.epoch < self.options.epochs:
                self._run_epoch(task)
                if self._due() and self.position.epoch < self.options.epochs:
                    self._save()
        self._write_state()  # the result may still be refused if the code changed meanwhile

    def _run_epoch(self, task: Task) -> None:
        position = self.position
        self._clock = time.perf_counter()
        self.method.train()
        if position.step == 0:
            self._start_epoch()
            # Rounding may differ between processes, and a label that differs would change batches.
            self.team.broadcast_module(self.method)
        order = self.method.order(self.store.count, self._seed("order", position.epoch))
        batches = order[: self.steps * self.batch * self.method.images_per_item].view(self.steps, self.batch, -1)
        left = batches[position.step :]
        first, last = self.team.bounds(self.batch)
        own = self.store.batches(left[:, first:last].flatten(), (last - first) * self.method.images_per_item)
        what = f"epoch {position.epoch + 1}/{self.options.epochs}"
        for indices, (_, images) in zip(left[:, :, 0].to(self.device), own):
            rates = self._step(images, indices)
            position.step += 1
            task.advance(self.batch, what)
            ended = position.step == self.steps
            if position.step % CHECK_EVERY == 0 and not ended:
                self._means()
            if self._due() and not ended:
                self._save()
        self._end_epoch(rates)

    def _start_epoch(self) -> None:
        """Let the method start the epoch.

        After a signal the state is saved as one in which the epoch did not start.

        Raises:
            DeepclustError: a signal stopped it.
        """
        try:
            self.method.start_epoch(self._epoch(replace(self.team, signal=lambda: self._signal)))
        except Stopped as stopped:
            self._stopped_by = stopped.number
        if self._stopped_by:
            self._save()

    def _step(self, images: Tensor, indices: Tensor) -> list[float]:
        position = self.position
        step = position.epoch * self.steps + position.step
        rates = self.method.learning_rates(step / self.steps)
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        scalars, embeddings = self._backward(images, indices, self._seed("views", step))
        self.optimizer.step()
        with torch.no_grad():
            self.method.after_step(embeddings, indices)
        for name, value in scalars.items():
            position.sums[name] = position.sums[name] + value if name in position.sums else value.clone()
        return rates

    def _backward(self, images: Tensor, indices: Tensor, seed: int) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Compute the gradients of one batch, in micro-batches that fit into the device's memory."""
        if not self._rehearsed:
            self._rehearse(images, indices, seed)
        while (result := self._attempt(images, indices, seed, self.team)) is None:
            if self.team.count > 1:  # the others wait for the part that this process cannot compute
                raise DeepclustError(f"out of memory on {self.device} in the middle of training: lower batch_size")
            self._halve()
        return result

    def _attempt(
        self, images: Tensor, indices: Tensor, seed: int, team: Team
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]] | None:
        """Compute the gradients of one batch; return None if they do not fit into memory."""
        self.optimizer.zero_grad(set_to_none=True)
        try:
            with part_of_batch(*team.bounds(self.batch), self.batch):
                views = self.method.views(images, seed)
            return backward(self.method, views, indices, self.position.micro_batch, self.bf16, team)
        except torch.OutOfMemoryError:
            return None

    def _rehearse(self, images: Tensor, indices: Tensor, seed: int) -> None:
        """Find micro-batches that fit into the memory of all processes, while none waits for another."""
        alone = Rehearsal(self.team.rank, self.team.count)
        with unsynchronised(self.method):
            while any(self.team.all_reduce_max(self._attempt(images, indices, seed, alone) is None)):
                self._halve()
        self._rehearsed = True

    def _halve(self) -> None:
        """Go on with smaller micro-batches, after the memory of the failed attempt is free."""
        pieces, most = (count_pieces(self.batch, size, self.team) for size in (self.position.micro_batch, 1))
        if pieces == most:
            raise DeepclustError(f"out of memory on {self.device} even for two or three images at a time")
        first, last = self.team.bounds(self.batch, self.team.count - 1)  # the largest part
        largest = min(self.position.micro_batch, last - first)
        self.position.micro_batch = math.ceil(largest / 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        print(
            f"out of memory: going on with micro-batches of {self.position.micro_batch} images, "
            f"still {self.batch} images per step",
            flush=True,
        )

    def _end_epoch(self, rates: list[float]) -> None:
        means = self._means()
        self.team.broadcast_module(self.method)
        position = self.position
        seconds = position.seconds + time.perf_counter() - self._clock
        record = {
            "epoch": position.epoch + 1,
            **means,
            "learning_rate": rates[0],
            "feature_std": self._feature_std(),
            **self.method.end_epoch(self._epoch(self.team)),
            "seconds": seconds,
            "images_per_second": self.steps * self.batch / seconds,
        }
        self.log.add(record)
        print(self.log.lines[-1], flush=True)
        check_collapse(record, position.epoch, self.method.clusters)
        self.position = Position(position.epoch + 1, micro_batch=position.micro_batch)
        self._take_snapshot(self.position.epoch)

    def _means(self) -> dict[str, float]:
        """Return the means over this epoch's steps so far; this waits for the device."""
        means = {name: (total / self.position.step).item() for name, total in self.position.sums.items()}
        check_finite(means, self.position.epoch)
        return means

    def _feature_std(self) -> float:
        some = torch.from_numpy(evenly_spread(self.store.count, max(MONITORED, self.team.count)))
        count = len(some)
        (features,) = self.team.all_gather((self._features(some[slice(*self.team.bounds(count))]),), count)
        spread = feature_spread(features)
        check_finite({"feature_std": spread}, self.position.epoch)
        return spread

    @torch.no_grad()
    def _features(self, indices: Tensor, team: Team = ALONE) -> Tensor:
        """Compute features without augmentation, float32 [n, D] on the CPU, unless the team is asked to end."""
        features = [torch.empty(0, self.method.backbone.feature_dim)]  # type: ignore[call-overload]
        self.method.eval()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            for _, images in self.store.batches(indices, self.position.micro_batch):
                team.end_if_asked(together=False)
                features.append(self.model.features(self.model.preprocess(images)).cpu())
        self.method.train()
        return torch.cat(features)

    def _epoch(self, team: Team) -> Epoch:
        number = self.position.epoch
        return Epoch(number, self._seed("epoch", number), partial(self._features, team=team), self._forget, team)

    def _forget(self, parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            self.optimizer.state.pop(parameter, None)

    def _take_snapshot(self, epoch: int) -> None:
        if self.snapshots is not None:
            self.snapshots.take(epoch, self.method)

    def _seed(self, purpose: str, number: int) -> int:
        return derive_seed(self.options.seed, purpose, number)

    def _due(self) -> bool:
        """Return whether it is time for a checkpoint or a signal asked for the end; all processes agree on it."""
        late = time.perf_counter() - self._saved >= self.checkpoint_seconds
        self._stopped_by, anyone_late = self.team.all_reduce_max(self._signal, late)
        return self._stopped_by != 0 or anyone_late != 0

    def _save(self) -> None:
        """Write the state, and end if a signal asked for it."""
        self._write_state()
        if self._stopped_by:
            self.team.barrier()  # the first process to end ends all
            reason = "by its time limit" if self._stopped_by == signal.SIGALRM else f"by signal {self._stopped_by}"
            raise DeepclustError(
                f"stopped {reason} in epoch {self.position.epoch + 1}: the state is saved, run again to continue"
            )

    def _write_state(self) -> None:
        position = self.position
        if position.step:
            self._means()  # a diverged state is not worth keeping
            position.seconds += time.perf_counter() - self._clock
            self._clock = time.perf_counter()
        if self.states is not None:
            state = {
                "method": self.method.state_dict(),
                "optimizer": self.optimizer.state_dict()["state"],
                "optimizer_name": self.options.optimizer,
                "position": asdict(position),
                "batch": self.batch,
                "steps": self.steps,
                "log": self.log.lines,
            }
            self.states.save(state, position.epoch * self.steps + position.step)
        self._saved = time.perf_counter()
