"""Base of the methods that train the backbone together with a linear layer to clusters."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.pretraining.engine.method import Epoch, ImageFacts, Method
from deepclust.pretraining.engine.monitors import cluster_record
from deepclust.pretraining.engine.native import NativeHead
from deepclust.pretraining.engine.options import PretrainingOptions


class Classifier(Method):
    """Backbone, a linear layer to k clusters, and the cluster of every image when it was last seen.

    Attributes:
        projector: layers before the linear one; none unless a method puts them there.
        normalize: whether the projector's outputs are scaled to length 1.
    """

    labels: Tensor
    epoch_labels: Tensor

    def __init__(self, options: PretrainingOptions, backbone: nn.Module, images: ImageFacts, clusters: int) -> None:
        super().__init__(options, backbone, images)
        self.clusters = clusters
        self.projector = nn.Sequential()
        self.normalize = False
        self.head = nn.Linear(backbone.feature_dim, clusters)  # type: ignore[arg-type]
        self.register_buffer("labels", torch.full((images.count,), -1, dtype=torch.int32))  # -1: not seen yet
        self.register_buffer("epoch_labels", torch.full((images.count,), -1, dtype=torch.int32))

    def logits(self, view: Tensor) -> Tensor:
        """Return the scores [B, k] of one view."""
        values: Tensor = self.projector(self.backbone(view))
        scores: Tensor = self.head(F.normalize(values, dim=1) if self.normalize else values)
        return scores

    def after_step(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> None:
        """Keep the clusters of the images by the first view."""
        self.labels[indices] = embeddings[0].argmax(1).int()

    def start_epoch(self, epoch: Epoch) -> None:
        """Keep the clusters at the start, to count the images that move."""
        self.epoch_labels.copy_(self.labels)

    def end_epoch(self, epoch: Epoch) -> dict[str, float]:
        """Return the sizes of clusters, and the share of images that stayed in theirs."""
        return cluster_record(self.labels, self.epoch_labels, self.head.out_features)

    def native_head(self) -> NativeHead:
        """Return the layers after the backbone."""
        return NativeHead(self.projector, self.head.weight, self.head.bias, self.normalize)

    def learning_rates(self, position: float) -> list[float]:
        """Return the learning rate, which is constant after a linear warm-up."""
        warmup = self.options.warmup_epochs
        return [self.options.learning_rate * (position / warmup if position < warmup else 1)]
