"""Problems of an experiment, each with its place and the mistake there, and the errors that tell them."""

from dataclasses import dataclass, replace
from typing import Any

from deepclust.core.errors import DeepclustError

Keys = tuple[Any, ...]
"""The way to a place in an experiment: names of sections and entries, and indices of lists."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong in an experiment.

    Attributes:
        path: the keys that lead to the place, from the top or from where a check began; empty: all of it.
        message: the mistake, and what to do.
    """

    path: Keys
    message: str

    def under(self, *keys: Any) -> "Problem":
        """Return the same problem with a path that begins further up."""
        return replace(self, path=(*keys, *self.path))

    def is_below(self, *keys: Any) -> bool:
        """Tell whether it is a problem of the place that keys lead to, or of one inside."""
        return self.path[: len(keys)] == keys

    def __str__(self) -> str:
        place = ".".join(str(key).encode("unicode_escape").decode() for key in self.path)
        return f"{place or 'the experiment'}: {self.message}"


class ProblemError(DeepclustError):
    """A problem that ends the work at hand.

    Attributes:
        problem: the problem.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class ExperimentError(Exception):
    """An experiment that cannot be planned.

    Attributes:
        lines: one line per problem: where, what, what to do.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
