"""Stacks: the same small network for several seeds and heads at once, as batched matrix products.

Parameters are float32 tensors whose first dimensions are S seeds and, if a seed trains several heads, H heads. Products
run in bf16 if the device has units for it, on copies of the float32 parameters. Activations are transposed,
[S, H, dimensions, batch]. So every product reads the parameters and the batch as they lie in memory, and softmax over
few clusters runs along the batch, as vectors.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepclust.core.device import has_fast_bf16
from deepclust.core.seeding import derive_seed


def product_dtype(device: torch.device) -> torch.dtype:
    """Return the precision of matrix products: bf16 if it is fast on `device`, else float32."""
    return torch.bfloat16 if has_fast_bf16(device) else torch.float32


def stacks(seeds: Sequence[int], device: torch.device) -> list[list[int]]:
    """Divide seeds into groups that are computed together.

    An accelerator computes all seeds at once, since it is bound by launches of kernels. On a CPU the heads of one seed
    fill the cores, and the bits of vector code depend on the shape of the tensor around a number. Seeds take turns
    there, so that a seed's result is the same whatever runs with it.
    """
    return [list(seeds)] if device.type != "cpu" else [[seed] for seed in seeds]


def draw(
    seeds: Sequence[int],
    purpose: str,
    shape: Sequence[int],
    fill: Callable[..., object],
    device: torch.device | None = None,
) -> Tensor:
    """Draw fresh parameters [S, *shape]; those of a seed do not depend on the others.

    Args:
        purpose: name of the use of the numbers; other purposes give unrelated numbers.
        fill: fills a tensor in place; takes the tensor and `generator`, e.g. `torch.nn.init.normal_`.
        device: device that draws them; other kinds of devices draw other numbers. None is the CPU.
    """
    device = device or torch.device("cpu")
    values = torch.empty(len(seeds), *shape, device=device)
    for part, seed in zip(values, seeds):
        fill(part, generator=torch.Generator(device).manual_seed(derive_seed(seed, purpose)))
    return values


def adam(parameters: list[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    """Make an Adam optimizer; on a GPU it is one kernel, which does not wait for the counter of steps either."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=parameters[0].device.type == "cuda")


def orders(seeds: Sequence[int], count: int, epoch: int) -> Tensor:
    """Draw a random order of `count` images for every seed, int64 [S, count]."""
    generators = [torch.Generator().manual_seed(derive_seed(seed, "order", epoch)) for seed in seeds]
    return torch.stack([torch.randperm(count, generator=generator) for generator in generators])


def draw_each(seeds: Sequence[int], step: int, device: torch.device, *fills: Callable[..., Tensor]) -> list[Tensor]:
    """Draw the numbers of every seed in a step, [S, ...] for each of `fills`, one after the other.

    The device itself draws, since accelerators would wait for draws of the CPU and their copies.

    Args:
        fills: functions that make a tensor; they take `generator` and `device`, e.g.
            `functools.partial(torch.rand, (2, 3))`.
    """
    generators = [torch.Generator(device).manual_seed(derive_seed(seed, "step", step)) for seed in seeds]
    return [torch.stack([fill(generator=generator, device=device) for generator in generators]) for fill in fills]


def linear_scores(classifiers: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return the scores of linear classifiers, weight · inputs + bias, in float32.

    Args:
        classifiers: weight and bias, as `linear` takes them.
    """
    weight, bias = classifiers
    return linear(weight, inputs).float() + bias.unsqueeze(-1)


def linear(weight: Tensor, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply linear layers, in the precision of `inputs`.

    Args:
        weight: [S, H, out, in].
        inputs: [S, in, B], the same for all heads of a seed, or [S, H, in, B].
        bias: [S, H, out].

    Returns:
        [S, H, out, B].
    """
    seeds, heads, outputs, dimensions = weight.shape
    weight = weight.to(inputs.dtype)
    if inputs.ndim == 3:
        product = torch.bmm(weight.reshape(seeds, heads * outputs, dimensions), inputs)
    else:
        product = torch.bmm(weight.reshape(seeds * heads, outputs, dimensions), inputs.flatten(0, 1))
    result = product.view(seeds, heads, outputs, inputs.shape[-1])
    return result if bias is None else result + bias.to(inputs.dtype).unsqueeze(-1)


class Rows:
    """Features on the device, in the precision of products, of which batches are gathered."""

    def __init__(self, features: npt.NDArray[np.floating], device: torch.device) -> None:
        """Copy `features` [N, D] to the device."""
        self.values = torch.from_numpy(np.ascontiguousarray(features)).to(device, product_dtype(device))

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Return the batches of S seeds, indices [S, B] → features [S, D, B]."""
        rows = self.values.index_select(0, indices.flatten())
        return rows.view(*indices.shape, -1).transpose(1, 2)
