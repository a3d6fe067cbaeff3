"""What a pretraining method is to the engine.

The engine owns the images, the order of steps, mixed precision, micro-batches, the optimizer, checkpoints and logs. A
method is one file with a class `Options(PretrainingOptions)`, a class derived from `Method`, that class's name for the
engine, `METHOD = ...`, and `FACTS` if it clusters; it owns the views, what is attached to the backbone, the loss and
its own state.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deepclust.core.errors import DeepclustError
from deepclust.pretraining.engine.distributed import ALONE, Team
from deepclust.pretraining.engine.native import NativeHead
from deepclust.pretraining.engine.optimization import cosine_schedule
from deepclust.pretraining.engine.options import AugmentationOptions, PretrainingOptions
from deepclust.pretraining.views.augmentation import Augmentation


@dataclass(frozen=True)
class ImageFacts:
    """What a method may know of the images before it sees them."""

    count: int
    """Number of images N; an image is known by its index, 0 to N - 1."""
    size: tuple[int, int]
    """Height and width of a view in pixels."""
    mean: list[float]
    """Mean per channel of pixels scaled to [0, 1]."""
    std: list[float]
    """Standard deviation per channel of pixels scaled to [0, 1]."""
    neighbors: Tensor | None = None
    """int32 [N, n] on the CPU: for each image the nearest others by the features that training starts from, nearest
    first; for methods that need them."""
    start_head: NativeHead | None = None
    """The clusters of the backbone that training starts from, if it has any."""

    def check_clusters(self, clusters: int) -> None:
        """Make sure that there can be so many clusters.

        Raises:
            DeepclustError: there are fewer images.
        """
        if clusters > self.count:
            raise DeepclustError(
                f"clusters: {clusters} clusters need as many images, there are {self.count}: lower clusters"
            )

    def augmentation(self, options: AugmentationOptions) -> Augmentation:
        """An augmentation that makes views of these images."""
        return Augmentation(options, self.size, self.mean, self.std)


@dataclass(frozen=True)
class Epoch:
    """What the engine offers at the start and the end of an epoch."""

    number: int
    """Counted from 0."""
    seed: int
    """For random draws; equal whenever this epoch is repeated."""
    features: Callable[[Tensor], Tensor]
    """Computes, in this process alone, the backbone's features without augmentation: float32 [n, D] on the CPU, of the
    images with the given indices (int64 [n] on the CPU)."""
    forget: Callable[[Iterable[nn.Parameter]], None]
    """Drops what the optimizer remembers of parameters, for instance because they were initialised anew."""
    team: Team = ALONE
    """The processes that train together: what is computed of all images is to be shared among them (`Team.bounds`)."""


class Method(nn.Module, ABC):
    """Base of all pretraining methods.

    The engine takes one step as follows: `views` of a batch, `embed`, `loss`, backward, optimizer step, `after_step`.
    With micro-batches `embed` is called on parts of the batch, each part twice (see `gradient_cache`), `loss` still on
    the embeddings of the whole batch.

    Training can be killed and continued at any step, so everything that later steps depend on must be a parameter or a
    registered buffer (assignments, banks, dual variables, snapshots of prototypes: `register_buffer`), and every random
    draw must come from the seed that is passed in. An epoch that is continued is not started again.

    Attributes:
        backbone: the network that is saved at the end; images [B, C, H, W] to features [B, D].
        images_per_item: how many images `order` names for each image of a batch; those after the first are only read,
            for instance as its neighbors, and are gone when `views` has made views of them.
        clusters: how many clusters there are, if the training is lost once the logged `mean_max_probability` is that of
            equal probabilities for all of them.
    """

    images_per_item = 1
    clusters: int | None = None

    def __init__(self, options: PretrainingOptions, backbone: nn.Module, images: ImageFacts) -> None:
        """Attach to `backbone` what the method trains with it. Weights are drawn from torch's global generator."""
        super().__init__()
        self.options = options
        self.backbone = backbone

    @abstractmethod
    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Augmented views, each float [B, C, H, W] normalised, of images uint8 [B * images_per_item, C, H, W].

        And whatever else `embed` needs that is drawn at random for each image, its first dimension being the image's.
        """

    @abstractmethod
    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """What the loss needs of some images, as tensors whose first dimension is the image's; draws nothing random."""

    @abstractmethod
    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """The loss of a batch under the key `loss`, and any other scalars whose mean over an epoch is worth logging.

        It may be called again for the same batch (after running out of memory), so it changes no state; `after_step`
        does, which may use what the last call of `loss` left behind (for instance labels by the weights before the
        step).

        Args:
            embeddings: float32, from `embed`, for all images of the batch.
            indices: int64 [B], which images these are.
        """

    def after_step(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> None:
        """Update the method's own state (dual variables, banks, averaged weights) once per step, without gradient."""

    def start_epoch(self, epoch: Epoch) -> None:
        """Before the first step of an epoch: cluster all features, take a snapshot of prototypes, and the like.

        What takes long asks `epoch.team` whether to end (`Team.end_if_asked`). The state is then saved as it is,
        and the same epoch started again later: before the last such question nothing changes that the start depends on.
        """

    def end_epoch(self, epoch: Epoch) -> dict[str, float]:
        """After the last step of an epoch; returns what to log of it."""
        return {}

    def native_head(self) -> NativeHead | None:
        """The method's own clustering of the backbone's features, if it has one; its module's `FACTS` then say so."""
        return None

    def order(self, count: int, seed: int) -> Tensor:
        """Indices of the images in the order of an epoch, int64 [count * images_per_item].

        A method may weight or repeat images.

        It must give the same order whenever it is called within the same epoch.
        """
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters as the optimizer takes them, in groups if they have options of their own (e.g. `weight_decay`)."""
        return [{"params": list(self.parameters())}]

    def learning_rates(self, position: float) -> list[float]:
        """Learning rate of each group of `parameter_groups`.

        Args:
            position: epochs done, with fractions.
        """
        rate = self.options.learning_rate * cosine_schedule(position, self.options.epochs, self.options.warmup_epochs)
        return [rate] * len(self.parameter_groups())
