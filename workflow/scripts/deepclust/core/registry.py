"""Methods by name: method `x` of a package is the module `deepclust.<package>.x` with a class `Options` of its own."""

import importlib
from pathlib import Path
from types import ModuleType

from deepclust.core.errors import DeepclustError

LIBRARY = Path(__file__).resolve().parents[1]


def files(package: str) -> list[Path]:
    """Return the files of a package's methods in the order of their names: those that lie directly in it."""
    return sorted(path for path in LIBRARY.joinpath(*package.split(".")).glob("*.py") if path.stem != "__init__")


def load(package: str, name: str) -> ModuleType:
    """Import the module of a package's method, e.g. `load("heads", "kmeans")`.

    Raises:
        DeepclustError: there is no such method.
    """
    module_name = f"deepclust.{package}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        module = None
    options = getattr(module, "Options", None)
    if module is None or options is None or options.__module__ != module_name:  # helpers import others' options
        raise DeepclustError(f"unknown method {name!r} in {package}")
    return module
