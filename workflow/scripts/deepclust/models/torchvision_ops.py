"""Stand-ins for compiled operators of torchvision that do not fit the installed torch, so that timm can be imported.

At import torchvision declares shape functions for `nms` and `qnms`. It fails if the compiled operators are missing, as
they are when torch and torchvision come from different builds. Nothing in this package uses these operators, so
declaring their names is enough.
"""

import contextlib
import functools
import importlib.util
from pathlib import Path

import torch


@functools.cache
def declare_missing_operators() -> torch.library.Library | None:
    """Declare the operators that torchvision needs at import if its compiled ones do not load.

    Call it before importing timm.

    Returns:
        The declarations, which live as long as this object does; None if the compiled operators load.
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
