"""Decision whether a network is compiled (torch.compile)."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Literal

import torch

from deepclust.core.errors import DeepclustError
from deepclust.pretraining.engine.distributed import Team

# Compilers that the first step calls: the one that the variable names, or else the first of these that is there.
COMPILERS = {"cuda": ("C", "CC", ("gcc", "clang")), "cpu": ("C++", "CXX", ("g++", "clang++"))}


def _missing(device: torch.device) -> str | None:
    """Return the missing program or file without which a compilation would fail, or None."""
    language, variable, programs = COMPILERS[device.type]
    named = os.environ.get(variable)
    if not any(shutil.which(program) for program in ([named] if named else programs)):
        return f"no {language} compiler ({named or ', '.join(programs)})"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "no Triton"
    if device.type == "cuda" and not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "no Python.h (of Python's development files)"
    return None


def should_compile(wanted: Literal["auto"] | bool, device: torch.device, team: Team) -> bool:
    """Return whether the network is to be compiled; print one line if it is not although one might expect it.

    Raises:
        DeepclustError: the network has to be compiled, and there is no compiler.
    """
    if wanted is False or (wanted == "auto" and device.type != "cuda"):
        return False
    if team.count > 1:  # never tried with batch normalisation over several processes
        print("compile: a network that several processes train is not compiled", flush=True)
        return False
    missing = _missing(device)
    if missing is None:
        return True
    if wanted is True:
        raise DeepclustError(f"compile: true cannot be done, there is {missing}: install it or use auto")
    print(f"compile: {missing}: the network is not compiled, which is slower", flush=True)
    return False
