"""What TCC attaches to a backbone, from features to assignments, set vectors and embeddings."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.pretraining.parts.tcc_contrast import relaxed_sample, set_vectors

Condition = Literal["concatenate", "add"]


@dataclass(frozen=True)
class Twin:
    """One view of a batch as the losses see it."""

    vectors: Tensor
    """v, of length 1: [B, D]."""
    log_assignments: Tensor
    """log q(k|x): [B, K]."""
    sets: Tensor
    """r, of length 1: [K, D]."""
    embeddings: Tensor
    """e, of length 1: [B, D]."""


class Heads(nn.Module):
    """Projector, cluster keys, and what makes the embedding of an image from its projection and its assignment.

    Attributes:
        projector: features to projections [B, D], whose directions are compared with those of the keys.
        keys: one row per cluster, [K, D].
        instance: with `concatenate` from projection and assignment [B, D + K], with `add` from features, to [B, D].
    """

    def __init__(self, width: int, dim: int, clusters: int, condition: Condition) -> None:
        """Args: `width` of the features, `dim` of projections, keys and embeddings."""
        super().__init__()
        self.condition = condition
        # Centred, or all images would start in the cluster that the projections' mean points to.
        self.projector = _mlp(width, width, dim).append(nn.BatchNorm1d(dim, affine=False))
        self.keys = nn.Parameter(F.normalize(torch.randn(clusters, dim), dim=1))
        if condition == "concatenate":
            self.instance = _mlp(dim + clusters, dim, dim)
        else:
            # Centred, or the own part becomes the same for all images, and their clusters must tell them apart.
            self.instance = _mlp(width, width, dim).append(nn.BatchNorm1d(dim, affine=False))

    def project(self, features: Tensor) -> list[Tensor]:
        """What the network gives for each image: the projection, and with `add` the image's own part: [B, D] each."""
        layers = [self.projector] if self.condition == "concatenate" else [self.projector, self.instance]
        return [layer(features) for layer in layers]

    def twin(
        self,
        projected: tuple[Tensor, ...],
        noise: Tensor | None,
        temperature: float,
        gumbel_temperature: Tensor,
        instance_weight: float,
    ) -> Twin:
        """Assignments, set vectors and embeddings of a batch.

        Args:
            projected: from `project`, for all images of the batch.
            noise: Gumbel-distributed [B, K]; None: the probabilities themselves take the sample's place.
            temperature: of the assignments.
            gumbel_temperature: of the sample.
            instance_weight: with `add`, the weight of the image's own part beside its cluster's key.
        """
        vectors, keys = F.normalize(projected[0], dim=1), F.normalize(self.keys, dim=1)
        log_assignments = F.log_softmax(vectors @ keys.T / temperature, dim=1)
        assignments = log_assignments.exp()
        sample = assignments if noise is None else relaxed_sample(log_assignments, noise, gumbel_temperature)
        if self.condition == "concatenate":
            embeddings = self.instance(torch.cat([vectors, sample], dim=1))
        else:
            embeddings = F.normalize(sample @ keys, dim=1) + instance_weight * F.normalize(projected[1], dim=1)
        return Twin(vectors, log_assignments, set_vectors(assignments, vectors), F.normalize(embeddings, dim=1))


def _mlp(width: int, hidden: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim))
