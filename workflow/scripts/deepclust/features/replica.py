"""A backbone on one device, which turns batches of images into features."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from deepclust.core.errors import DeepclustError
from deepclust.features.batches import Batch
from deepclust.features.options import ExtractionOptions
from deepclust.models.model import Model


class Features(NamedTuple):
    """Features of a batch, float32 [n, D], and the size of the micro-batches at its end."""

    values: npt.NDArray[np.float32]
    micro_batch: int


class Replica:
    """A backbone in a thread of its own, which computes batches in turn, in micro-batches that fit the device's memory.

    Attributes:
        model: the backbone.
        device: its device.
    """

    def __init__(self, model_json: Path, device: torch.device, options: ExtractionOptions, bf16: bool) -> None:
        """Load the backbone onto `device`.

        Raises:
            DeepclustError: it cannot be loaded, or it cannot be read out as `options` ask for.
        """
        reading = {name: getattr(options, name) for name in ("image_size", "crop_fraction", "pooling", "layers")}
        self.model = Model.load(model_json, device, **reading)
        self.device, self._bf16 = device, bf16
        self._flip = options.test_time_augmentation in {"flip", "ten-crop"}
        self._corners = options.crops > 1
        if bf16:
            cast_products(self.model.network)
        self._micro_batch = 0
        self._thread = ThreadPoolExecutor(1, str(device))

    def start(self, micro_batch: int) -> None:
        """Begin with micro-batches of at most so many images."""
        self._micro_batch = micro_batch

    def submit(self, batch: Batch) -> "Future[Features]":
        """Compute the features of a batch after those of the batches before it."""
        return self._thread.submit(self._run, batch)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _run(self, batch: Batch) -> Features:
        parts: list[npt.NDArray[np.float32]] = []
        done = 0
        while done < len(batch.images):
            part = self._try(Batch(batch.images[done : done + self._micro_batch], batch.cropped))
            if part is not None:
                parts.append(part)
                done += len(part)
            elif self._micro_batch > 1:
                self._micro_batch = (self._micro_batch + 1) // 2
                print(f"out of memory on {self.device}: going on with {self._micro_batch} images at a time", flush=True)
            else:
                raise DeepclustError(f"{self.device} has too little memory for one image: choose a smaller image_size")
        return Features(np.concatenate(parts), self._micro_batch)

    def _try(self, batch: Batch) -> npt.NDArray[np.float32] | None:
        """Return features, or None if the device's memory is too small."""
        try:
            return self._features(batch)
        except torch.OutOfMemoryError:
            pass  # memory is given back once the exception, which holds the frames of the failed call, is gone
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _features(self, batch: Batch) -> npt.NDArray[np.float32]:
        pixels = torch.from_numpy(batch.images).to(self.device)
        prepared = self.model.preprocess(pixels, cropped=batch.cropped, corners=self._corners)
        features = self._forward(prepared)
        if self._flip:
            features = (features + self._forward(prepared.flip(-1))) / 2
        if self._corners:
            features = features.unflatten(0, (len(batch.images), -1)).mean(1)
        numbers: npt.NDArray[np.float32] = features.cpu().numpy()
        return numbers

    def _forward(self, prepared: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            return self.model.features(prepared)


def cast_products(network: nn.Module) -> None:
    """Keep the weights of matrix products and convolutions in bf16.

    Under autocast, which would make such copies for every batch, the results stay the same to the bit; everything that
    autocast computes in fp32, such as normalisation and the sums of residual blocks, still is.
    """
    for module in network.modules():
        if type(module) in (nn.Linear, nn.Conv2d):  # subclasses may compute with their weights, say standardise them
            module.to(torch.bfloat16)
