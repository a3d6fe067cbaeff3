"""Choice of devices and threads, and whether bf16 is fast here.

Torch is imported only when a function needs it.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deepclust.core.errors import DeepclustError
from deepclust.core.gpu_use import watch_gpus

if TYPE_CHECKING:
    import torch

# Variables that tell which GPUs a job was given (the first one set counts), and their values where there are none.
GIVEN, NONE_GIVEN = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"), {"", "-1", "NoDevFiles"}


def set_threads(threads: int) -> None:
    """Limit every thread pool of this process to `threads`.

    Call it before torch or faiss are imported.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "numpy" in sys.modules:  # its BLAS has read the environment already
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)


def choose_device() -> "torch.device":
    """Return the first of `choose_devices`; a GPU becomes PyTorch's current one.

    Raises:
        DeepclustError: GPUs were given to this job, and PyTorch cannot use them.
    """
    device = choose_devices()[0]
    make_current(device)
    return device


def make_current(device: "torch.device") -> None:
    """Make a GPU in use the one for everything that PyTorch does without being told where, such as pinning memory."""
    import torch

    if device.type == "cuda":
        torch.cuda.set_device(device)


def choose_devices() -> list["torch.device"]:
    """Return all CUDA devices that this process sees, or the CPU.

    `DEEPCLUST_DEVICE` overrides it: `cpu`, `cuda:0,cuda:1`.

    Raises:
        DeepclustError: GPUs were given to this job, and PyTorch cannot use them, or one is named that is not there.
    """
    import torch

    devices = [torch.device("cpu")]
    if named := os.environ.get("DEEPCLUST_DEVICE"):
        devices = [_named(name.strip(), torch.cuda.device_count()) for name in named.split(",")]
        if len({device.type for device in devices}) > 1:
            raise DeepclustError(f"DEEPCLUST_DEVICE: {named} is a mixture: name GPUs or the CPU")
    elif torch.cuda.is_available():
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    elif torch.version.cuda is not None:
        _check_that_no_gpu_was_given(torch.version.cuda)
    if devices[0].type == "cuda":
        torch.set_float32_matmul_precision("highest")  # fp32 is what is asked for, not TF32,
        torch.backends.cudnn.allow_tf32 = False  # and bf16 where that will do
        watch_gpus(devices)
    return devices


def _named(name: str, gpus: int) -> "torch.device":
    import torch

    try:
        device = torch.device("cuda:0" if name == "cuda" else name)
    except RuntimeError as error:
        raise DeepclustError(f"DEEPCLUST_DEVICE: {name!r} is no device: name cpu, cuda:0, cuda:1 …") from error
    if device.type not in {"cpu", "cuda"}:
        raise DeepclustError(f"DEEPCLUST_DEVICE: {name} is not supported: name cpu, cuda:0, cuda:1 …")
    if device.type == "cuda" and device.index >= gpus:
        raise DeepclustError(f"DEEPCLUST_DEVICE: there is no {device}, PyTorch sees {gpus} GPUs")
    return device


def _check_that_no_gpu_was_given(built_for: str) -> None:
    """Refuse the CPU if GPUs were given: a job that waited for them shall not compute without them for days."""
    name = next((name for name in GIVEN if name in os.environ), None)
    if name is not None and os.environ[name] not in NONE_GIVEN:
        raise DeepclustError(
            f"this job was given GPUs ({name}={os.environ[name]}), but PyTorch, built for CUDA {built_for}, cannot use "
            "them: is the driver recent enough (nvidia-smi)? With DEEPCLUST_DEVICE=cpu it computes on the CPU"
        )


def device_name(device: "torch.device | None" = None) -> str:
    """Return a name that a person recognises: the GPU's, or the CPU's model."""
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
    """Tell whether `device` has units for bf16 matrix products (GPU: Ampere or later; CPU: AMX or AVX512-BF16)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    if device.type != "cpu" or not cpuinfo.exists():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    return "amx_bf16" in flags or "avx512_bf16" in flags
