"""Interface of a pretraining method to the engine.

The engine owns the images, the order of steps, mixed precision, micro-batches, the optimizer, checkpoints and logs. A
method owns the views, the layers on top of the backbone, the loss and its own state. It is one file with a class
`Options(PretrainingOptions)`, a class derived from `Method`, that class's name for the engine (`METHOD = ...`), and
`FACTS` if it clusters.
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
    """Facts about the images that a method may know before it sees them."""

    count: int
    """Number of images N; the index of an image is a number from 0 to N - 1."""
    size: tuple[int, int]
    """Height and width of a view in pixels."""
    mean: list[float]
    """Mean per channel of pixels scaled to [0, 1]."""
    std: list[float]
    """Standard deviation per channel of pixels scaled to [0, 1]."""
    neighbors: Tensor | None = None
    """Nearest other images by the features that training starts from, for methods that need them. int32 [N, n] on the
    CPU, nearest first."""
    start_head: NativeHead | None = None
    """Clusters of the backbone that training starts from, if it has any."""

    def check_clusters(self, clusters: int) -> None:
        """Check that there can be so many clusters.

        Raises:
            DeepclustError: there are fewer images than clusters.
        """
        if clusters > self.count:
            raise DeepclustError(
                f"clusters: {clusters} clusters need as many images, there are {self.count}: lower clusters"
            )

    def augmentation(self, options: AugmentationOptions) -> Augmentation:
        """Make an augmentation that draws views of these images."""
        return Augmentation(options, self.size, self.mean, self.std)


@dataclass(frozen=True)
class Epoch:
    """Offer of the engine to a method at the start and the end of an epoch."""

    number: int
    """Number of the epoch, from 0."""
    seed: int
    """Seed for random draws; equal whenever this epoch is repeated."""
    features: Callable[[Tensor], Tensor]
    """Function from indices of images to the backbone's features without augmentation, in this process alone: int64 [n]
    to float32 [n, D], both on the CPU."""
    forget: Callable[[Iterable[nn.Parameter]], None]
    """Function that drops the optimizer's state of parameters, for instance because they were initialised anew."""
    team: Team = ALONE
    """Processes that train together; they should share computations over all images (`Team.bounds`)."""


class Method(nn.Module, ABC):
    """Base of all pretraining methods.

    The engine takes one step as follows: `views` of a batch, `embed`, `loss`, backward, optimizer step, `after_step`.
    With micro-batches `embed` is called on parts of the batch, each part twice (see `gradient_cache`), and `loss` still
    on the embeddings of the whole batch.

    Training can be killed and continued at any step. So everything that later steps depend on must be a parameter or a
    registered buffer (assignments, banks, dual variables, snapshots of prototypes: `register_buffer`), and every random
    draw must come from the seed that is passed in. An epoch that is continued is not started again.

    Attributes:
        backbone: the network that is saved at the end; images [B, C, H, W] to features [B, D].
        images_per_item: number of images that `order` names for each image of a batch. Those after the first are only
            read, for instance as its neighbors, and are gone when `views` has made views of them.
        clusters: number of clusters, if the training is lost once the logged `mean_max_probability` is that of equal
            probabilities for all of them.
    """

    images_per_item = 1
    clusters: int | None = None

    def __init__(self, options: PretrainingOptions, backbone: nn.Module, images: ImageFacts) -> None:
        """Attach the method's layers to `backbone`, with weights drawn from torch's global generator."""
        super().__init__()
        self.options = options
        self.backbone = backbone

    @abstractmethod
    def views(self, images: Tensor, seed: int) -> list[Tensor]:
        """Draw views, each float [B, C, H, W] normalised, of images uint8 [B * images_per_item, C, H, W].

        All other random draws that `embed` needs are returned with them; their first dimension is the image's.
        """

    @abstractmethod
    def embed(self, views: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the inputs of the loss for some images, as tensors whose first dimension is the image's.

        This draws nothing at random.
        """

    @abstractmethod
    def loss(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> dict[str, Tensor]:
        """Return the loss of a batch under the key `loss`, and other scalars whose mean over an epoch is to be logged.

        It may be called again for the same batch (after running out of memory), so it changes no state. `after_step`
        does, and may use results that the last call of `loss` kept (for instance labels by the weights before the
        step).

        Args:
            embeddings: float32, from `embed`, for all images of the batch.
            indices: indices of these images, int64 [B].
        """

    def after_step(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> None:
        """Update the method's own state (dual variables, banks, averaged weights) once per step, without gradient."""

    def start_epoch(self, epoch: Epoch) -> None:
        """Prepare an epoch before its first step: cluster all features, take a snapshot of prototypes, and the like.

        Long computations ask `epoch.team` whether to end (`Team.end_if_asked`). The state is then saved as it is, and
        the same epoch is started again later. So nothing that the start depends on may change before the last such
        question.
        """

    def end_epoch(self, epoch: Epoch) -> dict[str, float]:
        """End an epoch after its last step, and return the numbers to log of it."""
        return {}

    def native_head(self) -> NativeHead | None:
        """Return the method's own clustering of the backbone's features, if its module's `FACTS` say it has one."""
        return None

    def order(self, count: int, seed: int) -> Tensor:
        """Return the indices of the images in the order of an epoch, int64 [count * images_per_item].

        A method may weight or repeat images. It must return the same order whenever it is called within the same epoch.
        """
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters in groups for the optimizer, which may have options of their own (`weight_decay`)."""
        return [{"params": list(self.parameters())}]

    def learning_rates(self, position: float) -> list[float]:
        """Return the learning rate of each group of `parameter_groups`.

        Args:
            position: number of epochs done, with fractions.
        """
        rate = self.options.learning_rate * cosine_schedule(position, self.options.epochs, self.options.warmup_epochs)
        return [rate] * len(self.parameter_groups())
