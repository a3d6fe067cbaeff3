"""Lets torchvision, and so timm, be imported where torchvision's compiled operators do not fit the installed torch.

At import torchvision declares shape functions for `nms` and `qnms`, and fails if the compiled operators are missing, as
they are when torch and torchvision come from different builds. Nothing here uses these operators, so declaring their
names is enough.
"""

import contextlib
import functools
import importlib.util
from pathlib import Path

import torch


@functools.cache
def declare_missing_operators() -> torch.library.Library | None:
    """Declare what torchvision needs at import, if its compiled operators do not load. Call it before importing timm.

    Returns:
        The declarations, which live as long as this object does; None where the operators are whole.
    """
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    for compiled in sorted(folder.glob("_C*.so")):
        with contextlib.suppress(OSError):
            torch.ops.load_library(str(compiled))
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    declarations = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        declarations.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return declarations
