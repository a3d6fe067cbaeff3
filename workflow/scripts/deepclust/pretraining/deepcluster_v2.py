"""DeepCluster-v2: the centroids of the embeddings are the last layer (Caron et al. 2020, arXiv 2006.09882, section 4).

The embeddings of the epoch before, kept in banks, are clustered by spherical k-means, once per head. The centroids are
the prototypes that a view's embedding is compared with; they are not trained. The defaults are solo-learn's setting for
CIFAR (da Costa et al. 2022).

Departures: the first banks hold embeddings of images without augmentation, so both are the same: features by the
network in evaluation mode, projections normalised over many images. Images left over at the end of an epoch keep their
embeddings and have a label in the next epoch; in solo-learn they lose it. Banks are kept in float16, and networks
compute in bf16.
"""

import copy
import math
import time

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.core.seeding import derive_seed
from deepclust.pretraining.engine.method import Epoch, ImageFacts, Method
from deepclust.pretraining.engine.monitors import cluster_record, common_information
from deepclust.pretraining.engine.optimization import cosine_schedule
from deepclust.pretraining.engine.options import AugmentationOptions, Optimizer, PretrainingOptions, SmallCropOptions
from deepclust.pretraining.parts.streamed_kmeans import kmeans
from deepclust.pretraining.views.multi_crop import MultiCrop, embed_by_size

BANKS = 2  # one for each view of the usual size
CHUNK = 2**14  # images whose features are held at once to fill the banks


class Options(PretrainingOptions):
    """Options of DeepCluster-v2."""

    clusters: int = Field(3000, ge=2)
    """Number of prototypes of each head."""
    heads: int = Field(3, ge=1)
    """Number of heads, each of which learns a clustering of one of the two banks."""
    iterations: int = Field(10, ge=1)
    """Number of iterations of k-means."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the loss."""
    projection_hidden: int = Field(2048, ge=1)
    """Width of the projector's hidden layer."""
    projection_dim: int = Field(128, ge=2)
    """Dimension of the embeddings and prototypes."""
    small_crops: SmallCropOptions = SmallCropOptions()
    """Additional small views."""
    augmentation: AugmentationOptions = AugmentationOptions(
        crop_scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_probability=0.5
    )
    """Augmentation of the views of an image."""
    epochs: int = Field(1000, ge=1)
    """Passes over the images."""
    batch_size: int = Field(256, ge=2)
    """Images per step; those left over at the end of an epoch keep their place in the banks."""
    optimizer: Optimizer = "larc"
    """Optimizer. LARS is SGD with momentum and steps scaled per layer, for large batches. LARC is LARS whose steps are
    never longer than those of SGD."""
    learning_rate: float = Field(0.6, gt=0)
    """Highest learning rate; it falls along a half cosine."""
    first_learning_rate: float = Field(0.0, ge=0)
    """Learning rate that the rise starts from."""
    last_learning_rate: float = Field(6e-4, ge=0)
    """Learning rate that the fall ends at."""
    weight_decay: float = Field(1e-6, ge=0)
    """Weight decay, on all parameters."""
    trust: float = Field(0.02, gt=0)
    """Length of a layer's step relative to that of its weights, at learning rate 1; of LARS and LARC."""
    warmup_epochs: float = Field(11, ge=0)
    """Epochs over which the learning rate first rises."""


class DeepClusterV2(Method):
    """Backbone, projector, the banks of embeddings, and the prototypes and labels of every head."""

    options: Options
    bank: Tensor
    prototypes: Tensor
    labels: Tensor
    labels_before: Tensor

    def __init__(self, options: Options, backbone: nn.Module, images: ImageFacts) -> None:
        """Attach the projector, the banks and the prototypes.

        Raises:
            DeepclustError: there are fewer images than clusters.
        """
        super().__init__(options, backbone, images)
        images.check_clusters(options.clusters)
        width: int = backbone.feature_dim  # type: ignore[assignment]
        hidden, dim = options.projection_hidden, options.projection_dim
        layers = [nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim)]
        self.projector = nn.Sequential(*layers)
        self.multi_crop = MultiCrop(images, options.augmentation, options.small_crops, BANKS)
        heads, count, clusters = options.heads, images.count, options.clusters
        self.register_buffer("bank", torch.zeros(BANKS, count, dim, dtype=torch.float16))
        self.register_buffer("prototypes", torch.zeros(heads, clusters, dim))
        self.register_buffer("labels", torch.full((heads, count), -1, dtype=torch.int32))  # -1: none yet
        self.register_buffer("labels_before", torch.full((count,), -1, dtype=torch.int32))  # labels of the first head

    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Draw two views of each image, then the small ones."""
        views: list[Tensor] = self.multi_crop(images, seed)
        return views

    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the embeddings of every view, each [B, projection_dim], of length 1 up to rounding."""
        features = torch.cat(embed_by_size(self.backbone, views))
        return F.normalize(self.projector(features), dim=1).chunk(len(views))

    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of all views with the image's clusters, averaged over heads."""
        values = F.normalize(torch.cat(embeddings), dim=1)
        labels = self.labels[:, indices].long().repeat(1, len(embeddings))  # [heads, views * B]
        logits = torch.einsum("nd,hkd->hkn", values, self.prototypes) / self.options.temperature
        first, count = embeddings[0].detach(), len(indices)
        return {
            "loss": F.cross_entropy(logits, labels),
            "accuracy": (logits[0, :, :count].detach().argmax(0) == labels[0, :count]).float().mean(),
            "projection_std": first.std(0).mean() * math.sqrt(first.shape[1]),
        }

    def after_step(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> None:
        """Keep the embeddings of the views of the usual size for the next clustering."""
        self.bank[:, indices] = F.normalize(torch.stack(embeddings[:BANKS]), dim=2).to(self.bank.dtype)

    def start_epoch(self, epoch: Epoch) -> None:
        """Cluster the banks, once per head, and take the centroids for prototypes."""
        if epoch.number == 0:
            self._fill(epoch)
        started = time.perf_counter()
        device, own = self.bank.device, slice(*epoch.team.bounds(self.bank.shape[1]))
        banks = self.bank[:, own].cpu()
        options, found = self.options, []
        for head in range(options.heads):
            rows, seed = banks[head % BANKS], derive_seed(epoch.seed, "head", head)
            found.append(
                kmeans(rows, options.clusters, options.iterations, seed, device, spherical=True, team=epoch.team)
            )
        self.labels_before.copy_(self.labels[0])
        for labels, prototypes, clusters in zip(self.labels, self.prototypes, found):
            labels.copy_(clusters.labels)
            prototypes.copy_(clusters.centroids)
        print(f"clusters of all heads in {time.perf_counter() - started:.1f} s", flush=True)

    @torch.no_grad()
    def _fill(self, epoch: Epoch) -> None:
        """Fill both banks from the features of all images; every process computes its part of each chunk.

        The projector normalises over a chunk, because it has no statistics yet, and without any all projections of a
        network that has not learned point the same way. Its statistics are restored at the end, so that filling again,
        after a signal, changes nothing.
        """
        count, statistics = self.bank.shape[1], copy.deepcopy(self.projector.state_dict())
        size = CHUNK - (count % CHUNK == 1)  # one image has no spread to divide by
        try:
            for indices, target in zip(torch.arange(count).split(size), self.bank.split(size, dim=1)):
                epoch.team.end_if_asked()
                own = indices[slice(*epoch.team.bounds(len(indices)))]
                (features,) = epoch.team.all_gather((epoch.features(own),), len(indices))
                self.projector.train()
                target.copy_(F.normalize(self.projector(features.to(target.device)), dim=1))
        finally:
            self.projector.load_state_dict(statistics)

    def end_epoch(self, epoch: Epoch) -> dict[str, float]:
        """Return the sizes of the first head's clusters, and how much they have in common with those before."""
        labels = self.labels[0]
        record = cluster_record(labels, torch.full_like(labels, -1), self.options.clusters)
        return record | common_information(self.labels_before, labels)

    def learning_rates(self, position: float) -> list[float]:
        """Return the learning rate: a linear rise, then half a cosine, between the given rates."""
        options = self.options
        if position < options.warmup_epochs:
            low, share = options.first_learning_rate, position / options.warmup_epochs
        else:
            low = options.last_learning_rate
            share = cosine_schedule(position, options.epochs, options.warmup_epochs)
        return [low + (options.learning_rate - low) * share]


METHOD = DeepClusterV2
