"""TCC: twin-contrast clustering (Shen et al., You Never Cluster Alone, NeurIPS 2021, arXiv 2106.01908).

Images belong to clusters by the softmax of their projections' products with the clusters' keys. Clusters contrast with
each other through the weighted sums of their images or, by default, through the images themselves (Li et al.,
Contrastive Clustering, AAAI 2021). Images contrast with each other through embeddings that contain a draw of their
cluster. The divergence between both views' assignments makes this contrast a lower bound of the likelihood without
clusters.

This is a reconstruction: docs/methods.md says what is published, what is not, and how the rest was chosen.
"""

import copy
import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.core.seeding import derive_seed
from deepclust.pretraining.engine.method import Epoch, ImageFacts, Method
from deepclust.pretraining.engine.monitors import cluster_record
from deepclust.pretraining.engine.native import NativeHead
from deepclust.pretraining.engine.options import (
    Architecture,
    AugmentationOptions,
    MethodFacts,
    Optimizer,
    PretrainingOptions,
    Probability,
)
from deepclust.pretraining.parts.tcc_contrast import (
    Queue,
    cluster_contrast,
    divergence,
    gumbel,
    imbalance,
    instance_contrast,
    membership_contrast,
)
from deepclust.pretraining.parts.tcc_heads import Condition, Heads, Twin
from deepclust.pretraining.views.base import for_each_image

FACTS = MethodFacts(native_k="clusters")

Temperature = Annotated[float, Field(gt=0)]


class Options(PretrainingOptions):
    """Options of TCC."""

    clusters: int = Field(ge=2)
    """Number of clusters K."""
    projection_dim: int = Field(128, ge=2)
    """Dimension of projections, cluster keys, set vectors and embeddings."""
    cluster_weight: Probability = 0.5
    """Weight of the contrast of clusters; the rest is that of the bound on the images' likelihood."""
    membership_weight: Probability = 1.0
    """Share of the contrast of clusters that compares their images in the batch. The rest compares their set vectors,
    as published."""
    membership_temperature: Temperature = 1.0
    """Temperature of the contrast of memberships; counts only with `membership_weight` above 0."""
    kl_weight: float = Field(0.1, ge=0)
    """Weight in that bound of the divergence between both views' assignments; 1 gives the bound itself."""
    assignment_temperature: Temperature = 0.1
    """Temperature of the assignments; projections and keys have length 1."""
    sampling: Literal["gumbel", "soft"] = "soft"
    """Part of an embedding that tells the cluster: a draw (Gumbel-softmax), or the probabilities themselves."""
    gumbel_temperature: tuple[Temperature, Temperature] = (0.3, 0.3)
    """Temperature of the draws in the first and in the last epoch; in between it changes by the same factor."""
    condition: Condition = "add"
    """Construction of an embedding. `concatenate`: a network on projection and draw. `add`: the drawn key plus the
    image's own part."""
    instance_weight: float = Field(1.0, gt=0)
    """Weight of the image's own part with `add`; the key has weight 1."""
    instance_temperature: Temperature = 0.2
    """Temperature of the contrast of images."""
    instance_queue: int = Field(4096, ge=0)
    """Number of past images that are repelled beside those of the batch."""
    cluster_temperature: Temperature = 1.0
    """Temperature of the contrast of set vectors; counts only with `membership_weight` below 1."""
    cluster_queue: int = Field(20, ge=0)
    """Number of past steps whose set vectors are repelled beside those of the batch. It counts only with
    `membership_weight` below 1."""
    teacher_momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum of a moving average of the network, which second views go through without gradient. With 0 they go
    through the network itself."""
    balance_weight: float = Field(1.0, ge=0)
    """Weight of the difference in entropy between clusters of equal size and a batch's mean assignment."""
    augmentation: AugmentationOptions = AugmentationOptions()
    """Augmentation of the views of an image."""
    architecture: Architecture = "resnet34"
    """Network. AlexNet and VGG-16 are made for images of 224 pixels; their dropout is active in deepcluster only."""
    epochs: int = Field(1000, ge=1)
    """Passes over the images."""
    batch_size: int = Field(512, ge=2)
    """Images per step, many times as many as clusters; those left over wait for another epoch's order."""
    optimizer: Optimizer = "adam"
    """Optimizer. LARS is SGD with momentum and steps scaled per layer, for large batches. LARC is LARS whose steps are
    never longer than those of SGD."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate; it falls to 0 along a half cosine."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay, on all parameters."""


class TCC(Method):
    """Backbone and heads, moving averages of both if there is a teacher, queues, and the images' clusters.

    Attributes:
        labels: most probable cluster of each image when it was seen last, int32 [N]; -1 if it was not seen yet.
    """

    options: Options
    labels: Tensor
    epoch_labels: Tensor
    gumbel_temperature: Tensor

    def __init__(self, options: Options, backbone: nn.Module, images: ImageFacts) -> None:
        super().__init__(options, backbone, images)
        width: int = backbone.feature_dim  # type: ignore[assignment]
        dim, clusters = options.projection_dim, options.clusters
        self.heads = Heads(width, dim, clusters, options.condition)
        self.teacher: nn.ModuleList | None = None
        if options.teacher_momentum > 0:
            self.teacher = nn.ModuleList([copy.deepcopy(backbone), copy.deepcopy(self.heads)]).requires_grad_(False)
        self.clusters_seen = Queue(options.cluster_queue * clusters, dim)
        self.images_seen = Queue(options.instance_queue, dim)
        self.register_buffer("labels", torch.full((images.count,), -1, dtype=torch.int32))
        self.register_buffer("epoch_labels", self.labels.clone())  # at the epoch's start
        self.register_buffer("gumbel_temperature", torch.tensor(options.gumbel_temperature[0]))
        self.augment = images.augmentation(options.augmentation)
        self._left: tuple[Tensor, Tensor, Tensor] | None = None

    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Draw two views of each image, and Gumbel noise for both, [B, 2, K], if assignments are drawn."""
        views = [self.augment(images, derive_seed(seed, view)) for view in range(2)]
        if self.options.sampling == "soft":
            return views
        shape, device = (2, self.options.clusters), images.device
        generator = torch.Generator(device).manual_seed(derive_seed(seed, "gumbel"))
        uniform = for_each_image(lambda n: torch.rand(n, *shape, generator=generator, device=device), len(images))
        return [*views, gumbel(uniform)]

    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs of `Heads.project` for the first view, then for the second, [B, D] each, then the noise.

        Both views go through batch normalisation together, unless the second has a teacher.
        """
        first, second, *noise = views
        if self.teacher is None:
            both = [outputs.chunk(2) for outputs in self.heads.project(self.backbone(torch.cat([first, second])))]
            return (*(pair[0] for pair in both), *(pair[1] for pair in both), *noise)
        with torch.no_grad():
            backbone, heads = self.teacher
            seconds = heads.project(backbone(second))  # type: ignore[operator]
        return (*self.heads.project(self.backbone(first)), *seconds, *noise)

    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """Return both contrasts and the divergence, in both directions unless there is a teacher as the target."""
        options = self.options
        first, second = self._twins(embeddings)
        directions = [(first, second)] if self.teacher is not None else [(first, second), (second, first)]
        terms = [self._terms(own, other) for own, other in directions]
        cluster_loss, instance_loss, kl, uneven = (torch.stack(values).mean() for values in zip(*terms))
        bound = instance_loss + options.kl_weight * kl
        contrasts = options.cluster_weight * cluster_loss + (1 - options.cluster_weight) * bound
        assignments = 0.5 * (first.log_assignments.detach().exp() + second.log_assignments.detach().exp())
        surest, labels = assignments.max(1)
        # `after_step` keeps them.
        self._left = labels.int(), second.sets.detach(), second.embeddings.detach()
        return {
            "loss": contrasts + options.balance_weight * uneven,
            "cluster_loss": cluster_loss,
            "instance_loss": instance_loss,
            "kl": kl,
            "imbalance": uneven,
            "mean_max_probability": surest.mean(),
            "assignment_contrast": (options.clusters * surest.mean() - 1) / (options.clusters - 1),
            "projection_std": first.vectors.detach().std(0).mean() * math.sqrt(options.projection_dim),
        }

    def _twins(self, embeddings: tuple[Tensor, ...]) -> list[Twin]:
        options = self.options
        noise: list[Tensor | None] = [None, None]
        if options.sampling == "gumbel":
            *rest, drawn = embeddings
            embeddings, noise = tuple(rest), list(drawn.unbind(1))
        half = len(embeddings) // 2
        students: Heads = self.heads
        seconds = students if self.teacher is None else self.teacher[1]
        return [
            heads.twin(  # type: ignore[operator]
                outputs, drawn, options.assignment_temperature, self.gumbel_temperature, options.instance_weight
            )
            for heads, outputs, drawn in zip((students, seconds), (embeddings[:half], embeddings[half:]), noise)
        ]

    def _terms(self, own: Twin, other: Twin) -> tuple[Tensor, ...]:
        options = self.options
        return (
            self._cluster_contrast(own, other),
            instance_contrast(own.embeddings, other.embeddings, self.images_seen, options.instance_temperature),
            divergence(own.log_assignments, other.log_assignments),
            imbalance(own.log_assignments),
        )

    def _cluster_contrast(self, own: Twin, other: Twin) -> Tensor:
        """Return the contrast of memberships plus that of set vectors, each only if it counts."""
        options = self.options
        share, total = options.membership_weight, own.sets.new_zeros(())
        if share > 0:
            assignments = own.log_assignments.exp(), other.log_assignments.exp()
            total = total + share * membership_contrast(*assignments, options.membership_temperature)
        if share < 1:
            sets = cluster_contrast(own.sets, other.sets, self.clusters_seen, options.cluster_temperature)
            total = total + (1 - share) * sets
        return total

    def after_step(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> None:
        """Keep the images' clusters, queue the vectors of the second views, and let the teacher follow."""
        assert self._left is not None
        labels, sets, images = self._left
        self.labels[indices] = labels
        self.clusters_seen.push(sets)
        self.images_seen.push(images)
        if self.teacher is not None:
            followed: list[Tensor] = [*self.backbone.parameters(), *self.heads.parameters()]
            torch._foreach_lerp_(list(self.teacher.parameters()), followed, 1 - self.options.teacher_momentum)

    def start_epoch(self, epoch: Epoch) -> None:
        """Set the temperature of the draws, and keep the clusters at the start."""
        start, end = self.options.gumbel_temperature
        self.gumbel_temperature.fill_(start * (end / start) ** (epoch.number / max(1, self.options.epochs - 1)))
        self.epoch_labels.copy_(self.labels)

    def end_epoch(self, epoch: Epoch) -> dict[str, float]:
        """Return the sizes of the clusters, and the share of images that stayed in theirs."""
        record = cluster_record(self.labels, self.epoch_labels, self.options.clusters)
        return record | {"gumbel_temperature": self.gumbel_temperature.item()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return all parameters that are learned; those of a teacher are not."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def native_head(self) -> NativeHead:
        """Return the projector and the keys."""
        keys = F.normalize(self.heads.keys, dim=1) / self.options.assignment_temperature
        return NativeHead(self.heads.projector, keys, torch.zeros(len(keys)), normalize=True)


METHOD = TCC
