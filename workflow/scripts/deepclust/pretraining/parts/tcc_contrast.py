"""Contrasts of TCC (Shen et al., NeurIPS 2021), their queues, and the divergence between assignments."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Queue(nn.Module):
    """Queue of the vectors that were pushed last, in which the next vector replaces the oldest."""

    rows: Tensor
    pushed: Tensor

    def __init__(self, length: int, dim: int) -> None:
        """Make an empty queue of `length` rows of `dim` numbers; with 0 rows it keeps nothing."""
        super().__init__()
        self.register_buffer("rows", torch.zeros(length, dim))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))  # vector n goes to row n mod length

    def push(self, vectors: Tensor) -> None:
        """Keep `vectors` [n, D], or the last of them if not all fit."""
        length = len(self.rows)
        kept = vectors[max(0, len(vectors) - length) :]
        if length > 0:
            first = self.pushed + len(vectors) - len(kept)
            places = (first + torch.arange(len(kept), device=vectors.device)) % length
            self.rows.index_copy_(0, places, kept)
        self.pushed += len(vectors)

    def empty(self) -> Tensor:
        """Return which rows hold nothing yet, bool [length]."""
        return torch.arange(len(self.rows), device=self.rows.device) >= self.pushed


def set_vectors(assignments: Tensor, vectors: Tensor) -> Tensor:
    """Return one vector r_k of length 1 per cluster: the direction of the sum of vectors weighted by assignments.

    Args:
        assignments: probabilities [B, K].
        vectors: [B, D].

    Returns:
        [K, D].
    """
    return F.normalize(assignments.T @ vectors, dim=1)


def cluster_contrast(own: Tensor, other: Tensor, queue: Queue, temperature: float) -> Tensor:
    """Return the contrast of set vectors: each attracts its twin and repels other clusters', now and in the past.

    -(1/K) sum_k log(e^{r_k·r'_k/t} / (e^{r_k·r'_k/t} + sum_{j≠k} e^{r_k·r_j/t} + sum_{p of j≠k} e^{r_k·p/t}))

    Args:
        own: set vectors [K, D] of one view.
        other: set vectors [K, D] of the other view.
        queue: past set vectors; row i is of cluster i mod K.
    """
    clusters = torch.arange(len(own), device=own.device)
    itself = clusters.unsqueeze(1) == clusters
    now = torch.where(itself, own @ other.T, own @ own.T)
    classes = torch.arange(len(queue.rows), device=own.device) % len(own)
    left_out = queue.empty() | (clusters.unsqueeze(1) == classes)
    past = (own @ queue.rows.T).masked_fill(left_out, -torch.inf)
    return F.cross_entropy(torch.cat([now, past], dim=1) / temperature, clusters)


def membership_contrast(own: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return the contrast of clusters of Contrastive Clustering (Li et al. 2021).

    Each cluster's members attract the same images' assignments in the other view and repel other clusters' members.
    With m_k the column of cluster k in the assignments, scaled to length 1, it is

    -(1/K) sum_k log(e^{m_k·m'_k/t} / (e^{m_k·m'_k/t} + sum_{j≠k} e^{m_k·m_j/t} + sum_{j≠k} e^{m_k·m'_j/t}))

    Args:
        own: probabilities [B, K] of one view.
        other: probabilities [B, K] of the other view of the same images.
    """
    members, twins = F.normalize(own, dim=0).T, F.normalize(other, dim=0).T
    clusters = torch.arange(len(members), device=own.device)
    others = (members @ members.T).masked_fill(clusters.unsqueeze(1) == clusters, -torch.inf)
    return F.cross_entropy(torch.cat([members @ twins.T, others], dim=1) / temperature, clusters)


def instance_contrast(own: Tensor, other: Tensor, queue: Queue, temperature: float) -> Tensor:
    """Return InfoNCE: each embedding attracts its twin and repels other images', in the batch and in the past.

    -(1/B) sum_i log(e^{e_i·e'_i/t} / (sum_j e^{e_i·e'_j/t} + sum_p e^{e_i·p/t}))

    Args:
        own: embeddings [B, D] of one view.
        other: embeddings [B, D] of the other view.
        queue: embeddings of past images.
    """
    past = (own @ queue.rows.T).masked_fill(queue.empty(), -torch.inf)
    logits = torch.cat([own @ other.T, past], dim=1) / temperature
    return F.cross_entropy(logits, torch.arange(len(own), device=own.device))


def divergence(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return the mean over images of KL(q || p) = sum_k q_k (log q_k - log p_k).

    Args:
        log_q, log_p: logarithms of probabilities [B, K].
    """
    return (log_q.exp() * (log_q - log_p)).sum(1).mean()


def imbalance(log_assignments: Tensor) -> Tensor:
    """Return log K - H(mean assignment), which is 0 if all clusters are equally large.

    Args:
        log_assignments: logarithms of probabilities [B, K].
    """
    mean = log_assignments.exp().mean(0)
    # `entr` has an infinite slope at 0, which is reached if a low temperature leaves a cluster without images.
    return math.log(len(mean)) + torch.xlogy(mean, mean.clamp(min=torch.finfo(mean.dtype).tiny)).sum()


def gumbel(uniform: Tensor) -> Tensor:
    """Return Gumbel-distributed numbers -log(-log u) from uniform ones u in [0, 1)."""
    tiny = torch.finfo(uniform.dtype).tiny
    return -torch.log(-torch.log(uniform.clamp(tiny, 1 - torch.finfo(uniform.dtype).eps)))


def relaxed_sample(log_probabilities: Tensor, noise: Tensor, temperature: Tensor) -> Tensor:
    """Draw from the Gumbel-softmax distribution (Jang et al. 2017, Maddison et al. 2017).

    Args:
        log_probabilities: [B, K].
        noise: Gumbel-distributed numbers [B, K].
        temperature: the lower it is, the closer a draw is to one cluster alone.

    Returns:
        [B, K], summing to 1 over clusters.
    """
    return F.softmax((log_probabilities + noise) / temperature, dim=1)
