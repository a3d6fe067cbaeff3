"""Where to compute: device, threads, and whether bf16 is fast here. Torch is imported only when a function needs it."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deepclust.common.gpu_use import watch_gpus

if TYPE_CHECKING:
    import torch


def set_threads(threads: int) -> None:
    """Limit every thread pool of this process to `threads`. Call it before torch or faiss are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "numpy" in sys.modules:  # its BLAS has read the environment already
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)


def choose_device() -> "torch.device":
    """The first of `choose_devices`."""
    return choose_devices()[0]


def choose_devices() -> list["torch.device"]:
    """All CUDA devices that this process sees, or the CPU. `DEEPCLUST_DEVICE` overrides it: `cpu`, `cuda:0,cuda:1`."""
    import torch

    devices = [torch.device("cpu")]
    if named := os.environ.get("DEEPCLUST_DEVICE"):
        devices = [torch.device(name) for name in named.split(",")]
    elif torch.cuda.is_available():
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if devices[0].type == "cuda":
        watch_gpus()
    return devices


def device_name(device: "torch.device | None" = None) -> str:
    """A name a person recognises: the GPU's, or the CPU's model."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return _cpu_name()


def _cpu_name() -> str:
    import platform

    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def has_fast_bf16(device: "torch.device") -> bool:
    """Whether `device` has units for bf16 matrix products (GPU: Ampere or later; CPU: AMX or AVX512-BF16)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    if device.type != "cpu" or not cpuinfo.exists():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    return "amx_bf16" in flags or "avx512_bf16" in flags
