"""Features: one vector per image from a backbone.

Every image is read and decoded once, in order; memory is bounded by the batch. Rows go straight to disk, so that a
killed extraction continues where it was, with the same batches and so to the same bits.
"""

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from deepclust.common.device import has_fast_bf16
from deepclust.common.errors import DeepclustError
from deepclust.common.files import remove_tree, sha256_file
from deepclust.common.images import Images
from deepclust.common.models import Model
from deepclust.common.progress import Progress
from deepclust.features.batches import Batch, read_batches
from deepclust.features.options import ExtractionOptions
from deepclust.features.partial import PartialArray

# Images of 224 x 224 pixels per batch: as many as still gain speed; smaller images come in larger batches.
BATCH = {"cpu": 8, "cuda": 256}
LARGEST_BATCH = 2048


def extract(
    images: Images,
    model_json: Path,
    output: Path,
    options: ExtractionOptions,
    *,
    device: torch.device,
    code: str,
    progress: Progress,
) -> None:
    """Write the features of all images as .npy [N, D] to `output`.

    Args:
        code: digest of the code; rows that other code left behind are not continued.

    Raises:
        DeepclustError: there are no images, one does not decode, or features are not finite.
    """
    if not len(images):
        raise DeepclustError(f"{images.folder} holds no images")
    reading = {name: getattr(options, name) for name in ("image_size", "crop_fraction", "pooling", "layers")}
    model = Model.load(model_json, device, **reading)
    bf16 = options.precision == "bf16" or (options.precision == "auto" and has_fast_bf16(device))
    size = model.spec["image_size"]
    facts = [code, options.model_dump(), images.sha256, sha256_file(model_json), device.type, bf16]
    state = output.parent / f".state-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"
    batch_size = _batch_size(images, size, device)
    network = _Network(model, device, bf16, cropped=images.shape is None)
    with (
        PartialArray(state, len(images), options.dtype, {"micro_batch": batch_size}) as rows,
        progress.task("extract features", len(images), "images", done=rows.done) as task,
    ):
        network.micro_batch = rows.notes["micro_batch"]
        interpolation, crop_fraction = model.spec["interpolation"], model.spec["crop_fraction"]
        for batch in read_batches(images, rows.done, batch_size, size, interpolation, crop_fraction):
            rows.append(_stored(network(batch), options.dtype, f"images {rows.done} to {rows.done + len(batch) - 1}"))
            rows.notes["micro_batch"] = network.micro_batch
            task.advance(len(batch))
        rows.finish(output)
    for stale in output.parent.glob(".state-*"):
        remove_tree(stale)


def _batch_size(images: Images, size: int | None, device: torch.device) -> int:
    """Images per batch: the same for the same images on the same kind of device, so that a restart repeats the bits."""
    pixels = size * size if size is not None else int(np.prod(images.shape[1:])) if images.shape else 1
    return max(1, min(LARGEST_BATCH, BATCH.get(device.type, BATCH["cuda"]) * 224 * 224 // pixels))


class _Network:
    """Images, uint8 [n, C, H, W] → features, float32 [n, D], in micro-batches that fit the device's memory."""

    def __init__(self, model: Model, device: torch.device, bf16: bool, *, cropped: bool) -> None:
        self._model, self._device, self._cropped = model, device, cropped
        self._arithmetic = torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
        self.micro_batch = 0

    def __call__(self, batch: Batch) -> npt.NDArray[np.float32]:
        parts: list[npt.NDArray[np.float32]] = []
        done = 0
        while done < len(batch):
            part = self._try(batch[done : done + self.micro_batch])
            if part is not None:
                parts.append(part)
                done += len(part)
            elif self.micro_batch > 1:
                self.micro_batch = (self.micro_batch + 1) // 2
                print(f"out of memory on {self._device}: going on with {self.micro_batch} images at a time", flush=True)
            else:
                raise DeepclustError(f"{self._device} has too little memory for one image: choose a smaller image_size")
        return np.concatenate(parts)

    def _try(self, batch: Batch) -> npt.NDArray[np.float32] | None:
        """Features, or None if the device's memory is too small."""
        try:
            return self._features(batch)
        except torch.OutOfMemoryError:
            pass  # memory is given back once the exception, which holds the frames of the failed call, is gone
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _features(self, batch: Batch) -> npt.NDArray[np.float32]:
        prepared = self._model.preprocess(torch.from_numpy(batch).to(self._device), cropped=self._cropped)
        with self._arithmetic:
            features = self._model.features(prepared)
        numbers: npt.NDArray[np.float32] = features.cpu().numpy()
        return numbers


def _stored(features: npt.NDArray[np.float32], dtype: str, which: str) -> npt.NDArray[np.floating]:
    """Features in the type they are stored in.

    Raises:
        DeepclustError: some are not finite, in fp32 or in the stored type.
    """
    broken = np.count_nonzero(~np.isfinite(features).all(axis=1))
    if broken:
        raise DeepclustError(
            f"{broken} of the features of {which} have NaN or infinite values: the backbone's weights are damaged or "
            "diverged in training, or overflow (try features.precision: fp32)"
        )
    with np.errstate(over="ignore"):
        stored = features.astype(dtype)
    overflow = np.count_nonzero(~np.isfinite(stored).all(axis=1))
    if overflow:
        raise DeepclustError(
            f"{overflow} of the features of {which} exceed the range of {dtype} (largest value "
            f"{np.abs(features).max():.3g}): set features.dtype: float32"
        )
    return stored
