"""Linear probes of each stage of a network, as behind AlexNet's convolutions: how well its maps tell the labels.

Zhang et al. 2017 (arXiv 1611.09842), the evidence of DeepCluster (arXiv 1807.05520, section 4.2). Maps are averaged
over a grid, so that each stage has about the same number of values, and multinomial logistic regression is fitted.

Departures: L-BFGS on maps of the centre crop instead of SGD on augmented images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.core.seeding import derive_seed
from deepclust.evaluation.inputs import check_lengths
from deepclust.evaluation.options import LayerProbeOptions
from deepclust.models.model import Model
from deepclust.models.preprocessing import resize_and_crop

BATCH = 128  # images at a time
BLOCK = 4096  # rows of maps in float32 at a time
ITERATIONS = 100  # of L-BFGS
HELD_OUT = 5  # one image of so many is scored if no others are to be


@dataclass(frozen=True)
class LabelledImages:
    """Images of some splits whose class is known.

    Attributes:
        splits: images of each split.
        owners: the split of each image, int64 [n].
        indices: its number there, int64 [n].
        labels: its class, int64 [n].
    """

    splits: Sequence[Images]
    owners: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    @classmethod
    def of(cls, splits: Sequence[Images], labels: Sequence[npt.NDArray[np.int64]]) -> "LabelledImages":
        """Return all images of the splits that have a label.

        Raises:
            DeepclustError: there are more or fewer labels than images.
        """
        for images, known in zip(splits, labels):
            check_lengths({str(images.folder): images.count, "its labels": len(known)})
        found = [np.flatnonzero(known >= 0) for known in labels]
        owners = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(found)] or [np.empty(0, int)])
        kept = [known[rows] for known, rows in zip(labels, found)]
        empty = np.empty(0, np.int64)
        return cls(splits, owners, np.concatenate([empty, *found]), np.concatenate([empty, *kept]))

    def take(self, rows: npt.NDArray[np.int64]) -> "LabelledImages":
        """Return some of them."""
        return LabelledImages(self.splits, self.owners[rows], self.indices[rows], self.labels[rows])

    def sample(self, most: int, name: str) -> "LabelledImages":
        """Draw at most `most` of them at random."""
        if len(self.labels) <= most:
            return self
        generator = np.random.default_rng(derive_seed("probe layers", name))
        return self.take(np.sort(generator.choice(len(self.labels), most, replace=False)))


def probe_layers(
    train: LabelledImages,
    score: LabelledImages,
    model: Model,
    options: LayerProbeOptions,
    device: torch.device,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Measure the accuracy of a linear classifier behind each stage.

    Args:
        score: without labelled images, some of `train` are left out and scored.

    Returns:
        One record per stage: `layer` (from 0), `channels`, `grid` (side), `dimension`, `linear_acc`.

    Raises:
        DeepclustError: there are fewer than two classes, or the network has no stages.
    """
    if not len(score.labels):
        shuffled = np.random.default_rng(derive_seed("probe layers", "held out")).permutation(len(train.labels))
        left, kept = np.sort(shuffled[::HELD_OUT]), np.sort(np.delete(shuffled, np.s_[::HELD_OUT]))
        train, score = train.take(kept), train.take(left)
    train, score = train.sample(options.samples, "train"), score.sample(options.samples, "score")
    if len(np.unique(train.labels)) < 2 or not len(score.labels):
        raise DeepclustError("linear probes need labelled images of two classes or more")
    layers = count_layers(model, train, device)
    records = []
    with progress.task("probe layers", layers, "layers") as task:
        for layer in range(layers):
            maps, channels, grid = _maps(model, train, layer, options.dimension, device)
            classifier = fit_classifier(maps, torch.from_numpy(train.labels).to(device), options.l2)
            del maps
            tested, _, _ = _maps(model, score, layer, options.dimension, device)
            right = classifier.predict(tested).cpu().numpy() == score.labels
            accuracy = float(right.mean())
            record = {"layer": layer, "channels": channels, "grid": grid, "dimension": tested.shape[1]}
            records.append({**record, "linear_acc": accuracy})
            task.advance()
    return records


def count_layers(model: Model, images: LabelledImages, device: torch.device) -> int:
    """Count the stages of a network.

    Raises:
        DeepclustError: it has none whose maps can be read.
    """
    if not hasattr(model.network, "forward_intermediates"):
        raise DeepclustError("this network has no stages to probe: take its backbone out of layer_probe.backbones")
    blocks = getattr(model.network, "blocks", None)
    counted = isinstance(blocks, torch.nn.ModuleList | torch.nn.Sequential)
    return len(blocks) if counted else len(model.network.feature_info)  # type: ignore[arg-type]


@torch.inference_mode()
def _maps(
    model: Model, images: LabelledImages, layer: int, dimension: int, device: torch.device
) -> tuple[Tensor, int, int]:
    """Return pooled maps of all images behind one stage, float16 [n, C * grid²] on the device; C; the grid's side."""
    rows, channels, grid = [], 0, 1
    for batch in _batches(model, images, device):
        [output] = model.network.forward_intermediates(batch, indices=[layer], intermediates_only=True, stop_early=True)  # type: ignore[operator]
        if output.ndim != 4:
            raise DeepclustError("this network has no maps to probe: take its backbone out of layer_probe.backbones")
        channels = output.shape[1]
        grid = max(1, min(int((dimension / channels) ** 0.5), *output.shape[2:]))
        rows.append(F.adaptive_avg_pool2d(output.float(), grid).flatten(1).half())
    return torch.cat(rows), channels, grid


def _batches(model: Model, images: LabelledImages, device: torch.device) -> Iterator[Tensor]:
    """Yield prepared images in order; crop those of varying sizes one by one."""
    spec = model.spec
    for start in range(0, len(images.labels), BATCH):
        owners, indices = images.owners[start : start + BATCH], images.indices[start : start + BATCH]
        for owner in dict.fromkeys(owners.tolist()):
            split, chosen = images.splits[owner], indices[owners == owner]
            if split.shape is not None:
                yield model.preprocess(torch.from_numpy(split.pixels(chosen)).to(device))
                continue
            if spec["image_size"] is None:
                raise DeepclustError("images of varying sizes need a backbone with an image_size")
            crop = (spec["image_size"], spec["interpolation"], spec["crop_fraction"])
            squares = [resize_and_crop(torch.from_numpy(split.decode(int(i)))[None], *crop) for i in chosen]
            yield model.preprocess(torch.cat(squares).to(device), cropped=True)


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on standardised rows."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def predict(self, rows: Tensor) -> Tensor:
        """Return the class of each row [n, D], int64 [n]."""
        blocks = rows.split(BLOCK)
        return torch.cat(
            [F.linear((b.float() - self.mean) / self.scale, self.weight, self.bias).argmax(1) for b in blocks]
        )


def fit_classifier(rows: Tensor, labels: Tensor, l2: float) -> LinearProbe:
    """Fit multinomial logistic regression by L-BFGS: mean cross-entropy + l2/2 · ‖W‖².

    Rows are centred and divided by one number, so that their mean square length is 1.

    Args:
        rows: float [n, D].
        labels: int64 [n].
    """
    count, classes = len(rows), int(labels.max()) + 1
    blocks = list(zip(rows.split(BLOCK), labels.split(BLOCK)))
    mean = torch.stack([block.sum(0, dtype=torch.float32) for block, _ in blocks]).sum(0) / count
    square = torch.stack([(block.float() - mean).square().sum() for block, _ in blocks]).sum() / count
    scale = square.sqrt().clamp(min=1e-12)
    weight = torch.zeros(classes, rows.shape[1], device=rows.device, requires_grad=True)
    bias = torch.zeros(classes, device=rows.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = l2 / 2 * weight.square().sum()
        total.backward()
        for block, known in blocks:
            part = (
                F.cross_entropy(F.linear((block.float() - mean) / scale, weight, bias), known, reduction="sum") / count
            )
            part.backward()
            total = total + part
        return total.detach()

    optimizer.step(loss)
    return LinearProbe(mean, scale, weight.detach(), bias.detach())
