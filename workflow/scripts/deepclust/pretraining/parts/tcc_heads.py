"""Layers that TCC attaches to a backbone, from features to assignments, set vectors and embeddings."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.pretraining.parts.tcc_contrast import relaxed_sample, set_vectors

Condition = Literal["concatenate", "add"]


@dataclass(frozen=True)
class Twin:
    """View of a batch as the losses see it."""

    vectors: Tensor
    """Projections v of length 1, [B, D]."""
    log_assignments: Tensor
    """Logarithms of the assignments, log q(k|x), [B, K]."""
    sets: Tensor
    """Set vectors r of length 1, [K, D]."""
    embeddings: Tensor
    """Embeddings e of length 1, [B, D]."""


class Heads(nn.Module):
    """Projector, cluster keys, and the network for the embedding of an image.

    Attributes:
        projector: network from features to projections [B, D], whose directions are compared with those of the keys.
        keys: one row per cluster, [K, D].
        instance: network to [B, D], with `concatenate` from projection and assignment [B, D + K], with `add` from
            features.
    """

    def __init__(self, width: int, dim: int, clusters: int, condition: Condition) -> None:
        """Build the layers.

        Args:
            width: dimension of the features.
            dim: dimension of projections, keys and embeddings.
            clusters: number of clusters.
            condition: way in which an embedding is made of projection and assignment.
        """
        super().__init__()
        self.condition = condition
        # Projections are centred, or all images would start in the cluster that their mean points to.
        self.projector = _mlp(width, width, dim).append(nn.BatchNorm1d(dim, affine=False))
        self.keys = nn.Parameter(F.normalize(torch.randn(clusters, dim), dim=1))
        if condition == "concatenate":
            self.instance = _mlp(dim + clusters, dim, dim)
        else:
            # It is centred, or the own part becomes the same for all images, and only clusters would tell them apart.
            self.instance = _mlp(width, width, dim).append(nn.BatchNorm1d(dim, affine=False))

    def project(self, features: Tensor) -> list[Tensor]:
        """Return the projection of each image, and with `add` the image's own part, [B, D] each."""
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
        """Return assignments, set vectors and embeddings of a batch.

        Args:
            projected: outputs of `project` for all images of the batch.
            noise: Gumbel-distributed numbers [B, K]; None if the probabilities take the place of a sample.
            temperature: temperature of the assignments.
            gumbel_temperature: temperature of the sample.
            instance_weight: weight of the image's own part beside its cluster's key, with `add`.
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
