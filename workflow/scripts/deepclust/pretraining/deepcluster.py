"""DeepCluster: k-means on the network's features gives the labels it learns next (Caron et al. 2018, arXiv 1807.05520).

The defaults are the published setting for ImageNet with AlexNet, 10,000 clusters.

Departures: features are whitened by components of at most 131,072 images; a network without an activation to leave out
at its end (a ResNet) is clustered on its pooled features; whitened features are float16; images that fill no batch are
not seen; networks compute in bf16.
"""

import time
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.core.seeding import derive_seed
from deepclust.models.plain_networks import dropouts
from deepclust.pretraining.engine.method import Epoch, ImageFacts, Method
from deepclust.pretraining.engine.monitors import cluster_record, common_information
from deepclust.pretraining.engine.options import Architecture, AugmentationOptions, PretrainingOptions
from deepclust.pretraining.parts.cluster_sampling import uniform_order
from deepclust.pretraining.parts.power_iteration import power_iteration_clusters
from deepclust.pretraining.parts.streamed_kmeans import kmeans
from deepclust.pretraining.parts.whitening import whitened_features
from deepclust.pretraining.views.base import for_each_image

TOP_STD = 0.01  # standard deviation of the top layer's fresh weights


class Options(PretrainingOptions):
    """Options of DeepCluster."""

    clusters: int = Field(10_000, ge=2)
    """Number of clusters: many more than there are classes, and some hundred images for each."""
    clustering: Literal["kmeans", "pic"] = "kmeans"
    """Clustering: k-means, or power iteration clustering. The latter finds the number of clusters itself; the largest
    `clusters` of them are learned."""
    iterations: int = Field(20, ge=1)
    """Number of iterations of k-means."""
    components: int = Field(256, ge=1)
    """Number of principal components of the features that are clustered."""
    reassign_every: int = Field(1, ge=1)
    """Number of epochs from one clustering to the next."""
    top_learning_rate: float = Field(0.05, gt=0)
    """Learning rate of the layer from features to clusters, which starts anew after each clustering."""
    architecture: Architecture = "alexnet_bn"
    """Network. AlexNet and VGG-16 are made for images of 224 pixels."""
    sobel: bool = True
    """Show the network the edges of the grey image (Sobel's filters) instead of its colours."""
    augmentation: AugmentationOptions = AugmentationOptions(
        crop_scale=(0.08, 1.0), jitter_probability=0.0, grayscale_probability=0.0
    )
    """Augmentation of the view of an image; published: crop and flip only."""
    epochs: int = Field(500, ge=1)
    """Passes over as many images as there are."""
    batch_size: int = Field(256, ge=2)
    """Images per step; those left over at the end of an epoch are not seen in it."""
    learning_rate: float = Field(0.05, gt=0)
    """Learning rate of the network; it stays the same."""
    warmup_epochs: float = Field(0, ge=0)
    """Not used: the learning rates stay the same."""
    weight_decay: float = Field(1e-5, ge=0)
    """Weight decay, on all parameters."""


class DeepCluster(Method):
    """Backbone, a linear layer on top that starts anew in every epoch, and the cluster of every image."""

    options: Options
    labels: Tensor
    labels_before: Tensor

    def __init__(self, options: Options, backbone: nn.Module, images: ImageFacts) -> None:
        """Attach the top layer and the clusters.

        Raises:
            DeepclustError: there are fewer images than clusters.
        """
        super().__init__(options, backbone, images)
        images.check_clusters(options.clusters)
        self.top = nn.Linear(backbone.feature_dim, options.clusters)  # type: ignore[arg-type]
        self.augment = images.augmentation(options.augmentation)
        self.dropouts = dropouts(backbone)
        self.register_buffer("labels", torch.full((images.count,), -1, dtype=torch.int32))  # -1: none
        self.register_buffer("labels_before", torch.full((images.count,), -1, dtype=torch.int32))

    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Draw one view of each image, then the mask of each dropout layer of the network, uint8 [B, width]."""
        generator = torch.Generator(images.device).manual_seed(derive_seed(seed, "dropout"))
        kept = [for_each_image(partial(layer.draw, generator=generator), len(images)) for layer in self.dropouts]
        return [self.augment(images, seed), *kept]

    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the scores of all clusters, [B, k]."""
        view, *kept = views
        for layer, draws in zip(self.dropouts, kept):
            layer.kept = draws
        return (self.top(F.relu(self.backbone(view))),)

    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy with the clusters of this epoch, and the share of images predicted correctly."""
        (logits,), labels = embeddings, self.labels[indices].long()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": F.cross_entropy(logits, labels), "accuracy": accuracy}

    def order(self, count: int, seed: int) -> Tensor:
        """Draw all clusters equally often."""
        return uniform_order(self.labels.cpu(), count, seed)

    def start_epoch(self, epoch: Epoch) -> None:
        """Cluster the features of all images and start the top layer anew."""
        if epoch.number % self.options.reassign_every == 0:
            labels = self._cluster(epoch)
            self.labels_before.copy_(self.labels)
            self.labels.copy_(labels)
            generator = torch.Generator().manual_seed(derive_seed(epoch.seed, "top"))
            fresh = torch.empty(self.top.weight.shape).normal_(std=TOP_STD, generator=generator)
            with torch.no_grad():
                self.top.weight.copy_(fresh)
                self.top.bias.zero_()
            epoch.forget(self.top.parameters())

    def _cluster(self, epoch: Epoch) -> Tensor:
        """Cluster all images by their features, int32 [N] on the CPU."""
        options, device, started = self.options, self.labels.device, time.perf_counter()
        team, count = epoch.team, len(self.labels)
        sample_seed, seed = (derive_seed(epoch.seed, purpose) for purpose in ("sample", "kmeans"))
        rows = whitened_features(epoch.features, count, options.components, sample_seed, device, team)
        reduced = time.perf_counter()
        if options.clustering == "pic":
            # Values flow between any two images, so processes do not share this work.
            (whole,) = team.all_gather((rows,), count)
            labels = power_iteration_clusters(whole, options.clusters, device, team)
        else:
            labels = kmeans(rows, options.clusters, options.iterations, seed, device, team=team).labels
        clustered = time.perf_counter()
        print(f"features in {reduced - started:.1f} s, clusters in {clustered - reduced:.1f} s", flush=True)
        return labels

    def end_epoch(self, epoch: Epoch) -> dict[str, float]:
        """Return the sizes of the clusters, and how much they have in common with those before (0: nothing, 1: all)."""
        record = cluster_record(self.labels, torch.full_like(self.labels, -1), self.options.clusters)
        return record | common_information(self.labels_before, self.labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the network's parameters, then those of the top layer, which has no momentum."""
        return [{"params": list(self.backbone.parameters())}, {"params": list(self.top.parameters()), "momentum": 0.0}]

    def learning_rates(self, position: float) -> list[float]:
        """Return the learning rates, which are constant."""
        return [self.options.learning_rate, self.options.top_learning_rate]


METHOD = DeepCluster
