"""Training of the consensus; see `deepclust.heads.consensus`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepclust.core.rows import BLOCK
from deepclust.heads.kit.agreement import LinearFit, Votes
from deepclust.heads.kit.head import Weights
from deepclust.heads.kit.modularity import modularity
from deepclust.heads.kit.monitors import watched
from deepclust.heads.kit.neighbor_consistency import scan_loss
from deepclust.heads.kit.split_and_merge import moves
from deepclust.heads.kit.stacked import Rows, adam, draw_each, linear_scores, orders
from deepclust.heads.kit.training import Training

SHARPNESS = 10.0  # the first logits are the shares (0 to 1) that least squares predict, times this


@dataclass(frozen=True)
class Recipe:
    """Settings of the classifiers' training."""

    heads: int
    """Number of classifiers that are trained side by side in a round."""
    epochs: int
    rounds: int
    round_epochs: int
    batch_size: int
    learning_rate: float
    entropy_weight: float

    @property
    def all_epochs(self) -> int:
        """Number of epochs of the first phase and of all rounds."""
        return self.epochs + self.rounds * self.round_epochs


class ConsensusTraining(Training):
    """Training of linear classifiers, several for every seed: first from the votes, then round by round from moves."""

    def __init__(
        self,
        rows: Rows,
        neighbors: Tensor,
        votes: Sequence[Votes],
        fit: LinearFit,
        seeds: Sequence[int],
        recipe: Recipe,
    ) -> None:
        """Set the classifiers of the first phase to predict the votes.

        Args:
            neighbors: int64 [N, n].
            votes: votes of the N images to begin with.
            fit: least squares on the N rows.
        """
        self.rows, self.neighbors, self.fit, self.seeds, self.recipe = rows, neighbors, fit, seeds, recipe
        self.count, dimensions = rows.values.shape
        self.graph = neighbors.cpu().numpy()
        self.k = votes[0].k
        self.batch = min(recipe.batch_size, self.count)
        self.epoch = max(1, self.count // recipe.batch_size)
        device = rows.values.device

        def parameters(heads: int) -> list[Tensor]:
            shapes = (len(seeds), heads, self.k, dimensions), (len(seeds), heads, self.k)
            return [torch.zeros(shape, device=device).requires_grad_() for shape in shapes]

        self.phases = [parameters(len(votes)), parameters(min(recipe.heads, self.k))]
        self.optimizers = [adam(phase, recipe.learning_rate) for phase in self.phases]
        for head, vote in enumerate(votes):
            start = self._from_votes(vote)
            for seed in range(len(seeds)):
                self._set(self.phases[0], seed, head, start)
        self.buffers = {"chosen": torch.zeros(len(seeds), dtype=torch.int64, device=device)}
        self.watched = torch.from_numpy(watched(self.count)).to(device).expand(len(seeds), -1)
        self.current = 0
        self._orders = functools.lru_cache(1)(lambda epoch: orders(seeds, self.count, epoch).to(device))

    def step(self, step: int) -> Tensor:
        """Train one batch; see `Training`."""
        epoch, position = divmod(step, self.epoch)
        done, length = self._phase(epoch)
        self.current = 0 if epoch < self.recipe.epochs else 1
        if self.current == 1 and done == 0 and position == 0:
            self._begin_round(first=epoch == self.recipe.epochs)
        progress = (done * self.epoch + position) / (length * self.epoch)
        indices = self._orders(epoch)[:, position * self.batch : (position + 1) * self.batch]
        losses = self._descend(indices, step, progress)
        if done == length - 1 and position == self.epoch - 1:
            self._choose()
        return losses

    def _phase(self, epoch: int) -> tuple[int, int]:
        """Return how many epochs of its phase come before `epoch`, and how many epochs the phase has."""
        recipe = self.recipe
        if epoch < recipe.epochs:
            return epoch, recipe.epochs
        return (epoch - recipe.epochs) % recipe.round_epochs, recipe.round_epochs

    def _descend(self, indices: Tensor, step: int, progress: float) -> Tensor:
        """Take a step towards the same cluster for an image and its neighbor."""
        width = self.neighbors.shape[1]
        draw = functools.partial(torch.randint, max(1, width), (self.batch,))
        [columns] = draw_each(self.seeds, step, indices.device, draw)
        paired = self.neighbors[indices, columns] if width else indices
        parameters, optimizer = self.phases[self.current], self.optimizers[self.current]
        anchors, others = (linear_scores(parameters, self.rows[images]).softmax(2) for images in (indices, paired))
        losses = scan_loss(anchors, others, self.recipe.entropy_weight)
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * (1 - progress)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        return losses.detach().mean(dim=1)

    def _from_votes(self, votes: Votes) -> list[Tensor]:
        """Return weight [k, D] and bias [k] of a classifier that predicts the votes."""
        return [torch.from_numpy(array).float() * SHARPNESS for array in self.fit.weights(votes)]

    @torch.no_grad()
    def _set(self, parameters: Sequence[Tensor], seed: int, head: int, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(parameters, values):
            parameter[seed, head] = value.to(parameter.device)

    @torch.no_grad()
    def _begin_round(self, first: bool) -> None:
        """Go on with the classifier chosen last and with the votes that are one move away from its own."""
        chosen = self._chosen(self.phases[0 if first else 1])
        target = self.phases[1]
        self.optimizers[1].state.clear()
        for seed in range(len(self.seeds)):
            own = [parameter[seed : seed + 1] for parameter in chosen]
            first_best, second_best = self._best(own, min(2, self.k))[[0, -1], 0]
            moved = moves(first_best, second_best, self.k, self.fit.points, self.graph, target[0].shape[1] - 1)
            for head in range(target[0].shape[1]):
                values = [parameter[0, 0].clone() for parameter in own]
                if 0 < head <= len(moved):
                    values = self._from_votes(Votes.of(moved[head - 1], self.k))
                self._set(target, seed, head, values)
        self.buffers["chosen"].zero_()  # the first classifier is the one that was chosen before

    @torch.no_grad()
    def _choose(self) -> None:
        """Choose the classifier with the highest modularity for every seed."""
        for seed in range(len(self.seeds)):
            own = [parameter[seed : seed + 1] for parameter in self.phases[self.current]]
            self.buffers["chosen"][seed] = int(np.argmax([self._modularity(row) for row in self._best(own, 1)[0]]))

    def _modularity(self, assignments: npt.NDArray[np.integer]) -> float:
        return modularity(assignments, self.graph, self.k)

    def _chosen(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return weight [S, 1, k, D] and bias [S, 1, k] of the chosen classifiers."""
        seeds = torch.arange(len(self.seeds), device=self.watched.device)
        return [parameter.detach()[seeds, self.buffers["chosen"]].unsqueeze(1) for parameter in parameters]

    def _best(self, parameters: Sequence[Tensor], places: int) -> npt.NDArray[np.int32]:
        """Return the most probable clusters of all images by one seed's classifiers, best first, [places, H, N]."""
        found = np.empty((places, parameters[0].shape[1], self.count), np.int32)
        for block in torch.arange(self.count, device=self.watched.device).split(BLOCK):
            logits = linear_scores(parameters, self.rows[block.unsqueeze(0)])[0]
            best = logits.topk(places, dim=1).indices.transpose(0, 1)
            found[:, :, int(block[0]) : int(block[-1]) + 1] = best.cpu().numpy()
        return found

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Return the probabilities of the watched images by the classifier chosen last, [S, n, k]."""
        chosen = self._chosen(self.phases[self.current])
        return linear_scores(chosen, self.rows[self.watched])[:, 0].softmax(1).transpose(1, 2)

    @torch.no_grad()
    def results(self) -> list[tuple[Weights, float]]:
        """Return `weight` [k, D], `bias` [k] and the objective, the negative modularity, of every seed."""
        found = []
        weight, bias = self._chosen(self.phases[1 if self.recipe.rounds else 0])
        for seed in range(len(self.seeds)):
            [[assignments]] = self._best([weight[seed : seed + 1], bias[seed : seed + 1]], 1)
            objective = -self._modularity(assignments)
            found.append(({"weight": weight[seed, 0].cpu().numpy(), "bias": bias[seed, 0].cpu().numpy()}, objective))
        return found
