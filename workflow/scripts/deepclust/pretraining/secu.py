"""SeCu: stable cluster discrimination in one stage (Qian, ICCV 2023, arXiv 2311.14310).

Images are told apart by cluster: several sets of centres, from K to heads * K, are learned together with the backbone.
The centre of an absent cluster gets no gradient. The backbone learns from the labels and centres of the epoch before.
The defaults are the published setting for CIFAR-10.

Departures: networks compute in bf16 and losses in float32, instead of float16 under a gradient scaler. Images left over
at the end of an epoch wait for the next one, and an image without a label yet takes its new one, as all do in epoch 0.
The rise of the network's learning rate begins at 0; in the authors' code it begins at that of the second step.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from deepclust.core.options import Options as BaseOptions
from deepclust.core.seeding import derive_seed
from deepclust.pretraining.engine.method import Epoch, ImageFacts, Method
from deepclust.pretraining.engine.monitors import cluster_record
from deepclust.pretraining.engine.native import NativeHead
from deepclust.pretraining.engine.optimization import cosine_schedule
from deepclust.pretraining.engine.options import AugmentationOptions, MethodFacts, PretrainingOptions, Probability

FACTS = MethodFacts(native_k="clusters")

FROZEN_EPOCHS = 1  # epochs in which centres and labels are found while the network stays as it is
ABSENT = -1e9  # score of the clusters that a smaller head does not have


class SecondViewOptions(BaseOptions):
    """Options of the second view that differ from those of the first."""

    blur_probability: Probability = 0.1
    """Probability of a Gaussian blur."""
    solarize_probability: Probability = 0.2
    """Probability that all values in the upper half of the range are inverted."""


class Options(PretrainingOptions):
    """Options of SeCu."""

    clusters: int = Field(ge=2)
    """Number of clusters K of the first head, which the head `native` predicts with."""
    heads: int = Field(10, ge=1)
    """Number of sets of centres; they have K, 2K, ... clusters."""
    projection_dim: int = Field(128, ge=2)
    """Dimension of the projections and centres."""
    predictor: bool = False
    """Use the published ImageNet setting: a deeper projector, and a predictor whose outputs count too."""
    temperature: float = Field(0.05, gt=0)
    """Temperature of the loss of the representation."""
    center_temperature: float = Field(0.05, gt=0)
    """Temperature of the loss of the centres."""
    label_weight: Probability = 0.2
    """Weight of the label in the representation's target; the rest is the prediction of the other view."""
    constraint: Literal["size", "entropy"] = "size"
    """Constraint that keeps clusters from growing empty: a lower bound of their sizes, or the entropy of the sizes."""
    size_rate: float = Field(0.1, ge=0)
    """Learning rate of the size constraint's dual variables."""
    size_bound: Probability = 0.9
    """Smallest share of the mean size that a cluster is to have; 1 makes all equal."""
    entropy_weight: float = Field(0.12, ge=0)
    """Weight of the entropy constraint, per image of the dataset."""
    center_learning_rate: float = Field(1.2, gt=0)
    """Learning rate of the centres."""
    center_schedule: Literal["constant", "rise"] = "constant"
    """Schedule of that rate: constant, or a rise from 0 along half a cosine."""
    augmentation: AugmentationOptions = AugmentationOptions(crop_scale=(0.3, 1.0), saturation=0.2, blur_probability=1.0)
    """Augmentation of the first view of an image, and of the second except for `second_view`."""
    second_view: SecondViewOptions = SecondViewOptions()
    """Options of the second view that differ from those of the first."""
    epochs: int = Field(401, ge=1)
    """Passes over the images; the first one only finds centres and labels."""
    batch_size: int = Field(128, ge=2)
    """Images per step; those left over at the end of an epoch wait for another epoch's order."""
    learning_rate: float = Field(0.2, gt=0)
    """Highest learning rate of the network; it falls to 0 along a half cosine."""
    warmup_epochs: float = Field(10, ge=0)
    """Epochs over which that rate first rises from 0, after the first epoch."""


class SeCu(Method):
    """Backbone, projector, centres of all heads, and the labels that the images have in each head.

    The centres of all heads are the rows of one matrix [T, D], head after head, so that one product gives all scores.
    Scores are spread out to [..., heads, largest K], with `ABSENT` for clusters that a head does not have.
    """

    options: Options
    labels: Tensor
    head_labels: Tensor
    epoch_centers: Tensor
    duals: Tensor
    counts: Tensor
    sizes: Tensor
    offsets: Tensor
    slots: Tensor
    bounds: Tensor

    def __init__(self, options: Options, backbone: nn.Module, images: ImageFacts) -> None:
        super().__init__(options, backbone, images)
        width: int = backbone.feature_dim  # type: ignore[assignment]
        dim, heads = options.projection_dim, options.heads
        self.clusters = options.clusters
        self.projector = _projector(width, dim, deep=options.predictor)
        self.predictor = _mlp(dim, width, dim) if options.predictor else None
        sizes = options.clusters * torch.arange(1, heads + 1)
        total, largest = int(sizes.sum()), int(sizes[-1])
        self.centers = nn.Parameter(F.normalize(torch.randn(total, dim), dim=1))
        # These buffers are the state that the losses depend on.
        self.register_buffer("labels", torch.full((images.count, heads), -1, dtype=torch.int32))  # -1: none yet
        self.register_buffer("head_labels", torch.full((images.count,), -1, dtype=torch.int32))  # at the epoch's start
        self.register_buffer("epoch_centers", torch.zeros(total, dim))  # normalised, at the epoch's start
        self.register_buffer("duals", torch.zeros(total))
        self.register_buffer("counts", torch.zeros(total, dtype=torch.float64))  # images per cluster
        # These buffers say at which place the clusters of each head are.
        offsets = sizes.cumsum(0) - sizes
        head = torch.arange(heads).repeat_interleave(sizes)
        slots = head * largest + torch.arange(total) - offsets[head]
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("bounds", (options.size_bound / sizes).repeat_interleave(sizes), persistent=False)
        self.entropy_weight = options.entropy_weight * images.count
        second = options.augmentation.model_copy(update=options.second_view.model_dump())
        self.augmentations = nn.ModuleList(images.augmentation(each) for each in (options.augmentation, second))
        self._new_labels = self.labels[:0]

    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Draw two views of each image, each with its own options."""
        return [augment(images, derive_seed(seed, view)) for view, augment in enumerate(self.augmentations)]

    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the projections of both views, then the predictor's outputs if there is one, each [B, D].

        Batch normalisation sees one view at a time, because views are drawn differently.
        """
        projections = [self.projector(self.backbone(view)) for view in views]
        if self.predictor is not None:
            projections += [self.predictor(projection) for projection in projections]
        return tuple(projections)

    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """Return the losses of the centres and the representation, by the images' new and previous labels."""
        outputs = F.normalize(torch.stack(embeddings), dim=2)  # [2 or 4, B, D]
        scores = self._spread(outputs.detach() @ F.normalize(self.centers, dim=1).T)
        previous = self.labels[indices].long()
        labels = self._assign(scores.detach().mean(0), previous)
        self._new_labels = labels  # `after_step` keeps them
        center_loss = positive_cross_entropy(scores / self.options.center_temperature, labels)

        logits = self._spread(outputs @ self.epoch_centers.T) / self.options.temperature
        log_probabilities = F.log_softmax(logits, dim=-1)
        probabilities = log_probabilities[:2].detach().exp()
        old_labels = torch.where(previous < 0, labels, previous)
        targets = soft_targets(probabilities, old_labels, self.options.label_weight)
        targets = targets.repeat(len(embeddings) // 2, 1, 1, 1)
        representation_loss = -(targets * log_probabilities).sum(-1).mean()
        return {
            "loss": representation_loss + center_loss,
            "representation_loss": representation_loss,
            "center_loss": center_loss,
            "mean_max_probability": probabilities[:, :, 0].amax(-1).mean(),
            "projection_std": outputs[0].detach().std(0).mean() * math.sqrt(outputs.shape[2]),
        }

    def _spread(self, values: Tensor) -> Tensor:
        """Spread values of all clusters out by head: [..., T] → [..., heads, largest K]."""
        heads, largest = len(self.sizes), int(self.options.clusters * len(self.sizes))
        empty = values.new_full((*values.shape[:-1], heads * largest), ABSENT)
        return empty.index_copy(-1, self.slots, values).view(*values.shape[:-1], heads, largest)

    @torch.no_grad()
    def _assign(self, scores: Tensor, previous: Tensor) -> Tensor:
        """Assign labels [B, heads] under the constraint, from scores [B, heads, K] and previous labels [B, heads]."""
        if self.options.constraint == "size":
            return (scores + self._spread(self.duals)).argmax(-1)
        counts = self._spread(self.counts).clamp(min=0)
        return (scores - self.entropy_weight * entropy_changes(counts, previous)).argmax(-1)

    def after_step(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> None:
        """Keep the new labels, and adapt the constraint to them."""
        labels = self._new_labels
        added = self._count(labels)
        if self.options.constraint == "size":
            # Dual ascent on the lower bound of the sizes: clusters below it become more attractive.
            self.duals += self.options.size_rate * (self.bounds - added / len(labels))
            if self.options.size_bound < 1:
                self.duals.clamp_(min=0)
        self.counts += added - self._count(self.labels[indices].long())
        self.labels[indices] = labels.int()

    def _count(self, labels: Tensor) -> Tensor:
        """Count the labels [B, heads] of each cluster, float64 [T]; -1 counts for none."""
        rows = torch.where(labels < 0, 0, labels + self.offsets).flatten()
        return torch.zeros_like(self.counts).index_add_(0, rows, (labels >= 0).flatten().to(self.counts.dtype))

    def start_epoch(self, epoch: Epoch) -> None:
        """Take the snapshot of the centres that the representation learns from in this epoch."""
        self.epoch_centers.copy_(F.normalize(self.centers.detach(), dim=1))
        self.head_labels.copy_(self.labels[:, 0])

    def end_epoch(self, epoch: Epoch) -> dict[str, float]:
        """Return the sizes of the first head's clusters, and the share of images that stayed in theirs."""
        return cluster_record(self.labels[:, 0], self.head_labels, self.options.clusters)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the network's parameters, then the centres, with those of each head as a layer of its own."""
        network = [parameter for name, parameter in self.named_parameters() if name != "centers"]
        return [{"params": network}, {"params": [self.centers], "layer_rows": self.sizes.tolist()}]

    def learning_rates(self, position: float) -> list[float]:
        """Return the network's rate (0 in epoch 0, then warm-up and cosine) and that of the centres."""
        options, trained, rate = self.options, position - FROZEN_EPOCHS, 0.0
        if trained >= 0:
            rate = cosine_schedule(trained, options.epochs - FROZEN_EPOCHS, options.warmup_epochs)
        rise = 0.5 * (1 - math.cos(math.pi * position / options.epochs))
        center_rate = 1.0 if options.center_schedule == "constant" else rise
        return [options.learning_rate * rate, options.center_learning_rate * center_rate]

    def native_head(self) -> NativeHead:
        """Return the projector and the first head's centres."""
        centers = F.normalize(self.centers[: self.options.clusters], dim=1) / self.options.temperature
        return NativeHead(self.projector, centers, torch.zeros(len(centers)), normalize=True)


METHOD = SeCu


def positive_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy whose gradient reaches only the clusters of the images.

    It is -log p_y = log(1 + exp(lse_{j≠y} - s_y)). The gradient of one image is -(1 - p_y) with respect to the logit of
    its own cluster, and 0 with respect to all others.

    Args:
        logits: [..., B, heads, K].
        labels: int64 [B, heads].

    Returns:
        The mean over all but the last dimension.
    """
    own = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    others = logits.detach().scatter(-1, own, ABSENT).logsumexp(-1)
    return F.softplus(others - logits.gather(-1, own).squeeze(-1)).mean()


def soft_targets(probabilities: Tensor, labels: Tensor, label_weight: float) -> Tensor:
    """Return the targets of both views: the prediction of the other view and, with `label_weight`, the label.

    Args:
        probabilities: predictions of both views, [2, B, heads, K].
        labels: int64 [B, heads].

    Returns:
        [2, B, heads, K], summing to 1 over the last dimension.
    """
    own = labels.expand(probabilities.shape[:-1]).unsqueeze(-1)
    weight = probabilities.new_full(own.shape, label_weight)
    return ((1 - label_weight) * probabilities.flip(0)).scatter_add_(-1, own, weight)


def entropy_changes(counts: Tensor, previous: Tensor) -> Tensor:
    """Return the change of sum_k p_k log p_k if an image moves to cluster k and all others stay where they are.

    For an image that has no cluster yet, it is the change if the image joins k, up to a constant that is the same for
    all k.

    Args:
        counts: number of images per cluster, float64 [heads, K].
        previous: clusters that the images are in, int64 [B, heads]; -1 for none.

    Returns:
        float32 [B, heads, K].
    """
    total = counts.sum(1, keepdim=True)

    def change(images: int, total: Tensor) -> Tensor:
        before, after = counts / total, (counts + images).clamp(min=0) / total
        return (torch.xlogy(after, after) - torch.xlogy(before, before)).float()

    own = previous.clamp(min=0).unsqueeze(-1)
    whole = total.clamp(min=1)
    leaving = change(-1, whole).expand(len(previous), -1, -1).gather(-1, own)
    moving = (leaving + change(1, whole)).scatter(-1, own, 0.0)
    joining = change(1, total + 1)
    return torch.where(previous.unsqueeze(-1) < 0, joining, moving)


def _projector(width: int, dim: int, deep: bool) -> nn.Sequential:
    if not deep:
        return _mlp(width, width, dim)
    hidden = [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*hidden, *_mlp(width, width, dim), nn.BatchNorm1d(dim))


def _mlp(width: int, hidden: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim))
