"""Features: one vector per image from a backbone.

Every image is read and decoded once, in order; memory is bounded by the batch. Rows go straight to disk, so that a
killed extraction continues where it was, with the same batches and so to the same bits. Several devices take the
batches in turn, and each holds the backbone. Several jobs may each do a part, see `deepclust.features.parts`.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from deepclust.core.device import has_fast_bf16
from deepclust.core.errors import DeepclustError
from deepclust.core.files import json_digest, sha256_file
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.features.ahead import in_order
from deepclust.features.batches import Batch, read_batches
from deepclust.features.options import ExtractionOptions
from deepclust.features.partial import PartialArray, remove_states
from deepclust.features.parts import WHOLE, Part
from deepclust.features.replica import Replica

# Images of 224 x 224 pixels per batch: more do not gain speed; smaller images come in larger batches.
BATCH = {"cpu": 8, "cuda": 256}
LARGEST_BATCH = 2048


def extract(
    images: Images,
    model_json: Path,
    output: Path,
    options: ExtractionOptions,
    *,
    devices: Sequence[torch.device],
    code: str,
    progress: Progress,
) -> None:
    """Write the features of all images as .npy [N, D] to `output`.

    Args:
        devices: of one kind; batches go to them in turn.
        code: digest of the code; rows that other code left behind are not continued.

    Raises:
        DeepclustError: there are no images, one does not decode, or features are not finite.
    """
    state, bf16 = _state(images, model_json, output, options, devices, code)
    with ExitStack() as stack:
        replicas = _replicas(stack, model_json, options, devices, bf16)
        _extract(images, replicas, state, output, WHOLE, options, progress)
    remove_states(output)


def extract_part(
    images: Images,
    model_json: Path,
    output: Path,
    part: Part,
    options: ExtractionOptions,
    *,
    devices: Sequence[torch.device],
    code: str,
    progress: Progress,
) -> Path | None:
    """Write the features of some of the images beside `output`, for `join_parts`; otherwise like `extract`.

    Returns:
        The file; None if the part is empty, because there are more parts than batches.
    """
    state, bf16 = _state(images, model_json, output, options, devices, code)
    target = state / f"{part}.npy"
    if target.exists():  # by an earlier job, whose record was lost
        return target
    with ExitStack() as stack:
        replicas = _replicas(stack, model_json, options, devices, bf16)
        _extract(images, replicas, state / str(part), target, part, options, progress)
    return target if target.exists() else None


def _state(
    images: Images,
    model_json: Path,
    output: Path,
    options: ExtractionOptions,
    devices: Sequence[torch.device],
    code: str,
) -> tuple[Path, bool]:
    """Return the folder for unfinished rows, and whether to compute in bf16.

    There is another folder for everything that changes a bit.
    """
    if not len(images):
        raise DeepclustError(f"{images.folder} holds no images")
    bf16 = options.precision == "bf16" or (options.precision == "auto" and has_fast_bf16(devices[0]))
    facts = [code, options.model_dump(), images.sha256, sha256_file(model_json), devices[0].type, bf16]
    return output.parent / f".state-{json_digest(facts)[:16]}", bf16


def _replicas(
    stack: ExitStack, model_json: Path, options: ExtractionOptions, devices: Sequence[torch.device], bf16: bool
) -> list[Replica]:
    replicas = [Replica(model_json, device, options, bf16) for device in devices]
    for replica in replicas:
        stack.callback(replica.close)
    return replicas


def _extract(
    images: Images,
    replicas: Sequence[Replica],
    folder: Path,
    target: Path,
    part: Part,
    options: ExtractionOptions,
    progress: Progress,
) -> None:
    """Write the features of a part to `target`, by way of `folder`; nothing if the part is empty."""
    spec = replicas[0].model.spec
    batch_size = _batch_size(images, spec["image_size"], replicas[0].device, options.crops)
    span = part.span(len(images), batch_size)
    if not span:
        return
    with ExitStack() as stack:
        rows = stack.enter_context(PartialArray(folder, len(span), options.dtype, {"micro_batches": [batch_size]}))
        task = stack.enter_context(progress.task("extract features", len(span), "images", done=rows.done))
        resizing = (spec["image_size"], spec["interpolation"], spec["crop_fraction"])
        start, corners = span.start + rows.done, options.crops > 1
        reading = read_batches(images, start, batch_size, *resizing, stop=span.stop, corners=corners)
        batches = stack.enter_context(closing(reading))
        for features in _compute(replicas, batches, rows, batch_size):
            first = span.start + rows.done
            rows.append(_stored(features, options.dtype, f"images {first} to {first + len(features) - 1}"))
            task.advance(len(features))
        rows.finish(target)


def _compute(
    replicas: Sequence[Replica], batches: Iterator[Batch], rows: PartialArray, batch_size: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Compute features of batches, which the replicas take in turn; keep their micro-batches in the notes of `rows`."""
    micro_batches = rows.notes["micro_batches"]
    if len(micro_batches) != len(replicas):  # begun on another number of devices
        micro_batches[:] = [min(micro_batches)] * len(replicas)
    for replica, micro_batch in zip(replicas, micro_batches):
        replica.start(micro_batch)
    first = rows.done // batch_size  # so that a batch goes to the same replica after a restart
    submitted = itertools.count(first)
    ahead = 2 * len(replicas) - 1  # each computes one batch and has the next
    results = in_order(lambda batch: replicas[next(submitted) % len(replicas)].submit(batch), batches, ahead)
    for number, features in enumerate(results, first):
        micro_batches[number % len(replicas)] = features.micro_batch
        yield features.values


def _batch_size(images: Images, size: int | None, device: torch.device, crops: int) -> int:
    """Return the images per batch: a restart on the same kind of device has the same, and so repeats the bits."""
    height, width = (size, size) if size is not None else (images.shape or images.decode(0).shape)[-2:]
    fitting = BATCH.get(device.type, BATCH["cuda"]) * 224 * 224 // (int(height) * int(width) * crops)
    return max(1, min(LARGEST_BATCH, fitting))


def _stored(features: npt.NDArray[np.float32], dtype: str, which: str) -> npt.NDArray[np.floating]:
    """Return features in the type they are stored in.

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
