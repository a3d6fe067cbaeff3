"""LARS: steps in proportion to the length of each layer's weights (You et al. 2017, arXiv 1708.03888).

LARC clips these steps to those of SGD; without clipping LARC is LARS.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """SGD with momentum whose decayed gradients are scaled to `trust` times the length of each layer's weights.

    Biases and the weights of normalisation (one dimension) are neither decayed nor scaled unless asked for, as in
    self-supervised training with large batches (Grill et al. 2020). All layers are updated together, without waiting
    for the device.

    A group may have `layer_rows`, the numbers of rows of the layers that each of its parameters holds.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float,
        weight_decay: float,
        trust: float = 1e-3,
        clip: bool = False,
        scale_vectors: bool = False,
    ) -> None:
        """Set the options of the steps.

        Args:
            params: parameters, or groups of them.
            lr: learning rate.
            momentum: factor of the last step's momentum.
            weight_decay: factor of the weights that is added to their gradient.
            trust: length of a layer's step relative to that of its weights, at learning rate 1.
            clip: whether no layer takes longer steps than SGD would (LARC).
            scale_vectors: whether parameters of one dimension are decayed and scaled, too.
        """
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.trust, self.clip = trust, clip
        self.smallest = 1 if scale_vectors else 2  # least number of dimensions to decay and scale

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            scaled = [parameter for parameter in parameters if parameter.ndim >= self.smallest]
            others = [parameter for parameter in parameters if parameter.ndim < self.smallest]
            if scaled:
                self._descend(scaled, self._scaled_gradients(scaled, group), group)
            if others:
                self._descend(others, [_gradient(parameter) for parameter in others], group)

    def _descend(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        torch._foreach_add_(parameters, buffers, alpha=-group["lr"])

    def _scaled_gradients(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        decayed = torch._foreach_add([_gradient(p) for p in parameters], parameters, alpha=group["weight_decay"])
        gradients, weights = (_layers(whole, group.get("layer_rows")) for whole in (decayed, parameters))
        weight_norms = torch.stack(list(torch._foreach_norm(weights)))
        norms = torch.stack(list(torch._foreach_norm(gradients)))
        usable = (weight_norms > 0) & (norms > 0)
        # The local learning rate of You et al. 2017 with the decayed gradient g: trust · |w| / |g|.
        factors = self.trust * weight_norms / norms
        if self.clip:
            factors = (factors / group["lr"]).clamp(max=1)  # 1 at learning rate 0
        torch._foreach_mul_(gradients, list(torch.where(usable, factors, 1).unbind()))  # views of the whole
        return list(decayed)


def _layers(parameters: Sequence[Tensor], rows: list[int] | None) -> list[Tensor]:
    """Return views of the layers that parameters consist of; every parameter is a layer if `rows` is None."""
    if rows is None:
        return list(parameters)
    return [layer for parameter in parameters for layer in parameter.split(rows)]


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
