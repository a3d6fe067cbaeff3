"""The end of planning after mistakes: one line each, instead of Snakemake's traceback."""

import inspect
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from deepclust.core.errors import DeepclustError
from deepclust.planning.problems import ExperimentError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def stop_with(lines: Iterable[object]) -> None:
    """End the process with these lines and status 1, if there are any."""
    if shown := list(lines):
        print(*shown, sep="\n", file=sys.stderr)
        sys.exit(1)


def ending(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return a function whose errors end the process with their lines."""

    @wraps(function)
    def ended(*words: Parameters.args, **named: Parameters.kwargs) -> Result:
        try:
            return function(*words, **named)
        except ExperimentError as error:
            stop_with(error.lines)
            raise
        except DeepclustError as error:
            stop_with([error])
            raise

    # Snakemake asks for the signature several times per job, and would unwrap the function each time.
    ended.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return ended
