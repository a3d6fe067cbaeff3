"""Methods by name: a method `x` of a room is the module `deepclust.<room>.x` that defines a class `Options` itself."""

import importlib
from pathlib import Path
from types import ModuleType

from deepclust.core.errors import DeepclustError

LIBRARY = Path(__file__).resolve().parents[1]


def files(package: str) -> list[Path]:
    """The files of the methods of a package, e.g. `files("heads")`, by name: those that lie directly in it."""
    return sorted(path for path in LIBRARY.joinpath(*package.split(".")).glob("*.py") if path.stem != "__init__")


def load(room: str, name: str) -> ModuleType:
    """Import the module of method `name` in `room`, e.g. `load("heads", "kmeans")`.

    Raises:
        DeepclustError: there is no such method.
    """
    module_name = f"deepclust.{room}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        module = None
    options = getattr(module, "Options", None)
    if module is None or options is None or options.__module__ != module_name:  # helpers import others' options
        raise DeepclustError(f"unknown method {name!r} in {room}")
    return module
